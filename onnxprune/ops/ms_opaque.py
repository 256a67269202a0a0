"""Operators of com.microsoft that nothing is pruned through, each with the reason that a person reads."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.graph.contrib import MICROSOFT

_SEARCH = "it runs a whole decoder, which it carries, in a loop"
_HASH = "it hashes runs of tokens"
_STREAMS = "branches of hyper-connections are not followed"
_TEXT = "text has no channels"
REASONS = {
    "AttnLSTM": "an LSTM with an attention of its own, which is not followed",
    "BeamSearch": _SEARCH,
    "BifurcationDetector": "it compares tokens",
    "DynamicTimeWarping": "it gives out a path of places",
    "EngramGate": _STREAMS,
    "GreedySearch": _SEARCH,
    "HyperConnectionPostMix": _STREAMS,
    "HyperConnectionPreMix": _STREAMS,
    "MaxpoolWithMask": "its mask is read by place, whatever its shape",
    "NGramHashMapping": _HASH,
    "NGramRepeatBlock": "a score belongs to a word",
    "Sampling": _SEARCH,
    "SparseAttention": "which blocks a head attends to goes by its number",
    "SparseToDenseMatMul": "a sparse matrix is not cut",
    "Tokenizer": _TEXT,
    "Unique": "what it gives out depends on the data, in content and in length",
    "VarlenNGramHashMapping": _HASH,
    "WhisperBeamSearch": _SEARCH,
    "WordConvEmbedding": "it embeds words letter by letter, over windows",
}


@rule(*REASONS, domain=MICROSOFT, shapeless=True, frozen=REASONS)
def opaque(node: NodeView, link: Link) -> None:
    """All that the node touches stays."""
    raise Decline(REASONS[node.op])
