"""Which inputs of which operators are weights, and along which axis of them the operator sums.

That axis is where N:M groups run: for each output and kernel tap of a convolution over the input channels, for each
column of a matrix product over its rows (TensorRT's developer guide, "Structured sparsity").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnxprune.graph.contrib import MICROSOFT
from onnxprune.graph.view import GraphView, Node


@dataclass(frozen=True)
class Place:
    """Input `position` of a node is (or may be) a weight; `axis` is summed over, counted from the back if negative.

    `only_stored`: an operand that is computed is no weight there, but data.
    """

    position: int
    axis: int
    groups: int = 1
    only_stored: bool = False


def _convolution(position: int) -> Callable[[Node], list[Place]]:
    return lambda node: [Place(position, 1, int(node.attrs.get("group", 1)))]


def _transposed(node: Node) -> list[Place]:
    return [Place(1, 0, int(node.attrs.get("group", 1)))]


def _product(left: int, right: int) -> Callable[[Node], list[Place]]:
    """A [..., M, K] times B [..., K, N], either of them with its last two axes exchanged (FusedMatMul, Gemm)."""

    def places(node: Node) -> list[Place]:
        if node.attrs.get("transBatchA", 0) or node.attrs.get("transBatchB", 0):
            return []
        inner_a = -2 if node.attrs.get("transA", 0) else -1
        inner_b = -1 if node.attrs.get("transB", 0) else -2
        return [Place(left, inner_a, only_stored=True), Place(right, inner_b, only_stored=True)]

    return places


def _recurrent(axis: int) -> Callable[[Node], list[Place]]:
    """W and R of LSTM, GRU and RNN: [directions, gates, inputs]."""
    return lambda node: [Place(1, axis), Place(2, axis)]


def _projection(node: Node) -> list[Place]:
    """The fused projection of com.microsoft.Attention: [inputs, queries and keys and values]."""
    return [Place(1, 0)]


def _einsum(node: Node) -> list[Place]:
    """An operand with one label that the result has not and another operand has."""
    left, sign, result = str(node.attrs.get("equation", "")).replace(" ", "").partition("->")
    terms = left.split(",")
    if not sign or "." in left or len(terms) != len(node.inputs):
        return []
    found = []
    for position, term in enumerate(terms):
        others = "".join(other for at, other in enumerate(terms) if at != position)
        summed = [axis for axis, label in enumerate(term) if label not in result and label in others]
        if len(summed) == 1:
            found.append(Place(position, summed[0], only_stored=True))
    return found


_PLACES: dict[tuple[str, str], Callable[[Node], list[Place]]] = {
    ("", "Conv"): _convolution(1),
    ("", "ConvInteger"): _convolution(1),
    ("", "QLinearConv"): _convolution(3),
    (MICROSOFT, "QLinearConv"): _convolution(3),
    (MICROSOFT, "FusedConv"): _convolution(1),
    (MICROSOFT, "NhwcFusedConv"): _convolution(1),
    ("", "ConvTranspose"): _transposed,
    ("", "MatMul"): _product(0, 1),
    ("", "Gemm"): _product(0, 1),
    ("", "MatMulInteger"): _product(0, 1),
    ("", "QLinearMatMul"): _product(0, 3),
    (MICROSOFT, "QGemm"): _product(0, 3),
    (MICROSOFT, "FusedMatMul"): _product(0, 1),
    (MICROSOFT, "FusedGemm"): _product(0, 1),
    (MICROSOFT, "MatMulIntegerToFloat"): _product(0, 1),
    (MICROSOFT, "DynamicQuantizeMatMul"): _product(0, 1),
    ("", "LSTM"): _recurrent(2),
    ("", "GRU"): _recurrent(2),
    ("", "RNN"): _recurrent(2),
    (MICROSOFT, "DynamicQuantizeLSTM"): _recurrent(1),
    (MICROSOFT, "Attention"): _projection,
    (MICROSOFT, "QAttention"): _projection,
    ("", "Einsum"): _einsum,
}

_PACKED = {
    (MICROSOFT, "MatMulNBits"): (1, "packed, several numbers in a byte"),
    (MICROSOFT, "MatMulBnb4"): (1, "packed indices of a table"),
    (MICROSOFT, "MoE"): (2, "experts, whose layout is the runtime's"),
    (MICROSOFT, "QMoE"): (2, "packed experts"),
}

_TABLES = {("", "Gather"), (MICROSOFT, "GatherBlockQuantized"), (MICROSOFT, "EmbedLayerNormalization")}


def places_of(node: Node) -> list[Place]:
    """Where a node may read weights; empty for operators without any."""
    read = _PLACES.get((node.domain, node.op))
    return [] if read is None else [p for p in read(node) if p.position < len(node.inputs) and node.inputs[p.position]]


def packed_at(node: Node) -> tuple[int, str] | None:
    """Input position and form of a weight that is stored in a form in which single elements cannot be zeroed."""
    return _PACKED.get((node.domain, node.op))


def is_table(view: GraphView, node: Node, position: int) -> bool:
    """Whether a node looks rows up in what it reads at an input: an embedding table."""
    if (node.domain, node.op) not in _TABLES:
        return False
    return node.op != "Gather" or (position == 0 and node.inputs[1] not in view.fixed)
