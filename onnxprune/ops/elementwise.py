"""Operators that act on each element: activations, arithmetic, comparisons, logic, casts. All are exact."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule

DRAWN = "random numbers are drawn over it"
UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Cos", "Cosh",
    "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu",
    "Log", "Mish", "Neg", "Not", "Reciprocal", "RegexFullMatch", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
BROADCASTING = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "StringConcat", "Sub", "Sum",
    "SwiGLU", "Where", "Xor",
)  # fmt: skip


@rule(*UNARY)
def unary(node: NodeView, link: Link) -> None:
    """y has x's axes."""
    link.same_axes(node.x, node.y)


@rule("Clip", "CastLike", "BitCast")
def first_input_only(node: NodeView, link: Link) -> None:
    """y has x's axes; further inputs are scalars, or only lend their type."""
    link.same_axes(node.x, node.y)
    for other in node.inputs[1:]:
        if other is not None:
            other.ignore()


@rule("Dropout", in_training=DRAWN)
def dropout(node: NodeView, link: Link) -> None:
    """y and the mask have x's axes. In training, what stays of a smaller tensor draws other random numbers."""
    for y in node.outputs:
        if y is not None:
            link.same_axes(node.x, y)
    for other in node.inputs[1:]:
        if other is not None:
            other.ignore()
    if node.optional(2) is not None:
        training = node.value(2)
        if training is None or training.any():
            for axis in range(node.x.rank):
                link.mix(node.x[axis], DRAWN)


def broadcast(x: Operand, y: Operand, link: Link) -> None:
    """Link `x` to the output of a broadcasting operator: axes match from the back, those of length 1 are skipped."""
    for axis in range(x.rank):
        mine, theirs = axis, axis + y.rank - x.rank
        if x.shape[mine] == 1:
            x.ignore(mine)
        elif x.shape[mine] == y.shape[theirs]:
            link.same(x[mine], y[theirs])
        else:
            raise Decline(f"{x.name} of shape {x.shape} does not broadcast to {y.shape}")


@rule(*BROADCASTING)
def broadcasting(node: NodeView, link: Link) -> None:
    """Multidirectional broadcasting (ONNX "Broadcasting"): an axis of y is the same as each input's that is not 1."""
    y = node.y
    if node.op == "PRelu" and node.opset < 7 and node.input(1).shape not in ((1,), node.x.shape):
        raise Decline("which axis its slope belongs to is not defined before opset 7", "convert the model to opset 7")
    y.ignore()
    computed = [x for x in node.inputs if x is not None and not (x.is_constant or node.is_picked(x.position))]
    for x in node.inputs:
        if x is not None:
            if node.opset < 7 and node.attr("broadcast", 0) and x.position == 1:
                _legacy_broadcast(node, x, y, link)
            else:
                broadcast(x, y, link)
    if node.op == "Add":
        tag_width(computed, y, link)


def tag_width(terms: Sequence[Operand], y: Operand, link: Link) -> None:
    """A sum of several computed tensors of one shape is a residual stream: its axes are its width."""
    if sum(x.shape == y.shape for x in terms) > 1:
        for axis in range(y.rank):
            if y.shape[axis] > 1:
                link.tag(y[axis], "width")


def _legacy_broadcast(node: NodeView, b: Operand, y: Operand, link: Link) -> None:
    """Before opset 7 the second operand is laid at `axis` of the first."""
    start = node.attr("axis", y.rank - b.rank)
    for axis in range(b.rank):
        if b.shape[axis] == y.shape[start + axis] and b.shape[axis] > 1:
            link.same(b[axis], y[start + axis])
        else:
            b.ignore(axis)
