"""ONNX Runtime's layouts for one kind of CPU: channels lie in blocks of 8 or 16, and nothing is pruned through them."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule

BLOCKED = "com.microsoft.nchwc"
_OPS = (
    "AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReorderInput", "ReorderOutput", "Upsample"
)  # fmt: skip
_WHY = "channels lie in blocks of 8 or 16, laid out for this machine's CPU"


@rule(*_OPS, domain=BLOCKED, shapeless=True, frozen=_WHY)
def blocked(node: NodeView, link: Link) -> None:
    """All that the node touches stays."""
    raise Decline(_WHY, "prune the model as it was before ONNX Runtime optimised it at level ALL")
