"""Weights that PyTorch has saved: by name, as they lie, and none in silence."""

import sys
from pathlib import Path

import numpy as np
import pytest

import neurosim as ns
from neurosim.building import ingredients
from neurosim.building.continuing import started
from neurosim.building.loading import load_protocol
from neurosim.errors import InputError
from neurosim.traces.state_dicts import read_state_dict

SIZES = (64, 6, 10)
NAMES = {"W1": "fc1.weight", "W2": "fc2.weight", "b1": "fc1.bias", "b2": "fc2.bias"}


def perceptron(seed=0):
    """As torch.nn.Linear holds them: weights (out, in), biases (out)."""
    rng = np.random.default_rng(seed)
    shapes = {"fc1": SIZES[:2], "fc2": SIZES[1:]}
    found = {}
    for name, (n_in, n_out) in shapes.items():
        found[f"{name}.weight"] = rng.normal(size=(n_out, n_in)).astype(np.float32)
        found[f"{name}.bias"] = rng.normal(size=n_out).astype(np.float32)
    return found


def protocol(file, names=NAMES, **changes):
    given = {"layers": list(SIZES), "projections.W.init": "file", "projections.W.file": file}
    given |= {"projections.W.names": names, "projections.W.bias": True} | changes
    return load_protocol("backprop-digits", {f"model.{k}": v for k, v in given.items()})


def weights(loaded):
    spec = loaded.spec
    return ingredients.weights(spec.model, 0, None, loaded.folder)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(perceptron(), "mlp.safetensors")
    return perceptron()


def test_the_layers_of_a_perceptron_answer_as_its_own(saved):
    """Ours lie as PyTorch's: W x + b with W of shape (out, in)."""
    found = weights(protocol("mlp.safetensors"))
    x = np.random.default_rng(1).normal(size=SIZES[0])
    by_hand = x
    for k, (W, b) in enumerate(zip(found["W"], found["b"], strict=True), start=1):
        theirs = saved[f"fc{k}.weight"] @ by_hand + saved[f"fc{k}.bias"]
        np.testing.assert_allclose(W @ by_hand + b, theirs, rtol=1e-6)
        by_hand = np.tanh(theirs)


def test_names_serve_any_file_and_a_start(saved):
    np.savez("mlp.npz", **saved)
    for file in ("mlp.npz", "mlp.safetensors"):
        changes = {"projections.W.init": "orthogonal", "projections.W.file": None}
        with pytest.warns(ns.NeurosimWarning, match=r"names: is not used; projections\.W\.init"):
            plain = protocol(file, **changes)
        taken = weights(started(plain, file, 0))
        np.testing.assert_array_equal(taken["W"][1], saved["fc2.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"names": {}},
            r"'fc1.bias' .* it has shape \(6,\), and model\.projections\.W\.names\.W1 =",
        ),
        ({"names": NAMES | {"W2": "fc3.weight"}}, "'fc3.weight' is missing, which names.W2 asks"),
        ({"names": NAMES | {"W2": "fc1.weight"}}, "names has one array twice; expected another"),
        (
            {"names": {k: v for k, v in NAMES.items() if k != "b2"}},
            r"unknown array 'fc2.bias' \(allowed: W1, W2, b1, b2\); .*names\.b2 = 'fc2.bias' would",
        ),
        ({"bias": False}, r"unknown array 'b1' \(allowed: W1, W2\); biases need bias = true"),
    ],
)
def test_names_that_do_not_match_are_listed_with_what_was_there(saved, change, words):
    names, bias = change.get("names", NAMES), change.get("bias", True)
    loaded = protocol("mlp.safetensors", names, **{"projections.W.bias": bias})
    with pytest.raises(InputError, match=words):
        weights(loaded)


def test_a_transposed_matrix_is_told(saved):
    np.savez("keras.npz", **(saved | {"fc1.weight": saved["fc1.weight"].T}))
    said = r"W1 has shape \(64, 6\); expected \(6, 64\), a row for every cell .* transposed"
    with pytest.raises(InputError, match=said):
        weights(protocol("keras.npz"))


def test_damaged_and_missing_files_are_said(saved):
    Path("cut.safetensors").write_bytes(Path("mlp.safetensors").read_bytes()[:50])
    for name, words in {
        "cut.safetensors": "cannot be read as safetensors",
        "none.safetensors": "no such file; expected a state dict of PyTorch",
    }.items():
        with pytest.raises(InputError, match=words):
            read_state_dict(Path(name))


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.pt", "torch", "torch"), ("a.safetensors", "safetensors", "safetensors")],
)
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, name, module, extra):
    (tmp_path / name).write_text("")
    for known in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"{name}: .*pip install 'neurosim\[{extra}\]'"):
        read_state_dict(tmp_path / name)


def test_state_dicts_of_pytorch_itself(tmp_path):
    """Where it is installed."""
    torch = pytest.importorskip("torch", reason="PyTorch is not among the test requirements")
    layer = torch.nn.Linear(3, 2)
    torch.save(layer.state_dict(), tmp_path / "a.pt")
    found = read_state_dict(tmp_path / "a.pt")
    np.testing.assert_array_equal(found["weight"], layer.weight.detach().double().numpy())
    x = np.array([1.0, -2.0, 3.0])
    theirs = layer(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(found["weight"] @ x + found["bias"], theirs, rtol=1e-5)
    torch.save({"state_dict": layer.state_dict(), "epoch": 3}, tmp_path / "b.pt")
    with pytest.raises(InputError, match=r"state_dict is a .*Dict, no tensor; expected a state"):
        read_state_dict(tmp_path / "b.pt")
    torch.save(layer, tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"c\.pt: cannot be read as tensors of PyTorch"):
        read_state_dict(tmp_path / "c.pt")
