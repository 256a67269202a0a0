"""Small integers in bytes: the first in the lowest bits."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.graph.packing import pack, unpack


def test_two_to_a_byte() -> None:
    assert pack(np.array([[1, 2, 15]], np.uint8), 4).tolist() == [[0x21, 0x0F]]
    assert unpack(np.array([[0x21, 0x0F]], np.uint8), 4, 3).tolist() == [[1, 2, 15]]


def test_four_to_a_byte() -> None:
    assert pack(np.array([3, 0, 1, 2, 1], np.uint8), 2).tolist() == [0b10010011, 0b01]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 5, 8])
def test_there_and_back(bits: int, count: int) -> None:
    values = np.random.default_rng(count).integers(0, 1 << bits, (3, 2, count)).astype(np.uint8)
    np.testing.assert_array_equal(unpack(pack(values, bits), bits, count), values, strict=True)
