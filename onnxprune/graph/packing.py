"""Small integers several to a byte, the first in the lowest bits, as ONNX Runtime's block-wise operators store them."""

from __future__ import annotations

import numpy as np

BYTE = 8
WIDTHS = (1, 2, 4, 8)
"""Bits that divide a byte: others run across bytes."""


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` unsigned integers of `bits` bits of each row: uint8 [..., bytes] -> uint8 [..., count]."""
    shifts = np.arange(0, BYTE, bits, dtype=np.uint8)
    spread = (packed.astype(np.uint8, copy=False)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(*packed.shape[:-1], -1)[..., :count]


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """The inverse: uint8 [..., count] -> uint8 [..., ceil(count * bits / 8)], the last byte filled up with zeros."""
    per_byte = BYTE // bits
    missing = -values.shape[-1] % per_byte
    padded = np.pad(values.astype(np.uint8, copy=False), [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    parts = padded.reshape(*values.shape[:-1], -1, per_byte) << np.arange(0, BYTE, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(parts, axis=-1), np.uint8)
