"""What ONNX Runtime's optimiser makes of a model is pruned as far as the model itself, and as exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.runtime.measure import measure_shapes
from tests.blocks.test_rotary_attention import cross
from tests.support.models import make_model
from tests.support.oracle import assert_prunes_exactly

Weights = dict[str, np.ndarray | list[int]]
LEVELS = {"basic": 1, "extended": 2}


def residual_network() -> onnx.ModelProto:
    """Convolutions with BatchNormalization, ReLU and a residual, pooled to 5 classes."""
    nodes, weights = [], {}
    for k, (x, out) in enumerate((("x", 8), ("r0", 8), ("r1", 8), ("s", 6))):
        weights |= {f"w{k}": [out, 3 if k == 0 else 8, 3, 3], f"s{k}": [out], f"t{k}": [out], f"m{k}": [out]}
        weights[f"v{k}"] = np.linspace(0.5, 2, out, dtype=np.float32)
        nodes.append(make_node("Conv", [x, f"w{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
        nodes.append(make_node("BatchNormalization", [f"c{k}", f"s{k}", f"t{k}", f"m{k}", f"v{k}"], [f"n{k}"]))
        if k == 2:
            nodes.append(make_node("Add", ["n2", "r0"], ["a"]))
            nodes.append(make_node("Relu", ["a"], ["s"]))
        else:
            nodes.append(make_node("Relu", [f"n{k}"], [f"r{k}"]))
    weights |= {"wf": [6, 5], "bf": [5]}
    nodes += [
        make_node("GlobalAveragePool", ["r3"], ["p"]),
        make_node("Flatten", ["p"], ["f"]),
        make_node("Gemm", ["f", "wf", "bf"], ["out"]),
    ]
    return make_model(nodes, {"x": [2, 3, 6, 6]}, ["out"], weights)


def perceptron(activation: str) -> onnx.ModelProto:
    """LayerNormalization, two matrices with an activation in primitives between them, and a residual, twice."""
    nodes: list[onnx.NodeProto] = [make_node("MatMul", ["x", "w_in"], ["h0"])]
    weights: Weights = {"w_in": [3, 8], "w_out": [8, 4], "root": np.array(2**0.5, np.float32),
                        "one": np.array(1, np.float32), "half": np.array(0.5, np.float32)}  # fmt: skip
    for k in range(2):
        weights |= {f"g{k}": [8], f"b{k}": [8], f"w1{k}": [8, 12], f"c1{k}": [12], f"w2{k}": [12, 8], f"c2{k}": [8]}
        nodes += [
            make_node("LayerNormalization", [f"h{k}", f"g{k}", f"b{k}"], [f"n{k}"], axis=-1),
            make_node("MatMul", [f"n{k}", f"w1{k}"], [f"p{k}"]),
            make_node("Add", [f"p{k}", f"c1{k}"], [f"i{k}"]),
            *_activation(activation, f"i{k}", f"u{k}"),
            make_node("MatMul", [f"u{k}", f"w2{k}"], [f"q{k}"]),
            make_node("Add", [f"q{k}", f"c2{k}"], [f"o{k}"]),
            make_node("Add", [f"o{k}", f"h{k}"], [f"h{k + 1}"]),
        ]
    weights |= {"g2": [8], "b2": [8]}
    nodes.append(make_node("LayerNormalization", ["h2", "g2", "b2"], ["last"], axis=-1))
    nodes.append(make_node("MatMul", ["last", "w_out"], ["out"]))
    return make_model(nodes, {"x": [2, 5, 3]}, ["out"], weights)


def _activation(name: str, x: str, y: str) -> list[onnx.NodeProto]:
    if name == "Gelu":
        return [
            make_node("Div", [x, "root"], [f"{x}_a"]),
            make_node("Erf", [f"{x}_a"], [f"{x}_b"]),
            make_node("Add", [f"{x}_b", "one"], [f"{x}_c"]),
            make_node("Mul", [x, f"{x}_c"], [f"{x}_d"]),
            make_node("Mul", [f"{x}_d", "half"], [y]),
        ]
    return [make_node("Sigmoid", [x], [f"{x}_a"]), make_node("Mul", [x, f"{x}_a"], [y])]


def rms_layer() -> onnx.ModelProto:
    """RMSNormalization in primitives between two matrices, as exporters before opset 23 spell it."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["h"]),
        make_node("Pow", ["h", "two"], ["squares"]),
        make_node("ReduceMean", ["squares"], ["mean"], axes=[-1]),
        make_node("Add", ["mean", "epsilon"], ["shifted"]),
        make_node("Sqrt", ["shifted"], ["root"]),
        make_node("Div", ["h", "root"], ["n"]),
        make_node("Mul", ["scale", "n"], ["y"]),
        make_node("MatMul", ["y", "w2"], ["out"]),
    ]
    weights: Weights = {
        "w1": [3, 6], "w2": [6, 4], "scale": [6], "two": np.array(2, np.float32), "epsilon": np.array(1e-5, np.float32)
    }  # fmt: skip
    return make_model(nodes, {"x": [2, 5, 3]}, ["out"], weights)


def tower() -> onnx.ModelProto:
    """Gemm and an activation, twice."""
    nodes = [
        make_node("Gemm", ["x", "w1", "b1"], ["a"], transB=1),
        make_node("Relu", ["a"], ["r"]),
        make_node("Gemm", ["r", "w2", "b2"], ["c"]),
        make_node("LeakyRelu", ["c"], ["l"], alpha=0.2),
        make_node("Gemm", ["l", "w3"], ["out"]),
    ]
    weights: Weights = {"w1": [8, 3], "b1": [8], "w2": [8, 6], "b2": [6], "w3": [6, 2]}
    return make_model(nodes, {"x": [5, 3]}, ["out"], weights)


MODELS = {
    "residual": (residual_network, {"FusedConv"}),
    "gelu": (lambda: perceptron("Gelu"), {"Gelu", "SkipLayerNormalization"}),
    "swish": (lambda: perceptron("Swish"), {"QuickGelu", "SkipLayerNormalization"}),
    "rms": (rms_layer, {"SimplifiedLayerNormalization"}),
    "tower": (tower, {"FusedGemm"}),
    "attention": (lambda: cross(13), set()),
}


def optimised(model: onnx.ModelProto, level: str, folder: Path) -> onnx.ModelProto:
    """The file that ONNX Runtime's optimiser writes at a level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(LEVELS[level])
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", MODELS)
def test_as_far_and_as_exactly_as_before(name: str, level: str, tmp_path: Path) -> None:
    make, fused = MODELS[name]
    model = make()
    after = optimised(model, level, tmp_path)
    if level == "extended":
        assert fused <= {node.op_type for node in after.graph.node}
    coupling = assert_prunes_exactly(after, measure=measure_shapes)
    plain = analyse(model)
    assert sorted((g.size, g.exact) for g in coupling.groups) == sorted((g.size, g.exact) for g in plain.groups)
    assert coupling.least_cost().macs == plain.least_cost().macs
