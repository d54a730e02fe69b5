"""Quantized numbers, written in NumPy."""

import numpy as np


def quantized(x, bits=3, scale=0.25):
    power = np.round(np.clip(np.log2(np.abs(x / scale)), 1 - bits, 0))
    return scale * np.sign(x) * 2**power
