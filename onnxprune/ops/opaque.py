"""Operators that nothing is pruned through, each with the reason that a person reads."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule

_SEQUENCE = "tensors in a sequence are not followed"
_OPTIONAL = "an optional value may be a tensor or nothing, known at run time only"
_STRING = "text has no channels"
_WINDOW = "a window function's values depend on its length"
_LOSS = "a loss compares every class with a label"
_REASONS = {
    "BlackmanWindow": _WINDOW,
    "HammingWindow": _WINDOW,
    "HannWindow": _WINDOW,
    "MelWeightMatrix": "a filter bank's values depend on its size",
    "ConcatFromSequence": _SEQUENCE,
    "SequenceAt": _SEQUENCE,
    "SequenceConstruct": _SEQUENCE,
    "SequenceEmpty": _SEQUENCE,
    "SequenceErase": _SEQUENCE,
    "SequenceInsert": _SEQUENCE,
    "SequenceLength": _SEQUENCE,
    "SequenceMap": _SEQUENCE,
    "SplitToSequence": _SEQUENCE,
    "Optional": _OPTIONAL,
    "OptionalGetElement": _OPTIONAL,
    "OptionalHasElement": _OPTIONAL,
    "StringNormalizer": _STRING,
    "StringSplit": _STRING,
    "TfIdfVectorizer": "its outputs are counts of n-grams, one per index",
    "ImageDecoder": "it gives the pixels of an encoded image",
    "NegativeLogLikelihoodLoss": _LOSS,
    "SoftmaxCrossEntropyLoss": _LOSS,
    "NonMaxSuppression": "it compares boxes and gives out their indices",
    "NonZero": "it gives out indices of elements, as many as the data has",
    "Unique": "what it gives out depends on the data, in content and in length",
}


@rule(*_REASONS, shapeless=True, frozen=_REASONS)
def opaque(node: NodeView, link: Link) -> None:
    """All that the node touches stays."""
    raise Decline(_REASONS[node.op])
