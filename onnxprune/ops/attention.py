"""Attention and rotary embedding as operators of their own (ONNX opset 23 and later), fused or by head."""

from __future__ import annotations

import math

from onnxprune.coupling.atoms import Decline, Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite

_MASK, _PAST_KEY, _PAST_VALUE, _LENGTHS = 3, 4, 5, 6  # positions of Attention's optional inputs
_BY_HEAD = 4  # rank of [N, heads, S, head size]; rank 3 is [N, S, heads * head size]


def count_heads(x: Operand, count: int | None) -> int:
    """Number of heads of a tensor that states them in its shape, or else has `count` of them."""
    if x.rank == _BY_HEAD:
        return x.shape[1]
    if x.rank != _BY_HEAD - 1 or not count or x.shape[2] % count:
        raise Decline(f"{x.name} of shape {x.shape} does not hold {count} heads")
    return count


def link_heads(x: Operand, heads: Ids, dims: Ids, link: Link) -> None:
    """The heads of `x` and the dims inside each are `heads` and `dims`; sequence positions stay."""
    if x.rank == _BY_HEAD:
        link.same(x[1], heads)
        link.same(x[3], dims)
        link.freeze(x[2], "sequence positions stay")
    else:
        link.factor(x[2], (len(heads), len(dims)), (heads, dims))
        link.freeze(x[1], "sequence positions stay")


def kept_heads(x: Operand, heads: int, edit: Rewrite) -> int:
    """How many heads are left of a tensor [N, S, heads * head size]."""
    size = x.shape[2] // heads
    return len({int(index) // size for index in edit.kept(x, 2)})


@rule("Attention", since=23)
def attention(node: NodeView, link: Link) -> None:
    """Q [N, Hq, S, D], K [N, Hkv, T, D], V [N, Hkv, T, E] -> Y [N, Hq, S, E], each also as [N, S, heads * size].

    The past and present of keys and values [N, Hkv, P, .] are by head. Hq = Hkv x repeats: a key-value head takes its
    queries along, or the same member of every key-value head goes. D is summed over by the scores, and exact.
    """
    q, k, v, y = node.x, node.input(1), node.input(2), node.y
    queries, shared = count_heads(q, node.attr("q_num_heads")), count_heads(k, node.attr("kv_num_heads"))
    if queries % shared or count_heads(v, node.attr("kv_num_heads")) != shared:
        raise Decline(f"{queries} heads of queries do not share {shared} heads of keys and values")
    width = q.shape[3] if q.rank == _BY_HEAD else q.shape[2] // queries
    depth = v.shape[3] if v.rank == _BY_HEAD else v.shape[2] // shared
    query_heads, value_heads = link.fresh(queries), link.fresh(shared)
    dims, values = link.fresh(width), link.fresh(depth)
    link.factor(query_heads, (shared, queries // shared), (value_heads, link.fresh(queries // shared)))
    by_value_head: list[tuple[Operand | None, Ids]] = [
        (k, dims), (v, values), (node.optional(_PAST_KEY), dims), (node.optional(_PAST_VALUE), values),
        (node.output(1), dims), (node.output(2), values),
    ]  # fmt: skip
    for x, size in by_value_head:
        if x is not None:
            link_heads(x, value_heads, size, link)
            link.same(x[0], q[0])
    for x, size in ((q, dims), (y, values)):
        link_heads(x, query_heads, size, link)
        link.same(x[0], q[0])
    link.contract(q, -1)
    link.contract(k, -1)
    for scores in (node.optional(_MASK), node.output(3)):
        if scores is not None:
            link_scores(scores, q[0], query_heads, link)
    if (lengths := node.optional(_LENGTHS)) is not None:
        link.same(lengths[0], q[0])
    link.tag(query_heads, "heads")
    link.tag(value_heads, "heads")
    link.tag(dims, "head_dims")
    link.tag(values, "head_dims")


def link_scores(scores: Operand, batch: Ids, heads: Ids, link: Link) -> None:
    """A tensor that broadcasts to [N, Hq, S, T]."""
    for axis in range(scores.rank):
        aligned = axis - scores.rank
        if scores.shape[axis] == 1:
            scores.ignore(axis)
        elif aligned == -4:
            link.same(scores[axis], batch)
        elif aligned == -3:
            link.same(scores[axis], heads)
        else:
            link.freeze(scores[axis], "sequence positions stay")


@attention.literals
def _(node: NodeView, edit: Rewrite) -> None:
    q, k = node.x, node.input(1)
    queries, shared = count_heads(q, node.attr("q_num_heads")), count_heads(k, node.attr("kv_num_heads"))
    width = q.shape[3] if q.rank == _BY_HEAD else q.shape[2] // queries
    if q.rank == _BY_HEAD:
        left, left_width = edit.shape(q)[1], edit.shape(q)[3]
    else:
        left = kept_heads(q, queries, edit)
        left_width = edit.shape(q)[2] // left
    if node.attr("q_num_heads") is not None:
        edit.attr("q_num_heads", left)
    if node.attr("kv_num_heads") is not None:
        edit.attr("kv_num_heads", edit.shape(k)[1] if k.rank == _BY_HEAD else kept_heads(k, shared, edit))
    if left_width != width and node.attr("scale") is None:
        edit.pin("scale", 1.0 / math.sqrt(width))


@attention.macs
def _(node: NodeView) -> list[Work]:
    k, past = node.input(1), node.optional(_PAST_KEY)
    total = k.shape[2 if k.rank == _BY_HEAD else 1] + (past.shape[2] if past is not None else 0)
    return [work(every(node.x), factor=total), work(every(node.y), factor=total)]


@rule("RotaryEmbedding", since=23)
def rotary_embedding(node: NodeView, link: Link) -> None:
    """X [N, heads, S, D] or [N, S, heads * D] -> Y alike; cos and sin [positions, R / 2] or [N, S, R / 2].

    The first R of the D dims (all where `rotary_embedding_dim` is 0) turn in pairs, (i, i + R / 2) or, interleaved,
    (2 i, 2 i + 1), by column i of the caches: pairs stay pairs. The head size must be even, so what is not turned
    goes in twos as well.
    """
    x, y = node.x, node.y
    count = count_heads(x, node.attr("num_heads"))
    size = x.shape[3] if x.rank == _BY_HEAD else x.shape[2] // count
    turned = node.attr("rotary_embedding_dim", 0) or size
    if turned % 2 or turned > size:
        raise Decline(f"{turned} of {size} dims do not turn in pairs")
    heads, dims = link.fresh(count), link.fresh(size)
    for operand in (x, y):
        link_heads(operand, heads, dims, link)
    link.same(x[0], y[0])
    pairs = link_pairs(dims, turned, bool(node.attr("interleaved", 0)), link)
    by_position = node.optional(3) is not None
    for cache in (node.input(1), node.input(2)):
        if cache.shape[-1] != turned // 2:
            raise Decline(f"{cache.name} has {cache.shape[-1]} columns for {turned // 2} pairs")
        link.same(cache[-1], pairs)
        if by_position:
            link.freeze(cache[0], "positions stay")
        else:
            link.same(cache[0], x[0])
            link.freeze(cache[1], "sequence positions stay")
    if (positions := node.optional(3)) is not None:
        link.same(positions[0], x[0])
        link.freeze(positions[1], "sequence positions stay")
    link.tag(heads, "heads")
    link.tag(dims, "head_dims")


def link_pairs(dims: Ids, turned: int, interleaved: bool, link: Link) -> Ids:
    """The first `turned` dims stay pairs, the rest of an even number goes in twos; gives one dim of each pair."""
    if interleaved:
        first, second = dims[0:turned:2], dims[1:turned:2]
    else:
        first, second = dims[: turned // 2], dims[turned // 2 : turned]
    link.same(first, second)
    if len(dims) % 2 == 0:
        link.same(dims[turned::2], dims[turned + 1 :: 2])
    return first


@rotary_embedding.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("num_heads") and node.x.rank != _BY_HEAD:
        edit.attr("num_heads", kept_heads(node.x, node.attr("num_heads"), edit))
    elif node.attr("num_heads"):
        edit.attr("num_heads", edit.shape(node.x)[1])
    if node.attr("rotary_embedding_dim", 0):
        edit.attr("rotary_embedding_dim", 2 * edit.shape(node.input(1))[-1])
