"""How operators that read integers decode them: where the scale and the zero point of each of their weights are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxprune.graph.contrib import MICROSOFT
from onnxprune.graph.view import GraphView, Node

BEHIND = -1
"""The scale is no input of the operator: its result is multiplied by it."""

Axis = int | Callable[[Node], int]


@dataclass(frozen=True)
class Decoder:
    """Input positions of a weight's scale and zero point, and the weight's axis that a vector of them is along."""

    scale: int
    zero: int
    axis: Axis

    def along(self, node: Node) -> int:
        return self.axis if isinstance(self.axis, int) else self.axis(node)


def _stated_axis(node: Node) -> int:
    return int(node.attrs.get("axis", 1))


def _columns(node: Node) -> int:
    """The axis of Gemm's columns."""
    return -2 if node.attrs.get("transB", 0) else -1


_TABLES = {2 + table: Decoder(8 + table, 13 + table, -1) for table in range(5)}
_PAIRED = {0: Decoder(1, 2, -1), 3: Decoder(4, 5, -1)}
DECODERS: dict[tuple[str, str], dict[int, Decoder]] = {
    ("", "DequantizeLinear"): {0: Decoder(1, 2, _stated_axis)},
    (MICROSOFT, "DequantizeLinear"): {0: Decoder(1, 2, _stated_axis)},
    ("", "QLinearConv"): {3: Decoder(4, 5, 0)},
    (MICROSOFT, "QLinearConv"): {3: Decoder(4, 5, 0)},
    ("", "QLinearMatMul"): {0: Decoder(1, 2, -2), 3: Decoder(4, 5, -1)},
    (MICROSOFT, "QGemm"): {3: Decoder(4, 5, _columns)},
    ("", "ConvInteger"): {1: Decoder(BEHIND, 3, 0)},
    ("", "MatMulInteger"): {1: Decoder(BEHIND, 3, -1)},
    (MICROSOFT, "MatMulIntegerToFloat"): {1: Decoder(3, 5, -1)},
    (MICROSOFT, "DynamicQuantizeMatMul"): {1: Decoder(2, 3, -1)},
    (MICROSOFT, "DynamicQuantizeLSTM"): {1: Decoder(8, 9, 0), 2: Decoder(10, 11, 0)},
    (MICROSOFT, "QAttention"): {1: Decoder(4, 7, -1)},
    (MICROSOFT, "QEmbedLayerNormalization"): _TABLES,
    (MICROSOFT, "QLinearAdd"): _PAIRED,
    (MICROSOFT, "QLinearMul"): _PAIRED,
    (MICROSOFT, "QLinearWhere"): {1: Decoder(2, 3, -1), 4: Decoder(5, 6, -1)},
    (MICROSOFT, "GatherBlockQuantized"): {0: Decoder(2, 3, lambda node: int(node.attrs.get("quantize_axis", 1)))},
}

PARAMETERS: dict[tuple[str, str], frozenset[int]] = {
    ("", "QuantizeLinear"): frozenset({1, 2}),
    (MICROSOFT, "QuantizeLinear"): frozenset({1, 2}),
    ("", "QLinearConv"): frozenset({1, 2, 4, 5, 6, 7}),
    (MICROSOFT, "QLinearConv"): frozenset({1, 2, 4, 5, 6, 7}),
    ("", "QLinearMatMul"): frozenset({1, 2, 4, 5, 6, 7}),
    (MICROSOFT, "QGemm"): frozenset({1, 2, 4, 5, 7, 8}),
    ("", "ConvInteger"): frozenset({2, 3}),
    ("", "MatMulInteger"): frozenset({2, 3}),
    (MICROSOFT, "MatMulIntegerToFloat"): frozenset({2, 3, 4, 5}),
    (MICROSOFT, "QAttention"): frozenset({3, 4, 6, 7}),
    (MICROSOFT, "QLinearAdd"): frozenset({1, 2, 4, 5, 6, 7}),
    (MICROSOFT, "QLinearMul"): frozenset({1, 2, 4, 5, 6, 7}),
    (MICROSOFT, "QLinearWhere"): frozenset({2, 3, 5, 6, 7, 8}),
    (MICROSOFT, "MatMulNBits"): frozenset({2, 3, 4}),
    (MICROSOFT, "MatMulBnb4"): frozenset({1}),  # packed indices of a table; the blocks' absolute maxima speak for them
}
"""Further positions that hold scales, zero points and the like, of operators that have more than DECODERS names."""


def is_decoding_at(node: Node, position: int) -> bool:
    """Whether an operator reads a scale, a zero point or the like at this input: it decodes its neighbour."""
    key = (node.domain, node.op)
    decoders = DECODERS.get(key, {}).values()
    return position in PARAMETERS.get(key, ()) or any(position in (d.scale, d.zero) for d in decoders)


def decoder_at(node: Node, position: int) -> Decoder | None:
    """How an operator decodes the weight that it reads at this input; None where it takes numbers as they are."""
    return DECODERS.get((node.domain, node.op), {}).get(position)


def stored_at(view: GraphView, node: Node, position: int) -> np.ndarray | None:
    """A stored scale or zero point as float32; None where there is none, or it is computed."""
    if not 0 <= position < len(node.inputs) or not node.inputs[position]:
        return None
    source = view.identity_source(node.inputs[position])
    return view.model.array(view.constants[source]).astype(np.float32) if source in view.constants else None


def scale_behind(view: GraphView, node: Node) -> np.ndarray | None:
    """The stored scale by which the result of an integer product is multiplied.

    That is how ONNX Runtime's quantiser spells it: Cast, then Mul with the product of the activations' scale and it.
    """
    name = node.outputs[0]
    while len(readers := view.consumers.get(name, [])) == 1:
        reader, _ = readers[0]
        if reader.op == "Mul":
            others = [other for other in reader.inputs if other != name]
            made = view.producer.get(others[0]) if others else None
            candidates = [*others, *(made.inputs if made is not None and made.op == "Mul" else ())]
            found = [view.constants[s] for s in map(view.identity_source, candidates) if s in view.constants]
            return view.model.array(found[0]).astype(np.float32) if len(found) == 1 else None
        if reader.op not in ("Cast", "Identity"):
            return None
        name = reader.outputs[0]
    return None


def spread(found: np.ndarray, shape: tuple[int, ...], axis: int, block: int = 0) -> np.ndarray | None:
    """A scale or zero point, shaped to broadcast against a weight of `shape`; None where it does not fit.

    It is one number; a vector along `axis`, whatever axes of length 1 it has beside; of the weight's rank, with as
    many (or one) along each axis; in blocks along `axis`; or of one rank less, for a weight [D, rows, columns] with
    numbers [D, columns].
    """
    rank = len(shape)
    if found.size == 1:
        return found.reshape((1,) * rank)
    if max(found.shape) == found.size and -rank <= axis < rank and found.size == shape[axis]:
        return found.reshape([-1 if a == axis % rank else 1 for a in range(rank)])
    if found.ndim == rank and all(n in (1, size) for n, size in zip(found.shape, shape, strict=True)):
        return found
    if found.ndim == rank and block:
        wide = np.take(np.repeat(found, block, axis), range(shape[axis]), axis)
        return wide if wide.shape == shape else None
    if found.ndim == rank - 1 and found.shape == (shape[0], *shape[2:]):
        return found[:, None]
    return None
