"""How far outputs are from the dense model's, in literals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxprune.runtime.divergence import Reference


def one(dense: np.ndarray, other: np.ndarray) -> float:
    return Reference([[dense]]).divergence([[other]])


def f32(*rows: object) -> np.ndarray:
    return np.asarray(rows, np.float32)


QUARTER = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)  # of (1/2, 1/2) from (1/4, 3/4)


def test_scores_of_classes_by_their_variance() -> None:
    """A sample that the dense model is sure of counts as much as one that it is in doubt about."""
    dense, sure, doubtful = f32([0, 20], [0, 2]), f32([0, 19], [0, 2]), f32([0, 20], [0, 1])
    variance = (400 + 4) / 4 - (22 / 4) ** 2
    assert one(dense, sure) == pytest.approx(1 / 4 / variance)
    assert one(dense, doubtful) == pytest.approx(1 / 4 / variance)


def test_probabilities_are_taken_as_they_are() -> None:
    assert one(f32([0.5, 0.5]), f32([0.25, 0.75])) == pytest.approx(QUARTER, rel=1e-6)
    assert one(f32([1, 0]), f32([0.5, 0.5])) == pytest.approx(math.log(2), rel=1e-6)
    assert one(f32([1, 0]), f32([1, 0])) == 0


@pytest.mark.parametrize("shape", [(4, 1), (4,), (2, 2, 1), (1, 2, 2)])
def test_other_outputs_by_their_variance(shape: tuple[int, ...]) -> None:
    dense, other = f32(0, 2, 4, 6).reshape(shape), f32(0, 2, 4, 10).reshape(shape)  # of a variance of 5
    assert one(dense, other) == pytest.approx(4 / 5)


def test_outputs_add_up_and_integers_say_nothing() -> None:
    dense = [f32([0.5, 0.5]), f32(0, 2), np.asarray([3, 4])]
    other = [f32([0.25, 0.75]), f32(0, 3), np.asarray([9, 9])]
    assert Reference([dense]).divergence([other]) == pytest.approx(QUARTER + 0.5, rel=1e-6)


def test_batches_are_one_set_of_samples() -> None:
    dense, other = f32(0, 2, 4, 6), f32(0, 2, 4, 10)
    cut = Reference([[dense[:3]], [dense[3:]]])
    assert cut.divergence([[other[:3]], [other[3:]]]) == pytest.approx(4 / 5)


def test_batches_of_other_lengths_and_scalars() -> None:
    lengths = Reference([[f32([[0], [2]])], [f32([[4], [6], [3]])]])
    assert lengths.divergence([[f32([[0], [2]])], [f32([[4], [6], [5]])]]) == pytest.approx(4 / 5 / 4)
    scalars = Reference([[np.float32(0).reshape(())], [np.float32(2).reshape(())]])
    assert scalars.divergence([[np.float32(0).reshape(())], [np.float32(3).reshape(())]]) == pytest.approx(0.5)


def test_sequences_and_maps_say_nothing() -> None:
    assert Reference([[[{"a": 1.0}], [f32(1), f32(1, 2)]]]).divergence([[[{"a": 2.0}], [f32(2), f32(3, 2)]]]) == 0


@pytest.mark.parametrize(
    ("dense", "other"),
    [
        (f32([1, 2]), f32([np.nan, 2])),
        (f32([1, 2]), f32([np.inf, 2])),
        (f32(1, 2), f32(1, -np.inf)),
        (f32([1, 2]), f32([1, 2, 3])),
        (f32([-np.inf, 2, 1]), f32([1, 2, 1])),
    ],
)
def test_what_is_not_finite_or_of_another_shape_is_infinitely_far(dense: np.ndarray, other: np.ndarray) -> None:
    assert one(dense, other) == math.inf


def test_places_that_the_dense_model_masks_do_not_count() -> None:
    masked = f32([-np.inf, 1, 1])
    assert one(masked, masked) == 0
    assert one(f32([-np.inf, 0, 2]), f32([-np.inf, 0, 4])) == pytest.approx(2)
    assert one(f32(0, 2, 4, 6, np.inf), f32(0, 2, 4, 10, np.inf)) == pytest.approx(4 / 5)


def test_half_precision_and_nothing() -> None:
    assert one(f32([1, 3]).astype(np.float16), f32([1, 3]).astype(np.float16)) == 0
    assert one(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32)) == 0
    assert Reference([]).divergence([]) == 0
