"""Resampling of images: Resize and its predecessor Upsample, sampling at given places, cropping to a size."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.settings import settle
from onnxprune.ops.spatial import SPATIAL, freeze_axes, link_image

COORDINATES = "coordinates of places to sample at"
_ROI, _SCALES, _SIZES = 1, 2, 3  # input positions of Resize since opset 11


def _link_resized(x: Operand, y: Operand, resized: set[int], link: Link) -> None:
    for axis in range(x.rank):
        if axis in resized or x.shape[axis] != y.shape[axis]:
            freeze_axes(link, x, [axis], SPATIAL)
            freeze_axes(link, y, [axis], SPATIAL)
        else:
            link.same(x[axis], y[axis])


def _resize_axes(node: NodeView) -> list[int]:
    """The axes that scales, sizes and regions refer to: all, or `axes` since opset 18."""
    rank = node.x.rank
    return [axis % rank for axis in node.attr("axes", range(rank))]


def _resized(node: NodeView) -> set[int]:
    """Axes whose elements move or mix. Raises Decline where that is computed from data."""
    axes = _resize_axes(node)
    scales_at = _SCALES if node.opset >= 11 else 1
    scales, sizes = node.value(scales_at), None
    if scales is None or not scales.size:
        scales, sizes = None, node.ints(_SIZES)
    if scales is None and sizes is None:
        raise Decline("its scales are computed from data")
    if sizes is not None and node.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        return set(axes)  # one scale for all of them, found at run time
    mode = node.attr("coordinate_transformation_mode", "half_pixel")
    if mode == "tf_half_pixel_for_nn" and (
        node.attr("mode", "nearest") != "nearest" or "ceil" in node.attr("nearest_mode", "round_prefer_floor")
    ):
        return set(axes)  # half an element off, even at a scale of 1
    given = sizes if sizes is not None else scales.reshape(-1).tolist() if scales is not None else []
    if len(given) != len(axes):
        raise Decline(f"{len(given)} scales or sizes for {len(axes)} axes")
    whole = [node.x.shape[axis] if sizes is not None else 1 for axis in axes]
    moved = {axis for axis, now, before in zip(axes, given, whole, strict=True) if now != before}
    if mode == "tf_crop_and_resize":
        region = node.value(_ROI)
        if region is None or region.size != 2 * len(axes):
            return set(axes)
        start, end = region.reshape(2, -1).tolist()
        moved |= {axis for axis, low, high in zip(axes, start, end, strict=True) if (low, high) != (0, 1)}
    return moved


@rule("Resize", since=10)
def resize(node: NodeView, link: Link) -> None:
    """An axis whose scale is 1 (size unchanged, region whole) is x's own; the others are resampled and stay."""
    _link_resized(node.x, node.y, _resized(node), link)
    settle(node, link, range(1, len(node.inputs)), "one number per axis of an image")


@resize.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.opset >= 11 and (sizes := node.ints(_SIZES)):
        old, new = node.y.shape, edit.shape(node.y)
        # under a keep_aspect_ratio_policy the sizes may be others than y's; the axes are frozen then
        edit.want(
            _SIZES,
            [new[axis] if new[axis] != old[axis] else size
             for axis, size in zip(_resize_axes(node), sizes, strict=True)],
        )  # fmt: skip


@rule("Upsample")
def upsample_1(node: NodeView, link: Link) -> None:
    """Opset 1 scales the last two axes of a 4-D image."""
    _link_resized(node.x, node.y, {2, 3}, link)


@rule("Upsample", since=7)
def upsample_7(node: NodeView, link: Link) -> None:
    """A scale per axis, as an attribute, and as an input since opset 9."""
    scales = node.attr("scales") if "scales" in node.node.attrs else node.value(1)
    if scales is None:
        raise Decline("its scales are computed from data")
    _link_resized(node.x, node.y, {axis for axis, scale in enumerate(scales) if scale != 1}, link)
    settle(node, link, range(1, len(node.inputs)), "one number per axis of an image")


@rule("GridSample", since=16)
def grid_sample(node: NodeView, link: Link) -> None:
    """X [N, C, D1, ...], grid [N, d1, ..., r] -> Y [N, C, d1, ...]: every channel is sampled at the same places."""
    x, grid, y = node.x, node.input(1), node.y
    link_image(x, y, link)
    link.same(grid[0], y[0])
    freeze_axes(link, grid, range(1, grid.rank), "places to sample at")


@rule("AffineGrid", since=20, frozen=COORDINATES)
def affine_grid(node: NodeView, link: Link) -> None:
    """theta [N, 2, 3], size -> grid [N, H, W, 2]: coordinates, which are nobody's channels."""
    for operand in (node.x, node.y):
        freeze_axes(link, operand, range(operand.rank), COORDINATES)


@rule("CenterCropPad", since=18)
def center_crop_pad(node: NodeView, link: Link) -> None:
    """An axis that is not in `axes`, or has the wanted size already, is x's own; another moves with its length."""
    x, y = node.x, node.y
    axes = _resize_axes(node)
    varying = node.varying(1, len(node.ints(1) or []))
    resized = {axis for axis, unsure in zip(axes, varying, strict=True) if unsure or x.shape[axis] != y.shape[axis]}
    _link_resized(x, y, resized, link)


@center_crop_pad.literals
def _(node: NodeView, edit: Rewrite) -> None:
    new = edit.shape(node.y)
    edit.want(1, [new[axis] for axis in _resize_axes(node)])


@rule("ImageScaler")
def image_scaler(node: NodeView, link: Link) -> None:
    """Experimental before opset 10, ONNX Runtime still runs it: y = scale * x + bias per channel."""
    link.same_axes(node.x, node.y)


@image_scaler.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if edit.changed(node.x, 1):
        bias = node.attr("bias", [])
        edit.attr("bias", [bias[channel] for channel in edit.kept(node.x, 1).tolist()])
