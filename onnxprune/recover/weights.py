"""Which of a model's stored tensors are trained, which follow the data, and which are numbers to be left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from onnx import TensorProto

from onnxprune.errors import SettingError
from onnxprune.graph.node import Node
from onnxprune.graph.view import GraphView
from onnxprune.recover.dtypes import RANGES
from onnxprune.recover.registry import Registry

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_RUNNING = (3, 4)  # the inputs of a BatchNormalization that are running statistics
_SUMS = ("Add", "Sub")
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedMatMul")
_ELEMENTWISE = (
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Where", "Mod", "QuantizeLinear",
    "DequantizeLinear", "Clip", "Pad", "CastLike",
)  # fmt: skip
_WITHOUT_GRADIENT = (
    "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "ArgMax", "ArgMin", "Shape", "Size", "NonZero",
    "IsNaN", "IsInf", "Sign", "Floor", "Ceil", "Round", "NonMaxSuppression", "Unique", "EyeLike", "Not", "And", "Or",
)  # fmt: skip
_FORBIDDING = 1e30  # what is added to scores that must not count is this large, and no weight
_PASSES_ON = ("Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand")


@dataclass(frozen=True)
class Weight:
    """A stored tensor that is trained. `scale` and `zero` are keys of what dequantises an integer one, else "".

    An integer weight is held as the real numbers that it stands for; `axis` and `block` are those of its
    DequantizeLinear.
    """

    key: str
    tensor: TensorProto
    scale: str = ""
    zero: str = ""
    axis: int = 1
    block: int = 0

    @property
    def is_quantised(self) -> bool:
        return bool(self.scale)


def weights_of(view: GraphView, forms: Registry) -> Iterator[Weight]:
    """The tensors that are trained, in the order of the file.

    Every float tensor that something is computed with. None is: what an operator reads as a setting (sizes, a
    quantiser's scale), running statistics, a lone number (an epsilon, an exponent, a scale: unless it stands where
    weights do, or is added to a product), and a table of what is forbidden (infinite, or beyond 1e30).
    """
    for key, tensor in view.constants.items():
        if not view.consumers.get(key):
            continue
        if tensor.data_type in FLOATS:
            if any(_computes(view, forms, node, place, tensor) for node, place in _readers(view, key)):
                values = view.model.array(tensor)
                if values.size and _is_weight(values):
                    yield Weight(key, tensor)
        elif tensor.data_type in RANGES:
            found = _quantised(view, key, tensor)
            if found is not None and int(np.prod(tensor.dims)) > 1:
                yield found


def _is_weight(values: np.ndarray) -> bool:
    if values.size > 1 << 20:  # tables of what is forbidden are no larger
        return True
    largest = np.abs(values.astype(np.float64)).max()
    return bool(largest < _FORBIDDING)  # neither infinity nor NaN is


def _readers(view: GraphView, key: str) -> Iterator[tuple[Node, int]]:
    """Who computes with a stored tensor, through what only passes it on."""
    for node, place in view.consumers.get(key, ()):
        if node.op in _PASSES_ON and place == 0 and not node.domain:
            yield from _readers(view, node.outputs[0])
        else:
            yield node, place


def _computes(view: GraphView, forms: Registry, node: Node, place: int, tensor: TensorProto) -> bool:
    form = forms.find(node.domain, node.op, node.opset)
    if form is None or place in form.settings or node.op in _WITHOUT_GRADIENT:
        return False
    if node.op == "BatchNormalization" and place in _RUNNING:
        return False
    if int(np.prod(tensor.dims)) != 1:
        return True
    if node.op not in _ELEMENTWISE:
        return True
    return node.op in _SUMS and bool(tensor.dims) and any(_is_product(view, name) for name in node.inputs)


def _is_product(view: GraphView, key: str) -> bool:
    maker = view.producer.get(key)
    return maker is not None and maker.op in _PRODUCTS


def _quantised(view: GraphView, key: str, tensor: TensorProto) -> Weight | None:
    """An integer tensor that is only ever dequantised, with the same stored scale and zero point."""
    found: set[tuple[str, str, int, int]] = set()
    for node, place in view.consumers.get(key, ()):
        if node.op != "DequantizeLinear" or place != 0:
            return None
        scale, zero = (node.inputs[k] if k < len(node.inputs) else "" for k in (1, 2))
        if scale not in view.constants or (zero and zero not in view.constants):
            return None
        found.add((scale, zero, node.attrs.get("axis", 1), node.attrs.get("block_size", 0)))
    return Weight(key, tensor, *found.pop()) if len(found) == 1 else None


def running_of(view: GraphView) -> dict[str, bool]:
    """Running statistics by key, and whether only one BatchNormalization reads them: then training may move them."""
    readers: dict[str, set[int]] = {}
    for node in view.nodes:
        if node.op == "BatchNormalization" and not node.domain:
            for place in _RUNNING:
                key = view.identity_source(node.inputs[place])
                readers.setdefault(key, set()).add(node.index)
    direct = {key: len(view.consumers.get(key, ())) for key in readers}
    return {key: len(nodes) == 1 and direct[key] == 1 for key, nodes in readers.items() if key in view.constants}


def frozen_by(globs: Sequence[str], keys: Sequence[str], option: str) -> set[str]:
    """The keys that match one of the globs. Raises SettingError for a glob that matches none."""
    found: set[str] = set()
    for glob in globs:
        hits = {key for key in keys if fnmatchcase(key, glob)}
        if not hits:
            raise SettingError(
                f"{option} {glob}: no weight is called so", remedy="weights go by their initializers' names"
            )
        found |= hits
    return found
