"""A circuit as LaTeX for a methods section: its cells, synapses, rules and parameters.

Quantities carry the layer they stand in, `soma` as \\mathrm{soma}_{i}, and in the exponent their
population where an earlier one of the same layer has such too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from neurosim.circuits.cells import SPIKES, STEP
from neurosim.circuits.description import SIGNALS, Circuit
from neurosim.circuits.expressions import parse
from neurosim.circuits.indices import At, at_layer, index_of, layers
from neurosim.circuits.latex import (
    MATRICES,
    PRODUCT,
    Functions,
    Names,
    Writing,
    bracketed,
    called,
    formula,
    held,
    number,
    plain,
    symbol,
)
from neurosim.circuits.populations import Group, Population, Projection, Synapses
from neurosim.circuits.reading import circuit
from neurosim.circuits.starts import GIVEN, NAMED, start
from neurosim.circuits.tables import ATTENUATION, Tables
from neurosim.circuits.typesetting import STARTS, aligned, derivative, row, transfer_of
from neurosim.circuits.wires import Layer


class Methods(NamedTuple):
    """What a methods section is written from.

    units: SI units of parameters by key, where they have one. transfer: of the hidden layers and
    the output, a name of `TRANSFER` (None for a function of a script) and its number. noise: by
    compartment. credit: the name of what brings teaching, and what it brings; empty without.
    """

    name: str
    source: str
    tables: Tables
    units: Mapping[str, str]
    transfer: tuple[tuple[str | None, float | None], tuple[str | None, float | None]]
    form: str
    noise: Mapping[str, float]
    credit: tuple[str, ...]


def methods(given: Methods) -> str:
    """The circuit as LaTeX, which needs the package amsmath; a fragment, not a document."""
    return _Section(given).text()


class _Section:
    def __init__(self, given: Methods) -> None:
        self.given, self.tables = given, given.tables
        self.circuit: Circuit = circuit(given.tables)
        self.depth = self.circuit.depth

    def text(self) -> str:
        source = f" ({self.given.source})" if self.given.source else ""
        about = " ".join(f"{self.given.name}{source}".split())
        parts = [f"% {about}, by neurosim; needs \\usepackage{{amsmath}}"]
        parts += [r"\paragraph{Cells.}", *self._cells()]
        parts += [r"\paragraph{Synapses.}", *self._synapses()]
        parts += [r"\paragraph{Plasticity.}", *self._plasticity()]
        parts += [r"\paragraph{Parameters.}", *self._parameters()]
        return "\n".join(parts) + "\n"

    # --- names --------------------------------------------------------------------------------

    def _has(self, population: str, name: str) -> bool:
        cell = self.circuit.population[population].cell
        biased = self.circuit.biased.synapses if self.circuit.biased else ()
        if name == "bias":
            return any(synapses.post.population == population for synapses in biased)
        return name in cell.defined or name in self.circuit.inputs[population]

    def _above(self, population: str, name: str) -> list[str]:
        """What tells a quantity from its namesake of an earlier population in the same layer."""
        for other in self.circuit.populations:
            if other.name == population:
                return []
            shared = set(other.layers) & set(self.circuit.population[population].layers)
            if shared and self._has(other.name, name):
                return [population]
        raise AssertionError(f"{population} is a population")

    def _quantity(self, population: str, name: str, at: At, phase: str | None = None) -> str:
        own = self._above(population, name)
        return symbol(name, str(at), [*own, *([phase] if phase else [])])

    def _names(
        self, population: str | None, at: At, remembered: Mapping[str, Any] | None = None
    ) -> Names:
        """What stands for a name in an equation of a population; of the input where it is None."""

        def named(name: str) -> str:
            recalled = (remembered or {}).get(name)
            name, phase = (name, None) if recalled is None else recalled
            if population is None:
                return symbol(name, str(at), [phase] if phase else [])
            if name == ATTENUATION:
                return symbol("alpha", str(at))
            if phase is not None:
                return self._quantity(population, name, at, phase)
            key = self.circuit.parameter(population, name)
            if key is not None:
                return self._parameter(key)
            if name == STEP:
                return r"\Delta t"
            return symbol(name) if name in ("teach", "xi") else self._quantity(population, name, at)

        return named

    def _parameter(self, key: str) -> str:
        *cell, name = key.split(".")
        return symbol(name, above=cell)

    def _general(self, i: At, weights: Mapping[str, tuple[str, Layer]] | None = None) -> Names:
        """What stands for a name in a law over layers."""

        def named(name: str) -> str:
            if weights and name in weights:
                other, layer = weights[name]
                return symbol(other, str(index_of(layer, i)))
            return {"i": str(i), "L": "L"}.get(name, symbol(name))

        return named

    def _functions(self, population: str | None, at: At) -> Functions:
        mirrors = 0 if population is None else self.circuit.population[population].mirrors
        return called(str(at.moved(mirrors)) if mirrors else "", self.given.form)

    # --- cells --------------------------------------------------------------------------------

    def _cells(self) -> Iterator[str]:
        sizes = ", ".join(map(str, self.circuit.sizes))
        yield (
            f"The network has layers $i = 0, \\dots, L$ of {sizes} units, $L = {self.depth}$; what "
            "layer 0 sends is the input. Equations hold for each unit, and products of vectors are "
            f"elementwise. {self._transfer()}"
        )
        rows = []
        for population in self.circuit.populations:
            single = len(population.layers) == 1
            at = at_layer(population.layers[0], self.depth) if single else At("i")
            where = (
                f"layer ${at}$" if single else f"layers ${layers(population.layers, self.depth)}$"
            )
            rows.append(rf"\intertext{{\emph{{{plain(population.name)}}} in {where}:}}")
            writes = self._names(population.name, at), self._functions(population.name, at)
            equations = []
            for equation in population.cell.equations:
                if population.cell.silent and equation.name == SPIKES:
                    continue
                left = self._quantity(population.name, equation.name, at)
                left = derivative(left) if equation.moves else left
                terms = Writing(*writes).terms(equation.right.tree.body)
                stands = population.cell.firing is not None and equation.name == SPIKES
                equations.append(row(left, terms, r"\text{as a rate}" if stands else ""))
            equations += self._fires(population, at, writes)
            rows.append(" \\\\\n  ".join(equations))
        yield aligned("\n  ".join(rows))
        yield from self._signals()

    def _fires(
        self, population: Population, at: At, writes: tuple[Names, Functions]
    ) -> Iterator[str]:
        """When cells spike by themselves, and what then becomes of them."""
        firing = population.cell.firing
        if firing is None:
            return
        written = Writing(*writes)
        when = written.condition(firing.threshold.tree.body)
        for name, right in firing.reset:
            left = rf"{when}: \quad {self._quantity(population.name, name, at)}"
            yield row(left, written.terms(right.tree.body), relation=r"\leftarrow")
        spikes = self._quantity(population.name, SPIKES, at)
        also = "" if population.cell.silent else r"\text{as spikes}"
        yield row(spikes, [rf"\sum_k \delta(t - t_k), \quad t_k: {when}"], also)
        if firing.refractory is not None and firing.refractory.compares:
            waits = written.condition(firing.refractory.tree.body)
            yield row(rf"{spikes}", [f"0 && {waits}"])
        elif firing.refractory is not None:
            waits = written.part(firing.refractory.tree.body)[0]
            yield row("t_{k + 1} - t_k", [waits], relation=r"\geq")

    def _transfer(self) -> str:
        hidden, output = self.given.transfer
        text = "$s$ is the transfer function of the layer in which a cell stands: "
        if self.depth == 1 or hidden == output:
            text += f"{transfer_of(output)}."
        else:
            text += f"{transfer_of(hidden)} in hidden layers, {transfer_of(output)} in layer $L$."
        used = {f for p in self.circuit.populations for e in p.cell.equations
                for f in e.right.functions}  # fmt: skip
        sides = [side for p in self.circuit.projections for side in (p.post, p.pre) if side]
        used |= {f for side in sides for f in side.functions}
        if used & {"t", "t_slope"}:
            meant = "$t = s$" if self.given.form == "autoencoder" else "$t(a) = a$"
            text += f" Apical potentials are decoded by {meant}."
        if any(p.mirrors for p in self.circuit.populations):
            text += " $s$ with an index is that of another layer."
        return text

    def _signals(self) -> Iterator[str]:
        named = frozenset().union(*(p.cell.names for p in self.circuit.populations))
        group, answer = self.circuit.readout
        said = {
            "target": f"${self._quantity(group.population, 'target', At('L'))}$ is what the output "
            "is taught, and the output "
            f"${self._quantity(group.population, answer, At('L'))}$ itself while nothing is "
            "taught.",
            "teach": r"$\mathrm{teach}$ is 1 while the output is taught, and 0 otherwise.",
            "xi": r"$\xi$ is white noise.",
            "bias": r"$\mathrm{bias}$ is 0.",
        }
        none = () if self.circuit.biased else ("bias",)
        yield from (said[name] for name in (*SIGNALS, "xi", *none) if name in named)
        for name, deviation in self.given.noise.items():
            of = symbol(name.rpartition(".")[2])
            yield f"${of}$ has noise of the stationary deviation ${number(deviation)}$."

    # --- synapses -----------------------------------------------------------------------------

    def _synapses(self) -> Iterator[str]:
        """What every input is, in all the layers where it is the same."""
        found: dict[tuple[str, str], list[tuple[Group, str]]] = {}
        for group, name in self.circuit.arriving:
            found.setdefault(self._input(group, name, At("i")), []).append((group, name))
        rows = []
        for (left, right), groups in found.items():
            if len(groups) == 1:
                left, right = self._input(*groups[0], at_layer(groups[0][0].layer, self.depth))
                rows.append(row(left, [right]))
            else:
                where = layers([group.layer for group, _ in groups], self.depth)
                rows.append(row(left, [right], where))
        yield "Synapses bring to a cell"
        yield aligned(" \\\\\n  ".join(rows))
        if any(
            (Group(population.name, layer), name) not in self.circuit.arriving
            for population in self.circuit.populations
            for name in self.circuit.inputs[population.name]
            for layer in population.layers
        ):
            yield "In other layers these inputs are 0."
        yield from self._convolutions()
        yield from self._starts()

    def _convolutions(self) -> Iterator[str]:
        """What the signs of convolutions mean."""
        for projection in self.circuit.projections:
            of = next((s.convolution for s in projection.synapses if s.convolution), None)
            if of is None:
                continue
            name, apart = symbol(projection.name), f"{of.stride} apart"
            text = rf"Between layers of maps, $\ast$ convolves with kernels ${name}$ of "
            text += rf"${of.kernel} \times {of.kernel}$"
            if of.pool > 1:
                text += rf", and of windows of ${of.pool} \times {of.pool}$, {apart}, the largest "
                text += "value arrives"
            elif of.stride > 1:
                text += f" that stand {apart}"
            yield text + r"; $\star$ is summed over all places of a kernel, and a map has one bias."

    def _input(self, group: Group, name: str, at: At) -> tuple[str, str]:
        """What reaches an input, where `at` stands for the layer of the group."""
        arriving = self.circuit.arriving[group, name]
        if any(self.circuit.projection[s.projection].wire.post.layer.base != "i" for s in arriving):
            at = at_layer(group.layer, self.depth)
        terms: dict[str, list[Synapses]] = {}
        for synapses in arriving:
            terms.setdefault(synapses.projection, []).append(synapses)
        brought = []
        for projection, several in terms.items():
            post = self.circuit.projection[projection].wire.post.layer
            i = at.moved(-post.offset) if post.base == "i" else At("i")
            text = self._brought(several[0], i)
            if len(several) > 1:
                which = layers([s.number for s in several], self.depth)
                text = rf"\sum_{{{which}}} {text}"
            brought.append(text)
        return self._quantity(group.population, name, at), " + ".join(brought)

    def _ends(self, synapses: Synapses, i: At) -> tuple[At, At, At]:
        """The layers of the weights, and of the cells before and behind them."""
        wire = self.circuit.projection[synapses.projection].wire
        pre, post = index_of(wire.pre.layer, i), index_of(wire.post.layer, i)
        return (i if wire.runs else post), pre, post

    def _brought(self, synapses: Synapses, i: At) -> str:
        of, at, _ = self._ends(synapses, i)
        sent = self._sent(synapses, at)
        if not synapses.weighed:
            return sent
        through = r"\," if synapses.dense else r" \odot "
        through = through if synapses.convolution is None else r" \ast "
        return symbol(synapses.projection, str(of)) + through + sent

    def _sent(self, synapses: Synapses, at: At) -> str:
        if synapses.pre is None:
            return symbol(synapses.sent, str(at))
        return self._quantity(synapses.pre.population, synapses.sent, at)

    def _starts(self) -> Iterator[str]:
        drawn: dict[tuple[str, float], list[str]] = {}
        rows = []
        for projection in self.circuit.projections:
            given = self.tables.projections[projection.name]
            begins = given.init or "xavier"
            if not projection.weighed:
                continue
            if begins in NAMED:
                drawn.setdefault((begins, given.gain), []).append(f"${symbol(projection.name)}$")
                continue
            i, which = self._numbers(projection)
            begin = start(begins)
            weights = {stand_in: (other, layer) for stand_in, other, layer in begin.weights}
            stand_ins = self._general(i, weights)
            text = formula(begin.expression, stand_ins, MATRICES, frozenset(weights))
            text = text if given.gain == 1 else rf"{number(given.gain)}\,{bracketed(text)}"
            rows.append(row(symbol(projection.name, str(i)), [text], which))
        for (begins, gain), names in drawn.items():
            scaled = "" if gain == 1 or begins in ("zeros", *GIVEN) else f", times ${number(gain)}$"
            yield f"The weights {', '.join(names)} start {STARTS[begins]}{scaled}."
        if rows:
            yield f"{'Others' if drawn else 'Weights'} start as"
            yield aligned(" \\\\\n  ".join(rows))

    def _numbers(self, projection: Projection) -> tuple[At, str]:
        """What stands for the number of its weights, and which numbers there are."""
        numbers = [synapses.number for synapses in projection.synapses]
        if len(numbers) == 1:
            return at_layer(numbers[0], self.depth), ""
        return At("i"), layers(numbers, self.depth)

    # --- plasticity ---------------------------------------------------------------------------

    def _plasticity(self) -> Iterator[str]:
        rows: list[str] = []
        words: list[str] = []
        for projection in self.circuit.projections:
            name, given = symbol(projection.name), self.tables.projections[projection.name]
            if projection.post is not None:
                rows += self._rules(projection)
                if projection.rule == "tied":
                    words.append(
                        f"What ${name}$ would learn is learned, by the chain rule and at their own "
                        "rate, by the weights of which it is made."
                    )
            elif projection.rule == "tied":
                words.append(f"The weights ${name}$ are kept at what they start as.")
            elif projection.learns:
                by = "a rule of their own"
                if isinstance(projection.rule, str):
                    by = rf"the rule \emph{{{plain(projection.rule)}}}"
                words.append(f"The weights ${name}$ learn by {by}.")
            if projection.learns and given.limit is not None:
                words.append(rf"The weights ${name}$ stay within $\pm {number(given.limit)}$.")
            if projection.learns and given.optimizer != "sgd":
                words.append(f"The changes of ${name}$ are made by {given.optimizer}.")
            if hasattr(given.rate, "text"):
                law = formula(parse(given.rate.text), self._general(At("i")))
                rows.append(row(self._rate(projection), [law]))
        posts = [p.post for p in self.circuit.projections if p.post is not None]
        if any(ATTENUATION in post.names for post in posts):
            law = formula(self.circuit.attenuation, self._general(At("i")))
            rows.append(row(symbol("alpha", "i"), [law]))
        fixed = [f"${symbol(p.name)}$" for p in self.circuit.projections
                 if p.weighed and not p.learns]  # fmt: skip
        if fixed:
            words.append(f"The weights {', '.join(fixed)} stay as they are.")
        if rows:
            remembers = any(p.remembered for p in self.circuit.projections)
            recalled = ", and a phase in the exponent of what is remembered from its end"
            yield (
                r"With $\langle\cdot\rangle$ the mean over the samples of a presentation"
                f"{recalled if remembers else ''},"
            )
            yield aligned(" \\\\\n  ".join(rows))
        if self.given.credit:
            name, brings = map(plain, self.given.credit)
            words.append(
                rf"$\mathrm{{teaching}}$ is what the method \emph{{{name}}} brings: {brings}."
            )
        yield from words if rows or words else ["No weights change."]

    def _rules(self, projection: Projection) -> Iterator[str]:
        """How weights change, and the biases beside them, in all layers where it is the same."""
        found: dict[tuple[int, tuple[str, str]], list[Synapses]] = {}
        for synapses in projection.synapses:
            for k, change in enumerate(self._changes(projection, synapses, At("i"))):
                found.setdefault((k, change), []).append(synapses)
        for (k, change), where in found.items():
            if len(where) == 1:
                i = at_layer(where[0].number, self.depth)
                left, right = self._changes(projection, where[0], i)[k]
                yield row(left, [right])
            else:
                left, right = change
                yield row(left, [right], layers([s.number for s in where], self.depth))

    def _changes(self, projection: Projection, synapses: Synapses, i: At) -> list[tuple[str, str]]:
        given, (of, before, behind) = (
            self.tables.projections[projection.name],
            self._ends(synapses, i),
        )
        transposed = MATRICES["transpose"]
        sides = []
        for side, group, at in (
            (projection.post, synapses.post, behind),
            (projection.pre, synapses.pre, before),
        ):
            assert side is not None, "a rule has both sides"
            population = None if group is None else group.population
            writes = self._names(population, at, dict(projection.remembered))
            sides.append(Writing(writes, self._functions(population, at)).part(side.tree.body))
        post, pre = held(sides[0], PRODUCT), sides[1]
        if synapses.convolution is not None:
            mean = rf"\left\langle {post} \star {held(pre, PRODUCT)} \right\rangle"
        elif synapses.dense:
            mean = rf"\left\langle {post}\,{transposed(pre)[0]} \right\rangle"
        else:
            mean = rf"\left\langle {post} \odot {held(pre, PRODUCT)} \right\rangle"
        weights, rate = symbol(projection.name, str(of)), self._rate(projection)
        found = [(weights, mean)]
        if projection.bias:
            bias = self._quantity(synapses.post.population, "bias", behind)
            found.append((bias, rf"\left\langle {sides[0][0]} \right\rangle"))
        rows = []
        for moved, by in found:
            if given.decay and moved == weights:
                by = rf"\left({by} - {symbol(f'lambda_{projection.name}')}\,{weights}\right)"
            left = derivative(moved) if given.rate.per_second else rf"\Delta {moved}"
            rows.append((left, by if projection.rule == "tied" else rf"{rate}\,{by}"))
        return rows

    def _rate(self, projection: Projection) -> str:
        rate = self.tables.projections[projection.name].rate
        own = hasattr(rate, "text") or len(rate.values) > 1
        return symbol(f"eta_{projection.name}", "i" if own else "")

    # --- parameters ---------------------------------------------------------------------------

    def _parameters(self) -> Iterator[str]:
        own = {
            f"{name}.{key}": value
            for name, cell in self.tables.cells.items()
            for key, value in cell.parameters.items()
        }
        rows = [
            (self._parameter(key), number(value), self.given.units.get(key, ""))
            for key, value in (dict(self.tables.parameters) | own).items()
        ]
        for projection in self.circuit.projections:
            given = self.tables.projections[projection.name]
            if not projection.learns or projection.rule == "tied":
                continue
            if not hasattr(given.rate, "text"):
                values = ", ".join(map(number, given.rate.values))
                unit = "Hz" if given.rate.per_second else ""
                rows.append((self._rate(projection), values, unit))
            if given.decay:
                rows.append((symbol(f"lambda_{projection.name}"), number(given.decay), ""))
        yield r"\begin{center}"
        yield r"\begin{tabular}{lll}"
        yield r"parameter & value & SI unit \\ \hline"
        yield from (f"${name}$ & ${value}$ & {unit} \\\\" for name, value, unit in rows)
        yield r"\end{tabular}"
        yield r"\end{center}"
