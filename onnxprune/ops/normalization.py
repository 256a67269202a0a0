"""Normalisations. Per-channel statistics leave channels exact; a statistic that runs over an axis mixes it.

Where axes after the channels carry members of a group (GroupNorm spelled as Reshape, InstanceNormalization,
Reshape), mixing them marks those members alone; where they are spatial, other operators freeze them.
"""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Decline, Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.elementwise import broadcast

MEAN_AND_VARIANCE = "mean and variance are taken over it"
MEAN_SQUARE = "the mean square is taken over it"
NEIGHBOURS = "squares of neighbouring channels are summed"
GROUPS = f"{MEAN_AND_VARIANCE}: members of a group, not whole groups"
_LAYER = {
    "LayerNormalization": MEAN_AND_VARIANCE,
    "RMSNormalization": MEAN_SQUARE,
    "SimplifiedLayerNormalization": MEAN_SQUARE,
}


@rule("BatchNormalization", in_training=f"all but channels: {MEAN_AND_VARIANCE}")
def batch_normalization(node: NodeView, link: Link) -> None:
    """X [N, C, ...]; scale, B, mean, var [C] -> Y, and statistics [C] in training.

    Inference applies stored numbers per channel. In training each channel has its own statistics, over N and the
    spatial axes: channels stay exact, the other axes mix. Before opset 9, spatial=0 gives each spatial place parameters
    of its own, [C, ...]. A vector X [N] has one channel.
    """
    x, y = node.x, node.y
    link.same_axes(x, y)
    for vector in (*node.inputs[1:], *node.outputs[1:]):
        if vector is not None and x.rank > 1:
            for axis in range(vector.rank):
                link.same(vector[axis], x[1 + axis])
    if _batch_statistics(node):
        for axis in range(x.rank):
            if axis != 1:
                link.mix(x[axis], MEAN_AND_VARIANCE)


def _batch_statistics(node: NodeView) -> bool:
    """Whether the batch's own statistics are used: an attribute from opset 14 on, extra outputs before."""
    return bool(node.attr("training_mode", 0)) or any(node.node.outputs[1:])


@rule("InstanceNormalization", mixes=f"all but channels: {MEAN_AND_VARIANCE}")
def instance_normalization(node: NodeView, link: Link) -> None:
    """X [N, C, ...], scale [C], B [C] -> Y: statistics per instance and channel, over the other axes."""
    x, y = node.x, node.y
    link.same_axes(x, y)
    for position in (1, 2):
        link.same(node.input(position)[0], x[1])
    for axis in range(2, x.rank):
        link.mix(x[axis], MEAN_AND_VARIANCE)


@rule("GroupNormalization", since=18, mixes=GROUPS)
def group_normalization(node: NodeView, link: Link) -> None:
    """X [N, C, ...], scale and bias [groups] (opset 18) or [C] (opset 21) -> Y, C = groups x members.

    A group goes as a whole and exactly; a member goes from every group, and their statistics change.
    """
    x, groups = node.x, _groups(node)
    link.same_axes(x, node.y)
    group = link_groups(x, 1, groups, link)
    for position in (1, 2):
        vector = node.input(position)
        if vector.shape == (x.shape[1],):
            link.same(vector[0], x[1])
        elif vector.shape == (groups,):
            if groups > 1:
                link.same(vector[0], group)
        else:
            raise Decline(f"{vector.name} has shape {vector.shape}, neither [{groups}] nor [{x.shape[1]}]")


def link_groups(x: Operand, channels: int, groups: int, link: Link) -> Ids:
    """Statistics run over the members of each of `groups` groups of channels, and over all other axes but the first.

    Gives the groups.
    """
    members = x.shape[channels] // groups
    group, member = link.fresh(groups), link.fresh(members)
    link.factor(x[channels], (groups, members), (group, member))
    if members > 1:
        link.mix(member, MEAN_AND_VARIANCE)
    for axis in range(1, x.rank):
        if axis != channels:
            link.mix(x[axis], MEAN_AND_VARIANCE)
    return group


@group_normalization.literals
def _(node: NodeView, edit: Rewrite) -> None:
    members = node.x.shape[1] // _groups(node)
    edit.attr("num_groups", len(np.unique(edit.kept(node.x, 1) // members)))


def _groups(node: NodeView) -> int:
    groups = int(node.attr("num_groups", 0))
    if groups < 1:
        raise Decline(f"num_groups={groups}")
    return groups


@rule(*_LAYER, mixes=_LAYER)
def layer_normalization(node: NodeView, link: Link) -> None:
    """X; scale, B broadcast to X -> Y. Statistics run from `axis` on; Mean and InvStdDev are 1 long there.

    SimplifiedLayerNormalization is what ONNX Runtime calls RMSNormalization, and it keeps it in ai.onnx's domain.
    """
    x, y = node.x, node.y
    start = node.axis("axis", -1)
    link.same_axes(x, y)
    for parameter in node.inputs[1:]:
        if parameter is not None:
            broadcast(parameter, y, link)
    for statistic in node.outputs[1:]:
        if statistic is not None:
            for axis in range(start):
                link.same(statistic[axis], x[axis])
    for axis in range(start, x.rank):
        link.mix(x[axis], _LAYER[node.op])


@rule("LpNormalization")
def lp_normalization(node: NodeView, link: Link) -> None:
    """y = x / norm(x, axis), p = 1 or 2. A zero adds nothing to a norm: the axis is summed over, so exact."""
    x, y, axis = node.x, node.y, node.axis("axis", -1)
    link.same_axes(x, y)
    link.contract(x, axis)


@rule("MeanVarianceNormalization", mixes=MEAN_AND_VARIANCE)
def mean_variance_normalization(node: NodeView, link: Link) -> None:
    """y = (x - mean) / deviation, both over `axes` ([0, 2, 3] unless given)."""
    x, y = node.x, node.y
    link.same_axes(x, y)
    for axis in node.attr("axes") or (0, 2, 3):
        link.mix(x[axis], MEAN_AND_VARIANCE)


@rule("LRN", mixes=NEIGHBOURS)
def local_response_normalization(node: NodeView, link: Link) -> None:
    """X [N, C, ...] -> Y: each channel is divided by a power of the squares of its neighbours in C.

    Channels may go: the window then holds the nearest ones that stay. A statistic changes, no more, so they
    mix; to freeze would keep AlexNet's and GoogLeNet's first stages whole for a factor close to constant.
    """
    x, y = node.x, node.y
    link.same_axes(x, y)
    link.mix(x[1], NEIGHBOURS)
