"""com.microsoft's mixtures of experts: whole experts, and the hidden units of all of them."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Ids, Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.spatial import freeze_axes

ROUTED = "the router chooses among the experts"
_FC1, _FC2, _FC3 = (2, 3), (4, 5), (6, 7)  # positions of weights and bias
_INTERLEAVED, _CONCATENATED = 1, 2
_ROUTERS = (1, 14)
_BY_EXPERT = tuple(position for position in range(2, 21) if position not in _ROUTERS)  # of QMoE
_PACKED = "its weights are packed in blocks"


@rule("MoE", domain=MICROSOFT, mixes=f"{ROUTED}, so the others' share changes where one goes; hidden units are exact")
def mixture(node: NodeView, link: Link) -> None:
    """X [..., W], router [T, E], fc1 [E, I, W] (and fc3 alike), fc2 [E, W, I], biases by expert -> Y like X.

    An expert goes from all; a hidden unit goes from every expert. A fused SwiGLU has 2 * I rows in fc1.
    """
    x, router, y = node.x, node.input(1), node.y
    w1, w2 = node.input(_FC1[0]), node.input(_FC2[0])
    link.same_axes(x, y)
    link.contract(x, -1, w1[2])
    link.same(w2[1], y[-1])
    freeze_axes(link, router, [0], "a row for each token")
    hidden, experts = w2[2], w2[0]
    link.contract(w2, 2)
    _link_halves(node, w1[1], hidden, link)
    for position in (_FC1[0], _FC1[1], _FC2[1], *_FC3):
        if (operand := node.optional(position)) is not None:
            link.same(operand[0], experts)
    if (bias := node.optional(_FC1[1])) is not None:
        _link_halves(node, bias[1], hidden, link)
    if (bias := node.optional(_FC2[1])) is not None:
        link.same(bias[1], y[-1])
    if (gate := node.optional(_FC3[0])) is not None:
        link.same(gate[1], hidden)
        link.same(gate[2], x[-1])
    if (bias := node.optional(_FC3[1])) is not None:
        link.same(bias[1], hidden)
    _link_router(node, router[1], experts, link)
    link.tag(hidden, "ffn")


def _link_router(node: NodeView, router: Ids, experts: Ids, link: Link) -> None:
    link.same(router, experts)
    if node.attr("use_sparse_mixer", 0):
        link.freeze(experts, "the sparse mixer is made for as many experts as there are")
    link.mix(experts, ROUTED)
    link.tag(experts, "experts")


def _link_halves(node: NodeView, rows: Ids, hidden: Ids, link: Link) -> None:
    """Rows of fc1 are hidden units, or two of them for each: neighbours, or one half after the other."""
    fused = node.attr("swiglu_fusion", 0)
    if len(rows) == len(hidden):
        link.same(rows, hidden)
    elif len(rows) == 2 * len(hidden) and fused in (_INTERLEAVED, _CONCATENATED):
        for half in (rows[0::2], rows[1::2]) if fused == _INTERLEAVED else (rows[: len(hidden)], rows[len(hidden) :]):
            link.same(half, hidden)
    else:
        raise Decline(f"{len(rows)} rows for {len(hidden)} hidden units")


@rule("QMoE", domain=MICROSOFT, mixes=f"{ROUTED}, so the others' share changes where one goes")
def quantised_mixture(node: NodeView, link: Link) -> None:
    """As MoE, with packed weights, their scales and zero points by expert: whole experts go."""
    x, y = node.x, node.y
    if node.attr("weights_prepacked", 0) == 1:
        raise Decline("its weights are laid out for one runtime")
    link.same_axes(x, y)
    experts = node.input(2)[0]
    for position in _BY_EXPERT:
        operand = node.optional(position)
        if operand is None:
            continue
        if operand.shape[0] == len(experts):
            link.same(operand[0], experts)
            freeze_axes(link, operand, range(1, operand.rank), _PACKED)
        else:
            freeze_axes(link, operand, range(operand.rank), _PACKED)
    for position in _ROUTERS:
        if (operand := node.optional(position)) is not None:
            freeze_axes(link, operand, [0], "a row for each token")
            _link_router(node, operand[1], experts, link)
    freeze_axes(link, y, [y.rank - 1], _PACKED)


@mixture.literals
@quantised_mixture.literals
def _(node: NodeView, edit: Rewrite) -> None:
    """No more experts can be chosen than are left."""
    chosen, left = node.attr("k", 1), edit.shape(node.input(1))[1]
    if chosen > left:
        edit.attr("k", left)


@mixture.macs
def _(node: NodeView) -> list[Work]:
    """`k` experts for each token."""
    rows, chosen = every(node.x, 0, -1), node.attr("k", 1)
    matrices = [node.optional(position) for position in (_FC1[0], _FC2[0], _FC3[0])]
    return [work(rows, every(w, 1), factor=chosen) for w in matrices if w is not None]
