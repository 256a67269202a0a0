"""com.microsoft's normalisations: with a residual added first, of embeddings, by groups, by branches, gated."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.elementwise import broadcast
from onnxprune.ops.ms_attention import STEPS
from onnxprune.ops.normalization import GROUPS, MEAN_AND_VARIANCE, MEAN_SQUARE, link_groups

_ROWS = "its rows are addressed by data"
_SKIP = {"SkipLayerNormalization": MEAN_AND_VARIANCE, "SkipSimplifiedLayerNormalization": MEAN_SQUARE}


@rule(*_SKIP, domain=MICROSOFT, mixes=_SKIP)
def skip_layer_normalization(node: NodeView, link: Link) -> None:
    """X [..., W] + skip (+ bias [W]), normalised over W with gamma and beta [W] -> Y, statistics [..., 1], the sum."""
    x, y = node.x, node.y
    link.same_axes(x, y)
    for operand in node.inputs[1:]:
        if operand is not None:
            broadcast(operand, y, link)
    for statistic in node.outputs[1:3]:
        if statistic is not None:
            for axis in range(statistic.rank - 1):
                link.same(statistic[axis], x[axis])
    if (total := node.output(3)) is not None:
        link.same_axes(total, x)
    link.mix(x[-1], _SKIP[node.op])
    if not (x.is_constant or node.input(1).is_constant):
        link.tag(x[-1], "width")


@rule("EmbedLayerNormalization", domain=MICROSOFT, mixes=MEAN_AND_VARIANCE)
def embed_layer_normalization(node: NodeView, link: Link) -> None:
    """Ids [N, S], tables of words, positions and segments [., W], gamma, beta [W] -> Y [N, S, W], and the sum alike."""
    ids, y = node.x, node.y
    for position in (0, 1, 7, 8):
        if (operand := node.optional(position)) is not None:
            if operand.shape[0] == ids.shape[0]:
                link.same(operand[0], ids[0])
            link.freeze(operand[1], STEPS)
    for total in (y, node.output(2)):
        if total is not None:
            link.same(total[0], ids[0])
            link.freeze(total[1], STEPS)
            link.same(total[2], y[2])
    if (words := node.output(1)) is not None:
        link.same(words[0], ids[0])
    for position in (2, 3, 4):
        if (table := node.optional(position)) is not None:
            link.freeze(table[0], _ROWS)
            link.same(table[1], y[2])
    for position in (5, 6):
        link.same(node.input(position)[0], y[2])
    link.mix(y[2], MEAN_AND_VARIANCE)
    link.tag(y[2], "width")


@rule("GroupNorm", "SkipGroupNorm", domain=MICROSOFT, mixes=GROUPS)
def group_norm(node: NodeView, link: Link) -> None:
    """X [N, H, W, C] (or, with `channels_last` 0, [N, C, H, W]), gamma and beta [C] -> Y alike, C = `groups` x members.

    A group goes as a whole and exactly. SkipGroupNorm adds skip, [N, C] or broadcast to X, and a bias [C] first.
    """
    x, channels = node.x, _channels(node)
    for y in node.outputs:
        if y is not None:
            link.same_axes(x, y)
    for vector in (node.input(1), node.input(2), node.optional(4)):
        if vector is not None:
            link.same(vector[0], x[channels])
    if (skip := node.optional(3)) is not None:
        _link_skip(skip, x, channels, link)
    link_groups(x, channels, _groups(node), link)


def _link_skip(skip: Operand, x: Operand, channels: int, link: Link) -> None:
    if skip.rank == x.rank:
        broadcast(skip, x, link)
    else:
        link.same(skip[0], x[0])
        link.same(skip[1], x[channels])


def _channels(node: NodeView) -> int:
    return node.x.rank - 1 if node.attr("channels_last", 1) else 1


def _groups(node: NodeView) -> int:
    groups = int(node.attr("groups", 0))
    if groups < 1:
        raise Decline(f"groups={groups}")
    return groups


@group_norm.literals
def _(node: NodeView, edit: Rewrite) -> None:
    channels = _channels(node)
    members = node.x.shape[channels] // _groups(node)
    edit.attr("groups", len(np.unique(edit.kept(node.x, channels) // members)))


@rule("GatedRMSNorm", domain=MICROSOFT, mixes=f"{MEAN_SQUARE}: dims inside a head, not whole heads")
def gated_rms_norm(node: NodeView, link: Link) -> None:
    """X and gate [..., H * C], scale [C] -> Y alike: each run of C is normalised by itself. Whole runs go exactly."""
    x, scale = node.x, node.input(1)
    link.same_axes(x, node.y)
    link.same_axes(x, node.input(2))
    _link_runs(x, x.shape[-1] // scale.shape[0], scale, link)


def _link_runs(x: Operand, runs: int, scale: Operand | None, link: Link) -> None:
    """The last axis of x is `runs` runs, each normalised by itself; a scale [C] is for all of them."""
    run, inside = link.fresh(runs), link.fresh(x.shape[-1] // runs)
    link.factor(x[-1], (len(run), len(inside)), (run, inside))
    if scale is not None:
        link.same(scale[0], inside if scale.shape[0] == len(inside) else x[-1])
    link.mix(inside, MEAN_SQUARE)


@rule("BranchwiseRMSNorm", domain=MICROSOFT, mixes=f"{MEAN_SQUARE}: dims inside a branch, not whole branches")
def branchwise_rms_norm(node: NodeView, link: Link) -> None:
    """X [..., C, H], or [..., C * H] with `num_branches`, scale [H], [C, H] or [C * H] -> Y: each branch by itself."""
    x, scale, branches = node.x, node.optional(1), node.attr("num_branches", 0)
    link.same_axes(x, node.y)
    if branches and (scale is None or scale.rank == 1):
        _link_runs(x, branches, scale, link)
        return
    if branches or x.rank < 2 or (scale is not None and scale.rank == 1 and scale.shape[0] != x.shape[-1]):
        raise Decline("its scale is laid out unlike its input")
    if scale is not None:
        broadcast(scale, x, link)
    link.mix(x[-1], MEAN_SQUARE)


@branchwise_rms_norm.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if branches := node.attr("num_branches", 0):
        edit.attr("num_branches", len(np.unique(edit.kept(node.x, -1) // (node.x.shape[-1] // branches))))
