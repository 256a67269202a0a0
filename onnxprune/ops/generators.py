"""Operators that make tensors out of nothing, or out of a shape."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.ops.elementwise import DRAWN
from onnxprune.ops.settings import settle
from onnxprune.ops.spatial import freeze_axes

COUNT = "its elements count"
DIAGONAL = "the diagonal of an identity matrix runs over it"
_LISTS = ("value_floats", "value_ints")


@rule("Constant")
def constant(node: NodeView, link: Link) -> None:
    """A stored tensor: its readers say what its axes are."""
    held = next(iter(node.node.attrs), "")
    if held in ("sparse_value", "value_strings"):
        raise Decline(f"a constant held as {held} is not cut")
    node.y.ignore()


@constant.literals
def _(node: NodeView, edit: Rewrite) -> None:
    for name in _LISTS:
        if (values := node.attr(name)) is not None:
            edit.attr(name, [values[i] for i in edit.kept(node.y, 0).tolist()])


@rule("ConstantOfShape", since=9)
def constant_of_shape(node: NodeView, link: Link) -> None:
    """Every element is the same, so any index may go; the shape input follows."""
    y = node.y
    varying = node.varying(0, len(node.ints(0) or []))
    for axis, unsure in enumerate(varying):
        if unsure:
            link.freeze(y[axis], "its length depends on a dynamic dimension")
        else:
            y.ignore(axis)


@constant_of_shape.literals
def _(node: NodeView, edit: Rewrite) -> None:
    edit.want(0, edit.shape(node.y))


@rule("RandomNormal", "RandomUniform", mixes=DRAWN)
def drawn(node: NodeView, link: Link) -> None:
    """A tensor of the shape in the attribute. A smaller one holds other numbers, even from the same seed."""
    for axis in range(node.y.rank):
        link.mix(node.y[axis], DRAWN)


@drawn.literals
def _(node: NodeView, edit: Rewrite) -> None:
    edit.attr("shape", list(edit.shape(node.y)))


@rule("Multinomial", since=7, mixes=DRAWN)
def multinomial(node: NodeView, link: Link) -> None:
    """x [N, classes] -> y [N, samples], the class numbers that were drawn."""
    x, y = node.x, node.y
    link.same(x[0], y[0])
    link.mix(y[0], DRAWN)
    link.freeze(x[1], "its indices are given out as numbers of classes")
    link.freeze(y[1], "samples that were asked for")


@rule("Range", since=11, frozen=COUNT)
def range_(node: NodeView, link: Link) -> None:
    """Element i is start + i * delta: an index is worth its place."""
    link.freeze(node.y[0], COUNT)


@rule("EyeLike", since=9, frozen=DIAGONAL)
def eye_like(node: NodeView, link: Link) -> None:
    """The ones move with every row or column that goes."""
    for operand in (node.x, node.y):
        freeze_axes(link, operand, range(operand.rank), DIAGONAL)


@rule("Shape", "Size")
def sizes(node: NodeView, link: Link) -> None:
    """Recomputed from the tensor as it is after the edit."""
    node.x.ignore()
    node.y.ignore()


@rule("OneHot", since=9)
def one_hot(node: NodeView, link: Link) -> None:
    """y has the axes of the indices and, at `axis`, one of length depth."""
    indices, y = node.x, node.y
    at = node.axis("axis", -1, rank=y.rank)
    others = [axis for axis in range(y.rank) if axis != at]
    for mine, theirs in enumerate(others):
        link.same(indices[mine], y[theirs])
    link.freeze(y[at], "an index is a class")
    settle(node, link, (1, 2), "the depth, or the two values, of a one-hot encoding")
