"""What the operators on images [N, C, D1, ...] have in common: places of an image stay, channels go their own way."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link, Operand

SPATIAL = "spatial axis"


def freeze_axes(link: Link, x: Operand, axes: range | list[int], why: str, help: str = "") -> None:
    """Freeze some axes of one tensor for one reason."""
    for axis in axes:
        link.freeze(x[axis], why, help)


def link_image(x: Operand, y: Operand, link: Link) -> None:
    """Batch and channels of y are x's; the places in between are resampled, and stay."""
    link.same(x[0], y[0])
    link.same(x[1], y[1])
    for operand in (x, y):
        freeze_axes(link, operand, range(2, operand.rank), SPATIAL)
