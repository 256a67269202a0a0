"""com.microsoft's Attention, which makes queries, keys and values of its input by one matrix, and its packed form."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Ids, Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.attention import link_scores
from onnxprune.ops.ms_attention import BESIDE, STEPS, left_of, link_mask, link_parts, pin_scale, stated_heads
from onnxprune.ops.spatial import freeze_axes

_BIAS, _MASK, _PAST, _SCORES, _STEPS_PAST = 2, 3, 4, 5, 6  # input positions
_TURNED = "dims are turned by angles that follow from their place"


def _widths(node: NodeView) -> list[int]:
    """Of queries, keys and values in the columns of the weights."""
    given, columns = node.attr("qkv_hidden_sizes"), node.input(1).shape[1]
    widths = list(given) if given else [columns // 3] * 3
    heads = stated_heads(node)
    if sum(widths) != columns or widths[0] != widths[1] or any(width % heads for width in widths):
        raise Decline(f"{columns} columns are not {heads} heads of queries, keys and values ({widths})")
    return widths


@rule("Attention", domain=MICROSOFT)
def attention(node: NodeView, link: Link) -> None:
    """X [N, S, W], weights [W, H * (2 * D + E)], bias alike -> Y [N, S, H * E], with H = `num_heads`.

    `qkv_hidden_sizes` are H * D, H * D and H * E, where E is not D. Past and present are [2, N, H, P, D]. D is summed
    over inside: zero in the columns of the weights and in the bias, a dim adds nothing to any score.
    """
    x, past, present = node.x, node.optional(_PAST), node.output(1)
    for operand in (x, node.y):
        link.freeze(operand[1], STEPS)
    link.same(x[0], node.y[0])
    link_mask(node.optional(_MASK), x[0], link)
    link_mask(node.optional(_STEPS_PAST), x[0], link)
    heads, dims, values = _link_projection(node, x[0], link)
    for cache in (past, present):
        if cache is not None:
            link.freeze(cache[0], BESIDE)
            link.same(cache[1], x[0])
            link.same(cache[2], heads)
            link.freeze(cache[3], STEPS)
            link.same(cache[4], dims)
            link.same(dims, values)


def _link_projection(node: NodeView, batch: Ids, link: Link) -> tuple[Ids, Ids, Ids]:
    """Weights and bias, the output's last axis, and scores that are added; gives heads, dims of keys and of values."""
    x, w, y, widths = node.x, node.input(1), node.y, _widths(node)
    heads = link.fresh(node.attr("num_heads"))
    dims, values = link.fresh(widths[0] // len(heads)), link.fresh(widths[2] // len(heads))
    if node.attr("do_rotary", 0):
        link.freeze(dims, _TURNED, at=(w.name, 1))
    link.contract(x, -1, w[0])
    for columns in (w, node.optional(_BIAS)):
        if columns is not None:
            link_parts(columns[-1], heads, (dims, dims, values), link)
            link.contract(columns, -1)
    link.factor(y[-1], (len(heads), len(values)), (heads, values))
    if (scores := node.optional(_SCORES)) is not None:
        link_scores(scores, batch, heads, link)
    for ids, word in ((heads, "heads"), (dims, "head_dims"), (values, "head_dims")):
        link.tag(ids, word)
    return heads, dims, values


@rule("PackedAttention", domain=MICROSOFT)
def packed_attention(node: NodeView, link: Link) -> None:
    """As Attention, on X [tokens, W] -> Y [tokens, H * E]: the words of all sentences one after another."""
    x, y = node.x, node.y
    for operand in (x, y):
        link.freeze(operand[0], STEPS)
    offsets, ends = node.input(3), node.input(4)
    for operand in (offsets, ends):
        freeze_axes(link, operand, range(operand.rank), "where sentences begin and end")
    _link_projection(node, offsets[0], link)


@attention.literals
@packed_attention.literals
def _(node: NodeView, edit: Rewrite) -> None:
    heads, widths, w = node.attr("num_heads"), _widths(node), node.input(1)
    kept = edit.kept(w, 1)
    left = [int(((kept >= start) & (kept < start + n)).sum()) for start, n in _runs(widths)]
    count = left_of(kept[kept < widths[0]], heads, widths[0])
    edit.attr("num_heads", count)
    if node.attr("qkv_hidden_sizes") or left[0] != left[2]:
        edit.attr("qkv_hidden_sizes", left)
    pin_scale(node, widths[0] // heads, left[0] // count, edit)


def _runs(widths: list[int]) -> list[tuple[int, int]]:
    return [(sum(widths[:k]), width) for k, width in enumerate(widths)]


@attention.macs
@packed_attention.macs
def _(node: NodeView) -> list[Work]:
    x, w, y = node.x, node.input(1), node.y
    past = node.optional(_PAST) if node.op == "Attention" else None
    total = x.shape[-2] + (past.shape[3] if past is not None else 0)
    return [work(every(x), (w, 1)), work(every(y), factor=2 * total)]
