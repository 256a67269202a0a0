"""Regression, similarity, segmentation, detection and text: figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxprune.errors import SettingError
from onnxprune.runtime.metrics import find_metric
from tests.support.extras import needs

needs("jiwer", "pycocotools")


def value(name: str, predicted: np.ndarray, wanted: np.ndarray) -> float:
    metric = find_metric(name)
    return metric.value(metric.parts(predicted, wanted))


def test_regression() -> None:
    predicted, wanted = np.array([[1], [2], [5]], np.float32), np.array([1, 4, 4])
    assert value("mse", predicted, wanted) == pytest.approx((0 + 4 + 1) / 3)
    assert value("mae", predicted, wanted) == pytest.approx((0 + 2 + 1) / 3)
    assert value("r2", predicted, wanted) == pytest.approx(1 - 5 / 6)  # labels about their mean of 3: 4 + 1 + 1


def test_spearman() -> None:
    # ranks 1 2 3 4 and 2 1 3 4: 1 - 6 * 2 / (4 * 15)
    assert value("spearman", np.array([1, 2, 3, 9.0]), np.array([0.2, 0.1, 0.3, 0.4])) == pytest.approx(0.8)
    assert math.isnan(value("spearman", np.array([1, 1, 1.0]), np.array([1, 2, 3])))


def test_agreement() -> None:
    dense = np.array([[0, 1], [1, 0]], np.float32)
    assert find_metric("agreement").parts(np.array([[0, 2], [0, 3]], np.float32), dense).tolist() == [1, 0]
    images = np.zeros((1, 2, 2, 2), np.float32)  # classes on the second axis
    images[0, 1, 0, 0] = 1
    assert value("agreement", np.zeros_like(images), images) == 0.75


def test_cosine() -> None:
    dense = np.array([[3, 4], [1, 0], [0, 0], [1, 0]], np.float32)
    pruned = np.array([[6, 8], [0, 1], [0, 0], [0, 0]], np.float32)
    assert find_metric("cosine").parts(pruned, dense).tolist() == pytest.approx([1, 0, 1, 0])


def test_kl() -> None:
    dense, pruned = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    assert value("kl", pruned, dense) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert value("kl", dense + 7, dense) == pytest.approx(0, abs=1e-12)


def test_snr() -> None:
    dense = np.array([[3.0, 4.0], [5.0, 0.0]])
    assert value("snr", dense + 1, dense) == pytest.approx(10 * math.log10(50 / 4))
    assert value("snr", dense, dense) == math.inf


def test_miou() -> None:
    wanted = np.array([[[0, 0], [1, 255]]])
    predicted = np.array([[[0, 1], [1, 1]]])
    # class 0: 1 of 2 places; class 1: 1 of 2; the place of 255 does not count
    assert value("miou", predicted, wanted) == 0.5
    assert value("miou", np.eye(3, dtype=np.float32)[predicted].transpose(0, 3, 1, 2), wanted) == 0.5


def test_miou_is_over_all_places_and_not_the_mean_of_images() -> None:
    wanted, predicted = np.array([[0, 0, 0, 0], [1, 1, 1, 1]]), np.array([[0, 0, 0, 0], [1, 0, 0, 0]])
    assert value("miou", predicted, wanted) == pytest.approx((4 / 7 + 1 / 4) / 2)


def test_miou_of_a_class_that_is_not_there() -> None:
    with pytest.raises(SettingError, match="there is a class 3, and the output has 2"):
        find_metric("miou").parts(np.zeros((1, 2, 2), np.float32), np.array([[0, 3]]))


TRUTH = np.array([[[0, 0, 10, 10, 1], [20, 20, 30, 30, 2]], [[0, 0, 10, 10, 1], [0, 0, 0, 0, -1]]], np.float32)


def test_map_of_perfect_boxes() -> None:
    perfect = np.insert(TRUTH, 4, 0.9, axis=2)
    assert value("map", perfect, TRUTH) == pytest.approx(1)
    assert value("map50", perfect, TRUTH) == pytest.approx(1)


def test_map_by_thresholds() -> None:
    shifted = np.insert(TRUTH, 4, 0.9, axis=2)
    shifted[0, 1, 0] += 3.2  # 6.8 of 10: found at 0.50 to 0.65, which are four of ten thresholds
    assert value("map", shifted, TRUTH) == pytest.approx((1 + 0.4) / 2)
    assert value("map50", shifted, TRUTH) == pytest.approx(1)


def test_map_of_false_ones() -> None:
    # class 1: a false box above both right ones: precision 2/3 at every recall. Class 2 is not found.
    found = np.array(
        [[[50, 50, 60, 60, 0.9, 1], [0, 0, 10, 10, 0.8, 1]], [[0, 0, 10, 10, 0.7, 1], [0, 0, 1, 1, 0, 1]]], np.float32
    )
    assert value("map", found, TRUTH) == pytest.approx((2 / 3 + 0) / 2)


def test_map_without_boxes() -> None:
    assert value("map", np.zeros((2, 3, 6), np.float32), TRUTH) == 0
    assert math.isnan(value("map", np.zeros((2, 3, 6), np.float32), np.full((2, 1, 5), -1.0)))


def test_perplexity() -> None:
    logits = np.log(np.array([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], [[0.2, 0.4, 0.4], [1, 1, 1]]]))
    labels = np.array([[0, 0], [1, -100]])
    assert value("perplexity", logits, labels) == pytest.approx((0.5 * 0.25 * 0.4) ** (-1 / 3))


def test_error_rates_of_strings() -> None:
    predicted, wanted = np.array(["the cat sat", "hello"]), np.array(["the cat sits", "hello you"])
    assert value("wer", predicted, wanted) == 2 / 5  # sat for sits, you missing
    assert value("cer", predicted, wanted) == (2 + 4) / (12 + 9)


def test_error_rates_of_symbols() -> None:
    predicted, wanted = np.array([[7, 8, 9, -1]]), np.array([[7, 9, 9, 1]])
    assert value("cer", predicted, wanted) == 2 / 4
    assert value("wer", predicted, wanted) == 2 / 4


def test_an_empty_label() -> None:
    parts = find_metric("cer").parts(np.array(["ab", "x"]), np.array(["", "x"]))
    assert parts.tolist() == [[2, 0], [0, 1]]


@pytest.mark.parametrize(
    ("name", "predicted", "wanted"),
    [
        ("mse", np.zeros((2, 3)), np.zeros((2, 4))),
        ("spearman", np.zeros((2, 3)), np.zeros((2, 3))),
        ("miou", np.zeros((2, 3)), np.zeros((2, 3), np.int64)),
        ("map", np.zeros((2, 3, 7)), np.zeros((2, 3, 5))),
        ("perplexity", np.zeros((2, 3)), np.zeros((2, 3), np.int64)),
        ("cer", np.zeros((2, 3)), np.array(["a", "b"])),
        ("kl", np.zeros((2, 3)), np.zeros((2, 4))),
        ("cosine", np.zeros((2, 3)), np.zeros((2, 4))),
    ],
)
def test_arrays_that_a_metric_is_not_for(name: str, predicted: np.ndarray, wanted: np.ndarray) -> None:
    with pytest.raises(SettingError, match=rf"--metric {name} cannot compare an output float64\[2, "):
        find_metric(name).parts(predicted, wanted)
