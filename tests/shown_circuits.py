"""Circuits to be shown: the ones of this folder, and one that has what they have not."""

import re
from pathlib import Path

from matplotlib.mathtext import MathTextParser

import neurosim as ns
from neurosim.building.shipped import bundled

CIRCUITS = {path.stem: path for path in (Path(__file__).parent / "circuits").glob("*.toml")}
SIZES = {"microcircuit": [5, 6, 4, 3], "segregated-dendrites": [6, 8, 4]}
"""Of models that ship with larger ones."""
CIRCUITS |= {name: bundled("models")[name] for name in SIZES}

ODD = r"""
name = "odd_100%"
source = "A & B, $5"
layers = [4, 4, 4, 4, 2]
activation = { name = "leaky-relu", slope = 0.35 }
readout = "out.rate"

[cells.pyr]
equations = '''
dV_m/dt = (ff + skip + bias - V_m + rec*near + far*(kick < 0.5) + sqrt(tau_m)*xi + 1e-9*back)/tau_m
rate    = s(V_m)
back    = encode(rate, bias)
'''
[cells.out]
equations = '''
dV_m/dt = (ff - V_m + skip + teach*(target - rate))/tau_m
rate    = s(V_m)
'''
[cells.inh]
equations = '''
da/dt = (exc - a - top)/tau_a
out   = clip(a, 0, 1)
'''
[cells.inh.parameters]
tau_a = "10 ms"
[cells.mod]
equations = "drive = gain*abs(all)"

[populations]
pyr = { layers = "hidden", spikes = "rate" }
inh = { layers = "hidden", size = 3, spikes = "out" }
mod = { layers = [1, 3], size = 2, spikes = false }
out = { layers = "output", spikes = "rate" }

[projections.W_ff]
wire = "rate[i-1] -> ff[i]"
post = "slope(V_m)*(rate - rate_free)"
rate = "0.1*(1 + i)/L"
decay = 0.01
limit = 2.0
bias = true
[projections.S]
wire = "rate[0] -> skip[i]"
init = "zeros"
[projections.R]
wire = "pyr.rate[i] -> pyr.rec[i]"
post = "-V_m"
rate = [0.1, 0.2, 0.3]
[projections.I]
wire = "inh.out[i] -> pyr.near[i]"
init = "normal"
gain = 0.2
[projections.X]
wire = "pyr.rate[i] -> inh.exc[i]"
[projections.T]
wire = "out.rate[L] -> inh.top[i]"
[projections.M]
wire = "mod.drive[i] -> pyr.far[i]"
[projections.G]
wire = "pyr.rate[i] -> mod.all[i]"
init = "transpose(M[i])"
rule = "tied"
[projections.K]
wire = "pyr.rate[i-1] => pyr.kick[i]"

[parameters]
tau_m = "20 ms"
gain  = 0.5
"""
"""What the shipped ones have not: loops to oneself, routes past and over others, sparse layers."""

PROTOCOL = """
name = "shown"
batch = 5
[model]
use = "{path}"
layers = {sizes}
[task]
name = "student-teacher"
layers = {layers}
train = 10
test = 5
[[stages]]
name = "training"
presentations = 2
[[stages.phases]]
name = "{first}"
duration = "50 ms"
until = "duration"
[[stages.phases]]
name = "learning"
duration = "50 ms"
until = "duration"
teaching = "clamped"
plastic = ["{plastic}"]
[rate]
dt = "0.1 ms"
"""
FIRST = {"segregated-dendrites": "forward"}


def path_of(name):
    return CIRCUITS.get(name, Path("odd.toml"))


def model(name, **changes):
    sizes = {"layers": SIZES[name]} if name in SIZES else {}
    return ns.load_model(path_of(name), sizes | changes)


def protocol(name, **changes):
    spec = model(name)
    text = PROTOCOL.format(
        path=path_of(name),
        sizes=list(spec.layers),
        layers=[spec.layers[0], 4, spec.layers[-1]],
        first=FIRST.get(name, "free"),
        plastic=next(iter(spec.projections)),
    )
    Path("shown.toml").write_text(text, encoding="utf-8")
    return ns.load_protocol("shown.toml", changes)


ALL = [*sorted(CIRCUITS), "odd"]


def sides(text):
    """The rows of the aligned equations: left side → the rest."""
    found = {}
    joint = r",? \\nonumber\\\\\n *&\\quad\{\}( i )?"
    for block in re.findall(r"\\begin\{align\}\n(.*?)\\end\{align\}", text, re.DOTALL):
        block = re.sub(r" *\\intertext\{.*\}\n", "", block)
        block = re.sub(joint, lambda m: ", && i " if m[1] else "", block)
        for row in block.splitlines():
            if any(sign in row for sign in (r" &\leftarrow ", r"\delta(t - t_k)", r" &\geq ")):
                continue  # how a neuron of one's own spikes, beside the line for its rate
            left, right = row.removesuffix(r" \\").split(" &= ", 1)
            assert left.strip() not in found
            found[left.strip()] = right
    return found


def well_formed(text):
    """Environments and braces close, and every formula is one to another reader of TeX."""
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    stack = []
    for kind, environment in opened:
        if kind == "begin":
            stack.append(environment)
        else:
            assert stack.pop() == environment
    assert not stack
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    left, right = (re.findall(rf"\\{side}(?![a-z])", text) for side in ("left", "right"))
    assert len(left) == len(right)
    reader = MathTextParser("path")
    for left, right in sides(text).items():
        for part in (left, *re.split(r", && |, &&", right)):
            reader.parse(f"${part}$")
    body = re.sub(r"\\begin\{align\}.*?\\end\{align\}", "", text, flags=re.DOTALL)
    inline = re.findall(r"\$([^$]+)\$", body.partition("\n")[2])
    assert inline
    for part in inline:
        reader.parse(f"${part}$")
