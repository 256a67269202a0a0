"""Einsum: letters are axes. A letter in the output is carried, any other is summed over."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnxprune.coupling.atoms import Decline, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, work
from onnxprune.coupling.registry import rule

_TERM = re.compile(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*")
_ELLIPSIS = "..."
_PAIR = 2


@dataclass(frozen=True)
class Equation:
    """One label per axis: a letter, or a negative number for an axis of the ellipsis, counted from its end."""

    inputs: tuple[tuple[str | int, ...], ...]
    output: tuple[str | int, ...]


def parse(equation: str, ranks: list[int]) -> Equation:
    """Read an equation as ONNX's Einsum (numpy.einsum without integer lists) states it, for inputs of these ranks.

    Raises Decline where it is not well formed.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks) or not all(_TERM.fullmatch(term) for term in (*terms, right)):
        raise Decline(f"the equation {equation!r} is not understood")
    if not arrow:
        letters = left.replace(_ELLIPSIS, "").replace(",", "")
        right = (_ELLIPSIS if _ELLIPSIS in left else "") + "".join(
            sorted(c for c in set(letters) if letters.count(c) == 1)
        )
    inputs = tuple(_labels(term, rank) for term, rank in zip(terms, ranks, strict=True))
    spread = max((sum(isinstance(label, int) for label in labels) for labels in inputs), default=0)
    if spread and _ELLIPSIS not in right:
        raise Decline(f"the equation {equation!r} drops its ellipsis")
    output = _labels(right, len(right.replace(_ELLIPSIS, "")) + spread)
    known = {label for labels in inputs for label in labels}
    if len(set(output)) != len(output) or not set(output) <= known:
        raise Decline(f"the equation {equation!r} is not understood")
    return Equation(inputs, output)


def _labels(term: str, rank: int) -> tuple[str | int, ...]:
    before, dots, after = term.partition(_ELLIPSIS)
    spread = rank - len(before) - len(after)
    if spread < 0 or (spread and not dots):
        raise Decline(f"{term!r} does not describe a tensor of rank {rank}")
    return (*before, *range(-spread, 0), *after)


def _operands(node: NodeView) -> list[Operand]:
    return [node.input(position) for position in range(len(node.inputs))]


@rule("Einsum")
def einsum(node: NodeView, link: Link) -> None:
    """A letter is one axis of every operand that has it; where the output lacks it, it is summed over, and exact."""
    xs, y = _operands(node), node.y
    equation = parse(node.attr("equation", ""), [x.rank for x in xs])
    if len(equation.output) != y.rank:
        raise Decline(f"its output has rank {y.rank}, its equation {node.attr('equation')!r} another")
    y.ignore()
    first = {label: y[axis] for axis, label in enumerate(equation.output) if y.shape[axis] > 1}
    for x, labels in zip(xs, equation.inputs, strict=True):
        x.ignore()
        for axis, label in enumerate(labels):
            if x.shape[axis] == 1:
                continue
            if labels.count(label) > 1:
                link.freeze(x[axis], f"{label!r} takes a diagonal")
            link.same(x[axis], first.setdefault(label, x[axis]))
            if label not in equation.output:
                link.contract(x, axis)
    if len(xs) == _PAIR and not any(x.is_constant for x in xs):
        _tag_product(xs, equation, link)


def _tag_product(xs: list[Operand], equation: Equation, link: Link) -> None:
    """In a product of two computed matrices what both carry are heads, and what is summed over is inside a head.

    Of the rest, one axis is a side of the matrix; more are heads that share the other operand's. Both need a letter
    of their own: a mix by weights, as of experts, is no attention.
    """
    mine, theirs = (set(labels) for labels in equation.inputs)
    if mine <= theirs or theirs <= mine:
        return
    both = mine & theirs
    for x, labels in zip(xs, equation.inputs, strict=True):
        several = len(set(labels) - both) > 1
        for axis, label in enumerate(labels):
            is_head = label in equation.output if label in both else several
            link.tag(x[axis], "heads" if is_head else "head_dims")


@einsum.macs
def _(node: NodeView) -> Work:
    """The product of the lengths of all letters, as if done in one loop nest."""
    xs = _operands(node)
    longest: dict[str | int, tuple[Operand, int]] = {}
    for x, labels in zip(xs, parse(node.attr("equation", ""), [x.rank for x in xs]).inputs, strict=True):
        for axis, label in enumerate(labels):
            if label not in longest or longest[label][0].shape[longest[label][1]] == 1:
                longest[label] = (x, axis)
    return work(list(longest.values()))
