"""com.microsoft's GroupQueryAttention: heads of queries share heads of keys and values, which are kept in a cache."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Decline, Ids, Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.attention import link_heads, link_pairs, link_scores
from onnxprune.ops.ms_attention import STEPS, left_of, link_mask, pin_scale, stated_heads
from onnxprune.ops.normalization import MEAN_SQUARE

BLOCK = 8
_PAST, _LENGTHS, _TOTAL, _CACHES, _POSITIONS = (3, 4), 5, 6, (7, 8), 9  # input positions
_SCORES, _SINK, _NORMS = 10, 11, (14, 15)


@rule("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(node: NodeView, link: Link) -> None:
    """Q [N, S, H * D], K and V [N, S, G * D], or all as one [N, S, (H + 2 * G) * D] -> Y [N, S, H * D].

    Past and present [N, G, P, D] are by the shared heads G = `kv_num_heads`; each takes its H / G queries along, or the
    same member of every shared head goes. The runtime takes head sizes that are multiples of 8, and turns pairs of dims
    (by cos and sin [positions, R / 2]) in eights: dims go in such blocks.
    """
    q, k, v, y = node.x, node.optional(1), node.optional(2), node.y
    if any(node.attr(f"{n}_quant_type", "NONE") != "NONE" for n in "kv"):
        raise Decline("its cache is quantised", "prune the model before its cache is quantised")
    queries, shared, size = _sizes(node)
    each, group, dims = link.fresh(queries), link.fresh(shared), link.fresh(size)
    repeats = queries // shared
    link.factor(each, (shared, repeats), (group, link.fresh(repeats)))
    if k is None or v is None:
        link.freeze(q[1], STEPS)
        for heads, start in ((each, 0), (group, queries * size), (group, (queries + shared) * size)):
            link.factor(q[2][start : start + len(heads) * size], (len(heads), size), (heads, dims))
    for x, heads in ((q if k is not None else None, each), (k, group), (v, group), (y, each)):
        if x is not None:
            link_heads(x, heads, dims, link)
            link.same(x[0], q[0])
    for x in (q, k):
        if x is not None:
            link.contract(x, 2)
    for x in (*(node.optional(p) for p in _PAST), node.output(1), node.output(2)):
        if x is not None:
            link_heads(x, group, dims, link)
            link.same(x[0], q[0])
    for scores in (node.optional(_SCORES), node.output(3)):
        if scores is not None:
            link_scores(scores, q[0], each, link)
    for position in (_LENGTHS, _TOTAL, _POSITIONS):
        link_mask(node.optional(position), q[0], link)
    if (sink := node.optional(_SINK)) is not None:
        link.same(sink[0], each)
    for position in _NORMS:
        if (weight := node.optional(position)) is not None:
            link.same(weight[0], dims)
            link.mix(dims, MEAN_SQUARE)
    _link_blocks(node, dims, link)
    for ids, word in ((each, "heads"), (group, "heads"), (dims, "head_dims")):
        link.tag(ids, word)


def _sizes(node: NodeView) -> tuple[int, int, int]:
    """Heads of queries, shared heads, head size."""
    q, k = node.x, node.optional(1)
    queries, shared = stated_heads(node), stated_heads(node, "kv_num_heads")
    together = queries if k is not None else queries + 2 * shared
    if queries % shared or q.rank != 3 or q.shape[2] % together:
        raise Decline(f"{q.name} of shape {q.shape} does not hold {queries} heads that share {shared}")
    return queries, shared, q.shape[2] // together


def _link_blocks(node: NodeView, dims: Ids, link: Link) -> None:
    """Dims go eight by eight; where they are turned, eight pairs go, and of what is not turned sixteen dims."""
    caches = [node.input(position) for position in _CACHES] if node.attr("do_rotary", 0) else []
    if not caches:
        _in_blocks(node, dims, BLOCK, link)
        return
    turned = 2 * caches[0].shape[1]
    if turned > len(dims):
        raise Decline(f"{turned} of {len(dims)} dims are turned")
    pairs = link_pairs(dims, turned, bool(node.attr("rotary_interleaved", 0)), link)
    _in_blocks(node, pairs, BLOCK, link)
    _in_blocks(node, dims[turned:], 2 * BLOCK, link)
    for cache in caches:
        link.freeze(cache[0], "positions stay")
        link.same(cache[1], pairs)


def _in_blocks(node: NodeView, dims: Ids, block: int, link: Link) -> None:
    why = f"head sizes are multiples of {block}"
    if len(dims) % block:
        link.freeze(dims, why, at=(node.x.name, 2))
    elif len(dims):
        inside = link.fresh(block)
        link.freeze(inside, why, f"{block} dims can go together", at=(node.x.name, 2))
        link.factor(dims, (len(dims) // block, block), (link.fresh(len(dims) // block), inside))


@group_query_attention.literals
def _(node: NodeView, edit: Rewrite) -> None:
    queries, _, size = _sizes(node)
    left = left_of(edit.kept(node.y, 2), queries, queries * size)
    edit.attr("num_heads", left)
    edit.attr("kv_num_heads", _shared_left(node, edit))
    pin_scale(node, size, edit.shape(node.y)[2] // left, edit)


def _shared_left(node: NodeView, edit: Rewrite) -> int:
    queries, shared, size = _sizes(node)
    if (k := node.optional(1)) is not None:
        return left_of(edit.kept(k, 2), shared, shared * size)
    kept = edit.kept(node.x, 2)
    keys = kept[(kept >= queries * size) & (kept < (queries + shared) * size)]
    return len(np.unique(keys // size))


@group_query_attention.macs
def _(node: NodeView) -> list[Work]:
    past = node.optional(_PAST[0])
    total = node.x.shape[1] + (past.shape[2] if past is not None else 0)
    return [work(every(node.y), factor=2 * total)]
