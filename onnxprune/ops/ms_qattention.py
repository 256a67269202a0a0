"""com.microsoft's quantised attention and embedding, which ONNX Runtime's quantiser makes of the fused float ones."""

from __future__ import annotations

import math

from onnxprune.coupling.atoms import Decline, Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.normalization import MEAN_AND_VARIANCE
from onnxprune.ops.scales import ignore_scalars, size, zero_point

_THREE = 3  # queries, keys and values, one after the other
_MASK, _ZERO, _WEIGHT_ZERO, _PAST = 5, 6, 7, 8
_SEQUENCE = "sequence positions stay"


@rule("QAttention", domain=MICROSOFT)
def qattention(node: NodeView, link: Link) -> None:
    """Input [N, S, I], weight [I, 3 x heads x D], bias [3 x heads x D] -> output [N, S, heads x D].

    Scale and zero point of the weight are for all of it or by column. The past and present of keys and values are
    [2, N, heads, P, D]. A dim goes from queries, keys and values alike; its scores are a sum over dims, so that columns
    and biases of zero show it to be exact.
    """
    x, weight, y = node.x, node.input(1), node.y
    dims = link.fresh(_head_size(node))
    heads = link.fresh(node.attr("num_heads"))
    if node.attr("do_rotary", 0):
        raise Decline("its dims turn in pairs", "rotary embedding inside QAttention is not followed")
    ignore_scalars([node.input(3)])
    link.same(x[0], y[0])
    for operand in (x, y):
        link.freeze(operand[1], _SEQUENCE)
    link.contract(x, 2, weight[0], zero_point(node.optional(_ZERO)))
    for position in (1, 2, 4, _WEIGHT_ZERO):
        columns = node.optional(position)
        if columns is not None and size(columns) > 1:
            _link_thrice(columns, heads, dims, link)
        elif columns is not None:
            columns.ignore()
    link.factor(y[2], (len(heads), len(dims)), (heads, dims))
    link.contract(weight, 1, zero=node.optional(_WEIGHT_ZERO))
    link.contract(node.input(2), 0)
    for state in (node.optional(_PAST), node.output(1)):
        if state is not None:
            link.same(state[1], x[0])
            link.same(state[2], heads)
            link.freeze(state[3], _SEQUENCE)
            link.same(state[4], dims)
    link.tag(heads, "heads")
    link.tag(dims, "head_dims")


def _head_size(node: NodeView) -> int:
    weight, heads = node.input(1), node.attr("num_heads")
    if weight.rank != 2 or not heads:
        raise Decline("it does not state its heads, or has no matrix for its weight")
    joined = weight.shape[1]
    if joined % (_THREE * heads):
        raise Decline(f"{joined} columns do not hold queries, keys and values of {heads} heads")
    return int(joined // (_THREE * heads))


def _link_thrice(columns: Operand, heads: Ids, dims: Ids, link: Link) -> None:
    """The last axis holds the columns of queries, of keys and of values."""
    each = link.fresh(_THREE)
    link.freeze(each, "queries, keys and values stay", at=(columns.name, columns.rank - 1))
    link.factor(columns[-1], (_THREE, len(heads), len(dims)), (each, heads, dims))


@qattention.literals
def _(node: NodeView, edit: Rewrite) -> None:
    y, dense = node.y, _head_size(node)
    heads = len({int(index) // dense for index in edit.kept(y, 2)})
    edit.attr("num_heads", heads)
    if edit.shape(y)[2] // heads != dense and not node.attr("scale", 0.0):
        edit.pin("scale", 1.0 / math.sqrt(dense))


@qattention.macs
def _(node: NodeView) -> list[Work]:
    x, y = node.x, node.y
    past = node.optional(_PAST)
    total = x.shape[1] + (past.shape[3] if past is not None else 0)
    return [work(every(x), (node.input(1), 1)), work(every(y), factor=2 * total)]


@rule("QEmbedLayerNormalization", domain=MICROSOFT, mixes=MEAN_AND_VARIANCE)
def qembed_layer_normalization(node: NodeView, link: Link) -> None:
    """Ids [N, S] (and of segments), tables of words, positions and segments [., H], gamma and beta [H] -> [N, S, H].

    The tables' rows are addressed by data. Scales and zero points, one each, follow.
    """
    ids, y = node.x, node.y
    ignore_scalars(node.inputs[8:])
    for operand in (ids, node.optional(1), node.optional(7), y):
        if operand is not None:
            link.same(operand[0], ids[0])
            link.freeze(operand[1], _SEQUENCE)
    for position in (2, 3, 4):
        if (table := node.optional(position)) is not None:
            link.freeze(table[0], "its indices are addressed by data")
            link.same(table[1], y[2])
    for position in (5, 6):
        link.same(node.input(position)[0], y[2])
    if (lengths := node.output(1)) is not None:
        link.same(lengths[0], ids[0])
    link.mix(y[2], MEAN_AND_VARIANCE)
    link.tag(y[2], "width")
