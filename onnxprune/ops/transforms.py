"""Signal and matrix transforms: what is transformed stays, the rest runs along."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.ops.spatial import freeze_axes


@rule("DFT", since=17)
def dft(node: NodeView, link: Link) -> None:
    """x [..., n, ..., 1 or 2] -> y [..., m, ..., 2] along `axis`: an attribute, and an input since opset 20."""
    x, y = node.x, node.y
    if node.opset < 20:
        transformed = node.axis("axis", 1)
    else:
        transformed = (node.ints(2) or [-2])[0] % x.rank
    stay = [transformed, x.rank - 1]
    link.same_axes(x, y, skip=stay)
    freeze_axes(link, x, stay, "a Fourier transform runs over it")
    freeze_axes(link, y, stay, "a Fourier transform runs over it")


@rule("STFT", since=17)
def stft(node: NodeView, link: Link) -> None:
    """signal [N, n, 1 or 2], window [l] -> y [N, frames, bins, 2]."""
    x, y = node.x, node.y
    link.same(x[0], y[0])
    for operand in (*node.inputs[1:], x, y):
        if operand is not None:
            skip = 1 if operand in (x, y) else 0
            freeze_axes(link, operand, range(skip, operand.rank), "a Fourier transform runs over it")


@rule("Det", since=11)
def det(node: NodeView, link: Link) -> None:
    """x [..., M, M] -> y [...]."""
    x, y = node.x, node.y
    if x.rank - 2 != y.rank:
        raise Decline("its output does not have its input's batch axes")
    for axis in range(y.rank):
        link.same(x[axis], y[axis])
    freeze_axes(link, x, [x.rank - 2, x.rank - 1], "a determinant is taken over it")
