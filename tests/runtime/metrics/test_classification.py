"""Classification: figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.errors import SettingError
from onnxprune.runtime.metrics import METRICS, Metric, find_metric

SCORES = np.array([[3, 2, 1], [1, 3, 2], [2, 1, 3], [2, 3, 1]], np.float32)
LABELS = np.array([0, 1, 1, 0])


def value(name: str, predicted: np.ndarray, wanted: np.ndarray) -> float:
    metric = find_metric(name)
    return metric.value(metric.parts(predicted, wanted))


def test_top1() -> None:
    assert find_metric("top1").parts(SCORES, LABELS).tolist() == [1, 1, 0, 0]
    assert value("top1", SCORES, LABELS) == 0.5


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        pytest.param(SCORES.reshape(4, 3, 1, 1), LABELS, id="trailing axes"),
        pytest.param(SCORES, LABELS[:, None], id="a column of labels"),
        pytest.param(SCORES, np.eye(3)[LABELS], id="one-hot"),
        pytest.param(SCORES, LABELS.astype(np.uint8), id="bytes"),
        pytest.param(SCORES.argmax(1), LABELS, id="classes"),
        pytest.param(SCORES.astype(np.float16), LABELS, id="float16"),
    ],
)
def test_top1_in_other_forms(scores: np.ndarray, labels: np.ndarray) -> None:
    assert value("top1", scores, labels) == 0.5


def test_a_tie_goes_to_the_lower_class() -> None:
    assert find_metric("top1").parts(np.zeros((2, 3), np.float32), np.array([0, 1])).tolist() == [1, 0]
    assert find_metric("top5").parts(np.zeros((2, 9), np.float32), np.array([4, 5])).tolist() == [1, 0]


def test_top5() -> None:
    scores = np.arange(7, dtype=np.float32)[None].repeat(7, 0)
    assert find_metric("top5").parts(scores, np.arange(7)).tolist() == [0, 0, 1, 1, 1, 1, 1]


def test_f1() -> None:
    # class 0: one right, none wrong, one missed: 2/3; class 1: one right, one wrong, one missed: 1/2; class 2: 0
    assert value("f1", SCORES, LABELS) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_auc_of_two_classes() -> None:
    # of the four pairs of a positive and a negative, three are in order
    scores, labels = np.array([0.9, 0.4, 0.5, 0.1], np.float32), np.array([1, 1, 0, 0])
    assert value("auc", scores, labels) == 0.75
    assert value("auc", scores[:, None], labels) == 0.75
    assert value("auc", np.column_stack([1 - scores, scores]), labels) == 0.75


def test_auc_of_several_classes() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]], np.float32)
    labels = np.array([0, 1, 2, 1])
    # class 0 against the rest: 3 of 3 pairs; class 1: 4 of 4 (0.4 and 0.3 beat 0.2, 0.2); class 2: 3 of 3
    assert value("auc", probabilities, labels) == 1.0
    assert value("auc", np.log(probabilities), labels) == pytest.approx(1.0)


def test_auc_of_one_class_is_nan() -> None:
    assert np.isnan(value("auc", np.array([0.1, 0.2], np.float32), np.array([1, 1])))


@pytest.mark.parametrize("name", ["top1", "top5", "f1", "auc"])
def test_labels_beyond_the_classes(name: str) -> None:
    with pytest.raises(SettingError, match=r"the data has the label 10, and the output 10 classes \(0 to 9\)"):
        find_metric(name).parts(np.zeros((2, 10), np.float32), np.array([1, 10]))


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        pytest.param(np.zeros((2, 3, 4), np.float32), np.array([0, 1]), id="images"),
        pytest.param(np.zeros((2, 1), np.float32), np.array([0, 1]), id="one score"),
        pytest.param(np.zeros((2, 3), np.float32), np.array([0.5, 1]), id="labels that are no whole numbers"),
        pytest.param(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.int64), id="labels of another shape"),
    ],
)
def test_what_is_no_classification(scores: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(SettingError, match="--metric top1 cannot compare an output"):
        find_metric("top1").parts(scores, labels)


def test_top5_of_five_classes() -> None:
    with pytest.raises(SettingError, match="every answer is right"):
        find_metric("top5").parts(np.zeros((2, 5), np.float32), np.array([0, 1]))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_goes_by_its_name(name: str) -> None:
    assert isinstance(find_metric(name), Metric)
    assert find_metric(name).name == name
