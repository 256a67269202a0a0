"""One weight in a model of one consumer, in as many layouts as consumers and exporters have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.weights import Weights, find_weights

MS = "com.microsoft"
Built = tuple[list[onnx.NodeProto], dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""Nodes; stored arrays, `w` among them; and `w` as rows [.., K], each of which is summed over."""


def model(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray | TensorProto]) -> onnx.ModelProto:
    """Input `x`, output `y`; shapes are of no account here."""
    stored = [a if isinstance(a, TensorProto) else numpy_helper.from_array(a, n) for n, a in arrays.items()]
    graph = helper.make_graph(
        nodes, "layouts", [onnx.ValueInfoProto(name="x")], [onnx.ValueInfoProto(name="y")], stored
    )  # fmt: skip
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def weights_of(proto: onnx.ModelProto) -> tuple[GraphView, Weights]:
    view = GraphView(Model(proto))
    return view, find_weights(view)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def conv(w: np.ndarray) -> Built:
    return [make_node("Conv", ["x", "w"], ["y"])], {"w": w}, lambda v: v.transpose(0, 2, 3, 1)


def conv_transpose(w: np.ndarray) -> Built:
    return [make_node("ConvTranspose", ["x", "w"], ["y"])], {"w": w}, lambda v: v.transpose(1, 2, 3, 0)


def gemm(w: np.ndarray) -> Built:
    return [make_node("Gemm", ["x", "w"], ["y"])], {"w": w}, lambda v: v.T


def gemm_transposed(w: np.ndarray) -> Built:
    return [make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": w}, lambda v: v


def gemm_left(w: np.ndarray) -> Built:
    return [make_node("Gemm", ["w", "x"], ["y"])], {"w": w}, lambda v: v


def gemm_left_transposed(w: np.ndarray) -> Built:
    return [make_node("Gemm", ["w", "x"], ["y"], transA=1)], {"w": w}, lambda v: v.T


def matmul(w: np.ndarray) -> Built:
    return [make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, lambda v: v.T


def matmul_left(w: np.ndarray) -> Built:
    return [make_node("MatMul", ["w", "x"], ["y"])], {"w": w}, lambda v: v


def matmul_batched(w: np.ndarray) -> Built:
    return [make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, lambda v: v.transpose(0, 2, 1)


def fused_matmul(w: np.ndarray) -> Built:
    node = make_node("FusedMatMul", ["x", "w"], ["y"], domain=MS, transB=1)
    return [node], {"w": w}, lambda v: v


def lstm(w: np.ndarray) -> Built:
    return [make_node("LSTM", ["x", "w", "w_r"], ["y"])], {"w": w, "w_r": np.ones((1, 8, 2), np.float32)}, lambda v: v


def transposed(w: np.ndarray) -> Built:
    nodes = [make_node("Transpose", ["w"], ["t"], perm=[1, 0]), make_node("MatMul", ["x", "t"], ["y"])]
    return nodes, {"w": w}, lambda v: v


def reshaped(w: np.ndarray) -> Built:
    """[4, 6, 8] becomes a matrix of 24 x 8."""
    nodes = [make_node("Reshape", ["w", "s"], ["t"]), make_node("MatMul", ["x", "t"], ["y"])]
    return nodes, {"w": w, "s": ints(-1, 8)}, lambda v: v.reshape(-1, 8).T


def unsqueezed_cast(w: np.ndarray) -> Built:
    nodes = [
        make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT), make_node("Unsqueeze", ["c", "a"], ["u"]),
        make_node("Identity", ["u"], ["i"]), make_node("Conv", ["x", "i"], ["y"]),
    ]  # fmt: skip
    return nodes, {"w": w, "a": ints(2, 3)}, lambda v: v


def split(w: np.ndarray) -> Built:
    """The second of three parts of [12, 8] is read."""
    nodes = [make_node("Split", ["w"], ["p", "q", "r"], axis=0, num_outputs=3), make_node("MatMul", ["x", "q"], ["y"])]
    return nodes, {"w": w}, lambda v: v[4:8].T


def sliced(w: np.ndarray) -> Built:
    nodes = [make_node("Slice", ["w", "b", "e", "a"], ["t"]), make_node("MatMul", ["x", "t"], ["y"])]
    return nodes, {"w": w, "b": ints(0), "e": ints(8), "a": ints(0)}, lambda v: v[:8].T


def concatenated(w: np.ndarray) -> Built:
    """`w` stands behind four rows of another tensor, along the axis that is summed over."""
    nodes = [make_node("Concat", ["o", "w"], ["t"], axis=0), make_node("MatMul", ["x", "t"], ["y"])]
    return nodes, {"o": np.zeros((4, w.shape[1]), w.dtype), "w": w}, lambda v: v.T


def dequantised(w: np.ndarray) -> Built:
    nodes = [make_node("DequantizeLinear", ["w", "s"], ["t"]), make_node("Conv", ["x", "t"], ["y"])]
    return nodes, {"w": w, "s": np.float32(0.1)}, lambda v: v.transpose(0, 2, 3, 1)


LAYOUTS: dict[str, tuple[Callable[[np.ndarray], Built], tuple[int, ...]]] = {
    "conv": (conv, (6, 8, 3, 2)), "conv_transpose": (conv_transpose, (8, 6, 2, 2)), "gemm": (gemm, (8, 5)),
    "gemm_transposed": (gemm_transposed, (5, 8)), "gemm_left": (gemm_left, (5, 12)),
    "gemm_left_transposed": (gemm_left_transposed, (12, 5)), "matmul": (matmul, (12, 7)),
    "matmul_left": (matmul_left, (7, 12)), "matmul_batched": (matmul_batched, (3, 8, 5)),
    "fused_matmul": (fused_matmul, (5, 8)), "lstm": (lstm, (1, 8, 12)), "transposed": (transposed, (5, 8)),
    "reshaped": (reshaped, (4, 6, 8)), "unsqueezed_cast": (unsqueezed_cast, (5, 8)), "split": (split, (12, 8)),
    "sliced": (sliced, (12, 8)), "concatenated": (concatenated, (8, 5)), "tail": (matmul, (10, 3)),
}  # fmt: skip
