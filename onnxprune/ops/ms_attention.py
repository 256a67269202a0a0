"""com.microsoft's attention on projections: MultiHeadAttention, and its form for decoding one step at a time.

Heads and the dims inside them are as in attention.py. What a mask is put on for the proof of exactness: zero in q (and
in the bias that is added to it), a dim adds nothing to any score. Specified in ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.atoms import Decline, Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.attention import count_heads, link_heads, link_scores

_PACKED = 5  # rank of queries, keys and values (or the last two) side by side: [N, S, heads, 3, head size]
_BY_HEAD = 4
STEPS = "sequence positions stay"
BESIDE = "queries, keys and values lie side by side"


@dataclass(frozen=True)
class _Places:
    """Positions of the optional inputs, which the two operators have in different order."""

    mask: int
    scores: int
    past: tuple[int, int]
    bias: int
    by_batch: tuple[int, ...]
    """Inputs of which the first axis is the batch, or that are one number."""


_PLACES = {
    "MultiHeadAttention": _Places(mask=4, scores=5, past=(6, 7), bias=3, by_batch=(8, 9)),
    "DecoderMaskedMultiHeadAttention": _Places(mask=3, scores=4, past=(5, 6), bias=10, by_batch=(7, 8, 9)),
}


@rule(*_PLACES, domain=MICROSOFT)
def multi_head_attention(node: NodeView, link: Link) -> None:
    """Q [N, S, H * D], K [N, L, H * D], V [N, L, H * E] -> Y [N, S, H * E], with H = `num_heads`.

    K and V may come by head, [N, H, L, .], or all as one tensor [N, S, H, 3, D] or [N, S, 3 * H * D], or K and V as
    [N, L, H, 2, D]. Past and present keys and values are [N, H, P, .]; a bias [(2 * D + E) * H] is added first.
    """
    places, y = _PLACES[node.op], node.y
    heads, dims, values = _fresh(node, link)
    q, k, v = node.x, node.optional(1), node.optional(2)
    for x, size in ((q, dims), (k, dims), (v, values), (y, values)):
        if x is not None:
            _link_projection(x, heads, size, link)
            link.same(x[0], q[0])
    for x in (q, k):
        if x is not None:
            link.contract(x, -1)
    if (bias := node.optional(places.bias)) is not None:
        link_parts(bias[0], heads, (dims, dims, values), link)
        link.contract(bias, 0)
    for x, size in zip(
        (*(node.optional(p) for p in places.past), node.output(1), node.output(2)), (dims, values) * 2, strict=True
    ):
        if x is not None:
            link_heads(x, heads, size, link)
            link.same(x[0], q[0])
    for scores in (node.optional(places.scores), node.output(3)):
        if scores is not None:
            link_scores(scores, q[0], heads, link)
    for position in (places.mask, *places.by_batch):
        link_mask(node.optional(position), q[0], link)
    link.tag(heads, "heads")
    link.tag(dims, "head_dims")
    link.tag(values, "head_dims")


def _fresh(node: NodeView, link: Link) -> tuple[Ids, Ids, Ids]:
    """Heads, dims of queries and keys, dims of values; these are the same where a tensor or a cache holds both."""
    q, k, v = node.x, node.optional(1), node.optional(2)
    if q.rank == _PACKED:
        heads, size = q.shape[2], q.shape[4]
    else:
        heads = stated_heads(node)
        size, rest = divmod(q.shape[2], heads * (1 if k is not None else 3))
        if rest:
            raise Decline(f"{q.name} of shape {q.shape} does not hold {heads} heads")
    each, dims = link.fresh(heads), link.fresh(size)
    cached = any(node.optional(position) is not None for position in _PLACES[node.op].past)
    if v is None or v.rank == _BY_HEAD or cached:  # a cache has room for values of the size of keys
        return each, dims, dims
    return each, dims, link.fresh(v.shape[2] // heads)


def stated_heads(node: NodeView, name: str = "num_heads") -> int:
    """The attribute that says how many heads there are. Raises Decline where it says nothing of use."""
    heads = int(node.attr(name, 0))
    if heads < 1:
        raise Decline(f"{name}={heads}")
    return heads


def _link_projection(x: Operand, heads: Ids, dims: Ids, link: Link) -> None:
    """A tensor that holds heads in one of its forms; see `multi_head_attention`."""
    if x.rank == _PACKED:
        link.freeze(x[1], STEPS)
        link.same(x[2], heads)
        link.freeze(x[3], BESIDE)
        link.same(x[4], dims)
    elif x.rank == _BY_HEAD - 1 and x.shape[2] == 3 * len(heads) * len(dims):
        link.freeze(x[1], STEPS)
        link_parts(x[2], heads, (dims,) * 3, link)
    elif count_heads(x, len(heads)) == len(heads):
        link_heads(x, heads, dims, link)
    else:
        raise Decline(f"{x.name} of shape {x.shape} does not hold {len(heads)} heads")


def link_parts(flat: Ids, heads: Ids, parts: tuple[Ids, ...], link: Link) -> None:
    """An axis of a run per part, each of all heads with that part's dims inside. Raises Decline where it is not."""
    if len(flat) != sum(len(heads) * len(dims) for dims in parts):
        raise Decline(f"an axis of {len(flat)} is not {len(heads)} heads of {[len(dims) for dims in parts]} dims")
    start = 0
    for dims in parts:
        size = len(heads) * len(dims)
        link.factor(flat[start : start + size], (len(heads), len(dims)), (heads, dims))
        start += size


def link_mask(mask: Operand | None, batch: Ids, link: Link) -> None:
    """A mask, or lengths: the batch comes first, and what follows are places in sequences."""
    if mask is None:
        return
    for axis in range(mask.rank):
        if axis == 0 and mask.shape[0] == len(batch):
            link.same(mask[0], batch)
        else:
            link.freeze(mask[axis], STEPS)
    if mask.rank and mask.shape[0] not in (1, len(batch)):
        link.freeze(batch, f"{mask.name} holds several numbers per sentence")


@multi_head_attention.literals
def _(node: NodeView, edit: Rewrite) -> None:
    heads = node.attr("num_heads")
    left = left_of(edit.kept(node.y, 2), heads, node.y.shape[2])
    edit.attr("num_heads", left)
    q, k = node.x, node.optional(1)
    before, after = q.shape[-1], edit.shape(q)[-1]
    if q.rank != _PACKED:
        together = 1 if k is not None else 3
        before, after = before // (heads * together), after // (left * together)
    pin_scale(node, before, after, edit)


def left_of(kept: np.ndarray, heads: int, width: int) -> int:
    """How many heads are left of an axis of `heads` equal runs, `width` long in all, of which `kept` stay."""
    return len(np.unique(kept // (width // heads)))


def pin_scale(node: NodeView, before: int, after: int, edit: Rewrite) -> None:
    """The scale is 1 / sqrt(head size) unless given (0 is not): fixed at its dense value where the size changes."""
    if before != after and not node.attr("scale", 0.0):
        edit.pin("scale", 1.0 / math.sqrt(before))


@multi_head_attention.macs
def _(node: NodeView) -> list[Work]:
    q, k, y = node.x, node.optional(1), node.y
    past = node.optional(_PLACES[node.op].past[0])
    length = q.shape[1] if k is None else k.shape[2 if k.rank == _BY_HEAD else 1]
    total = length + (past.shape[2] if past is not None else 0)
    together = 1 if k is not None else 3
    return [work(every(q), factor=total / together), work(every(y), factor=total)]
