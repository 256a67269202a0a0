"""com.microsoft's rotary embeddings: pairs of dims are turned by angles, one a position; pairs stay pairs."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Ids, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.attention import kept_heads, link_heads, link_pairs
from onnxprune.ops.ms_attention import STEPS

_BY_HEAD = 4
_STREAMS = "positions in time, height and width"


def _sizes(node: NodeView) -> tuple[int, int, int]:
    """Heads, head size, and how many of its dims are turned; the caches (inputs 2 and 3) tell what is not stated."""
    x, columns = node.x, node.input(2).shape[1]
    turned = node.attr("rotary_embedding_dim", 0) or 2 * columns
    if x.rank == _BY_HEAD:
        heads, size = x.shape[1], x.shape[3]
    else:
        heads = node.attr("num_heads", 0) or x.shape[2] // (2 * columns)
        size = x.shape[2] // max(heads, 1)
    if x.rank not in (_BY_HEAD - 1, _BY_HEAD) or heads * size not in (x.shape[-1], x.shape[1] * x.shape[-1]):
        raise Decline(f"{x.name} of shape {x.shape} does not hold {heads} heads")
    if turned != 2 * columns or turned > size:
        raise Decline(f"{columns} columns of angles do not turn {turned} of {size} dims")
    return heads, size, turned


@rule("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(node: NodeView, link: Link) -> None:
    """X [N, heads, S, D] or [N, S, heads * D], positions [N, S] or [1], cos and sin [P, R / 2] -> Y like X.

    The first R dims turn, (i, i + R / 2) or, interleaved, (2 i, 2 i + 1) as pairs.
    """
    _link(node, link)
    positions = node.input(1)
    for axis in range(positions.rank):
        link.freeze(positions[axis], STEPS)


def _link(node: NodeView, link: Link) -> Ids:
    """What all forms have in common; gives one dim of each pair."""
    heads, size, turned = _sizes(node)
    each, dims = link.fresh(heads), link.fresh(size)
    for operand in (node.x, node.y):
        link_heads(operand, each, dims, link)
    link.same(node.x[0], node.y[0])
    pairs = link_pairs(dims, turned, bool(node.attr("interleaved", 0)), link)
    for cache in (node.input(2), node.input(3)):
        link.freeze(cache[0], "positions stay")
        link.same(cache[1], pairs)
    link.tag(each, "heads")
    link.tag(dims, "head_dims")
    return pairs


@rule("MRotaryEmbedding", domain=MICROSOFT)
def multimodal_rotary_embedding(node: NodeView, link: Link) -> None:
    """As RotaryEmbedding, with three streams of positions [3, N, S] that turn sections of the pairs.

    Where sections follow each other, their lengths do; where they take turns, a pair's place says whose it is.
    """
    pairs = _link(node, link)
    positions = node.input(1)
    link.freeze(positions[0], _STREAMS)
    link.same(positions[1], node.x[0])
    link.freeze(positions[2], STEPS)
    if node.attr("mrope_layout", 0):
        link.freeze(pairs, f"{_STREAMS} take turns from pair to pair", at=(node.x.name, node.x.rank - 1))


@rotary_embedding.literals
def _(node: NodeView, edit: Rewrite) -> None:
    _rewrite(node, edit)


def _rewrite(node: NodeView, edit: Rewrite) -> None:
    if heads := node.attr("num_heads", 0):
        edit.attr("num_heads", edit.shape(node.x)[1] if node.x.rank == _BY_HEAD else kept_heads(node.x, heads, edit))
    if node.attr("rotary_embedding_dim", 0):
        edit.attr("rotary_embedding_dim", 2 * edit.shape(node.input(2))[1])


@multimodal_rotary_embedding.literals
def _(node: NodeView, edit: Rewrite) -> None:
    _rewrite(node, edit)
    kept, start, left = edit.kept(node.input(2), 1), 0, []
    for length in node.attr("mrope_section"):
        left.append(int(((kept >= start) & (kept < start + length)).sum()))
        start += length
    if not node.attr("mrope_layout", 0):
        edit.attr("mrope_section", left)
