"""Whether 2:4 has survived a step: weights that followed it before and after."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from onnxprune.errors import VerificationError
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.check import check
from onnxprune.sparsity.masking import TWO_OF_FOUR
from onnxprune.sparsity.weights import find_weights


@dataclass(frozen=True)
class Followed:
    """How many uses of weights follow 2:4, and how many are stored as int8."""

    compliant: int
    quantised: int


def surviving(before: Model, after: Model) -> tuple[Followed, Followed]:
    """Of both models. Raises VerificationError where a node's weight followed 2:4 and does not any more."""
    found, nodes = [], []
    for model in (before, after):
        view = GraphView(model)
        rows = check(view, find_weights(view), TWO_OF_FOUR).rows
        int8 = str(TensorProto.DataType.Name(TensorProto.INT8))
        found.append(Followed(sum(row.compliant for row in rows), sum(row.dtype == int8 for row in rows)))
        nodes.append({row.node: row.compliant for row in rows})
    lost = [node for node, followed in nodes[0].items() if followed and not nodes[1].get(node, False)]
    if lost:
        raise VerificationError(
            f"{len(lost)} weights followed 2:4 and do not any more, such as that of {lost[0]}",
            remedy="please report this model",
        )
    return found[0], found[1]
