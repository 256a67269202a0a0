"""BatchNorm scale, LAMP and the geometric median: literal scores."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.errors import SettingError
from onnxprune.importance import score
from tests.support.models import make_model
from tests.support.planning import conv_chain


def array(values: list, *shape: int) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(shape)


def normalised(groups: int) -> onnx.ModelProto:
    """Conv to two channels, BatchNorm with scales -4 and 6, Conv; with a second group, a Conv to three without."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Conv", ["n", "v"], ["y" if groups == 1 else "h"]),
    ]
    weights = {
        "w": (2, 2, 1, 1), "gamma": array([-4, 6], 2), "beta": (2,), "mean": (2,), "var": np.ones(2, np.float32),
        "v": (3, 2, 1, 1),
    }  # fmt: skip
    if groups > 1:
        nodes.append(helper.make_node("Conv", ["h", "u"], ["y"]))
        weights["u"] = (2, 3, 1, 1)
    return make_model(nodes, {"x": (1, 2, 4, 4)}, ["y"], weights)


class TestBatchNormScale:
    def test_magnitudes_of_the_scales(self) -> None:
        scores = score(analyse(normalised(1)), "bn_scale", normalise="none")
        assert scores[0].tolist() == [4, 6]
        assert scores.unscored == {}

    def test_a_group_without_is_left_out_and_why(self) -> None:
        scores = score(analyse(normalised(2)), "bn_scale")
        assert scores[0].tolist() == [0.8, 1.2]
        assert scores[1].tolist() == [0, 0, 0]
        assert scores.unscored == {1: "no BatchNormalization scales its units"}

    def test_a_model_without_is_refused(self) -> None:
        with pytest.raises(SettingError, match=r"'bn_scale' needs BatchNormalization nodes .* use l1 or l2"):
            score(analyse(conv_chain()), "bn_scale")


def filters(*rows: list[float]) -> onnx.ModelProto:
    """Conv with these filters, then one of zeros."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Conv", ["c", "v"], ["y"])]
    weights = {
        "w": np.asarray(rows, np.float32).reshape(len(rows), -1, 1, 1),
        "v": np.zeros((2, len(rows), 1, 1), np.float32),
    }
    return make_model(nodes, {"x": (1, len(rows[0]), 4, 4)}, ["y"], weights)


class TestLamp:
    def test_squares_by_what_is_left(self) -> None:
        scores = score(analyse(filters([3], [1], [2])), "lamp")
        assert scores[0].tolist() == [1, 1 / 14, 4 / 13]
        assert scores.normalise == "none"

    def test_zeros_and_equals(self) -> None:
        assert score(analyse(filters([0], [0], [2])), "lamp")[0].tolist() == [0, 0, 1]
        assert score(analyse(filters([2], [2], [2])), "lamp")[0].tolist() == [1 / 3, 1 / 2, 1]

    def test_another_normalisation_may_be_asked_for(self) -> None:
        scores = score(analyse(filters([3], [1], [2])), "lamp", normalise="mean")
        assert scores[0].mean() == pytest.approx(1)


class TestGeometricMedian:
    def test_sums_of_distances(self) -> None:
        scores = score(analyse(filters([0, 0], [3, 4], [6, 8])), "fpgm", normalise="none")
        assert scores[0].tolist() == [15, 10, 15]

    def test_it_is_of_the_filters_and_not_of_what_reads_them(self) -> None:
        model = filters([0, 0], [3, 4], [6, 8])
        model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(array([9, 0, 0, 0, 0, 50], 2, 3, 1, 1), "v"))
        assert score(analyse(model), "fpgm", normalise="none")[0].tolist() == [15, 10, 15]

    @pytest.mark.parametrize("flip", [0, 1])
    def test_rows_or_columns_of_a_matrix(self, flip: int) -> None:
        w = array([0, 3, 6, 0, 4, 8], 2, 3)
        nodes = [
            helper.make_node("Gemm", ["x", "w"], ["h"], transB=flip),
            helper.make_node("MatMul", ["h", "v"], ["y"]),
        ]
        weights = {"w": np.ascontiguousarray(w.T) if flip else w, "v": (3, 2)}
        coupling = analyse(make_model(nodes, {"x": (5, 2)}, ["y"], weights))
        assert score(coupling, "fpgm", normalise="none")[0].tolist() == [15, 10, 15]

    def test_behind_a_decoder(self) -> None:
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], axis=0),
            helper.make_node("Conv", ["x", "w"], ["h"]),
            helper.make_node("Conv", ["h", "v"], ["y"]),
        ]
        weights = {
            "q": np.asarray([0, 0, 3, 4, 12, 16], np.int8).reshape(3, 2, 1, 1),
            "scale": np.asarray([1, 1, 0.5], np.float32), "v": (2, 3, 1, 1),
        }  # fmt: skip
        coupling = analyse(make_model(nodes, {"x": (1, 2, 3, 3)}, ["y"], weights))
        assert score(coupling, "fpgm", normalise="none")[0].tolist() == [15, 10, 15]

    def test_the_filters_of_a_head_are_one_vector(self) -> None:
        from tests.support.planning import two_factors

        model = two_factors()
        w = array([0, 0, 0, 0, 2, 2, 2, 2] * 3, 3, 8)
        for tensor in model.graph.initializer:
            if tensor.name == "w":
                tensor.CopyFrom(onnx.numpy_helper.from_array(w, "w"))
        scores = score(analyse(model), "fpgm", normalise="none")
        assert scores[0].tolist() == pytest.approx([48**0.5, 48**0.5])
        assert scores[1].tolist() == [0, 0, 0, 0]

    def test_recurrent_units_go_by_all_that_they_have(self) -> None:
        nodes = [
            helper.make_node("RNN", ["x", "w", "r"], ["y", ""], hidden_size=2),
            helper.make_node("Squeeze", ["y", "one"], ["s"]),
            helper.make_node("MatMul", ["s", "v"], ["z"]),
        ]
        weights = {
            "w": array([0, 3], 1, 2, 1), "r": np.zeros((1, 2, 2), np.float32), "one": np.asarray([1]),
            "v": array([0, 0, 4, 0], 2, 2),
        }  # fmt: skip
        coupling = analyse(make_model(nodes, {"x": (3, 1, 1)}, ["z"], weights))
        assert score(coupling, "fpgm", normalise="none")[0].tolist() == [4, 4]
