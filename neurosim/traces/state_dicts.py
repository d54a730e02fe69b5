"""Weights that PyTorch has saved: state dicts, as `.pt` or `.safetensors`.

Nothing in them is executed: a `.pt` is read with `weights_only`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import InputError
from neurosim.extras import needed

ENDINGS = (".pt", ".pth", ".safetensors")


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, as arrays.

    Raises:
        InputError: there is no such file, it is damaged or no state dict, or what reads it is not
            installed: PyTorch itself for `.pt`, safetensors for the other.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; expected a state dict of PyTorch")
    if path.suffix.lower() == ".safetensors":
        with needed("safetensors", f"{path}"):
            from safetensors.numpy import load_file
        try:
            return load_file(path)
        except Exception as problem:  # its own, and KeyErrors of types that NumPy lacks
            raise InputError(
                f"{path}: cannot be read as safetensors of numbers that NumPy has "
                f"({str(problem).partition(chr(10))[0]})"
            ) from None
    with needed("torch", f"{path}"):
        import torch
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # pickle, zipfile and torch each have their own
        raise InputError(
            f"{path}: cannot be read as tensors of PyTorch "
            f"({str(problem).partition(chr(10))[0][:200]})"
        ) from None
    if not isinstance(found, dict):
        raise InputError(
            f"{path}: holds a {type(found).__name__}; expected a state dict, as "
            "torch.save(model.state_dict(), file) writes it"
        )
    return {str(name): _array(path, name, value) for name, value in found.items()}


def _array(path: Path, name: Any, value: Any) -> np.ndarray:
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"{path}: {name} is a {type(value).__name__}, no tensor; expected a state dict alone, "
            "as torch.save(model.state_dict(), file) writes it"
        )
    value = value.detach()
    return (value.double() if value.is_floating_point() else value).numpy()
