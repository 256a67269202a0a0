"""Which pattern each weight is to get: the request for the whole model, exceptions, and what cannot take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.masks import erk_shares, keep_share
from onnxprune.sparsity.patterns import Pattern, check_share, parse_pattern
from onnxprune.sparsity.stored import magnitudes
from onnxprune.sparsity.weights import Use, Weight, Weights

ALLOCATIONS = ("uniform", "global", "erk")
DENSE = "dense"


@dataclass(frozen=True)
class Request:
    """`pattern` for all weights, with `share` of zeros where the pattern has none of its own.

    `allocation` says how the share is spread over layers (ALLOCATIONS). `layers` are exceptions by glob: `dense`,
    another pattern, or another share. `only` and `ignore` are globs too; they match tensors and the nodes that read
    them. With `ends_dense` the layers that nothing weighs before, and those that nothing does behind, stay dense.
    """

    pattern: Pattern
    share: float | None = None
    allocation: str = "uniform"
    layers: Mapping[str, str] = field(default_factory=dict)
    only: Sequence[str] = ()
    ignore: Sequence[str] = ()
    ends_dense: bool = False
    grouped: bool = False


@dataclass(frozen=True)
class Target:
    """What a weight gets."""

    weight: Weight
    pattern: Pattern
    share: float


@dataclass(frozen=True)
class Left:
    """A weight that stays dense, and why."""

    weight: Weight
    why: str


@dataclass(frozen=True)
class Wanted:
    """Weights that get zeros, and those that could and do not."""

    targets: tuple[Target, ...]
    left: tuple[Left, ...]


def settle(view: GraphView, weights: Weights, request: Request) -> Wanted:
    """What every weight gets. Raises SettingError for a share or a glob that cannot be, and where nothing is left."""
    share = check_share(request.share, request.pattern)
    if request.allocation not in ALLOCATIONS:
        raise SettingError(
            f"--allocation {request.allocation}: unknown", remedy=f"give one of {', '.join(ALLOCATIONS)}"
        )
    _check_globs(weights, [*request.only, *request.ignore, *request.layers])
    ends = _ends(view, weights) if request.ends_dense else {}
    targets, left = [], []
    for weight in weights.weights:
        pattern, mine = _own(request, weight, share)
        why = _why_left(request, weight, pattern, ends)
        if why or pattern is None:
            left.append(Left(weight, why))
        else:
            targets.append(Target(weight, pattern, mine))
    if request.allocation != "uniform" and request.pattern.needs_share:
        targets = _allocated(view, request, share, targets)
    if not targets:
        reasons = sorted({item.why for item in left} | {passed.why for passed in weights.passed})
        raise SettingError(
            f"there is no weight to sparsify: {'; '.join(reasons) or 'the model has none'}",
            remedy="`onnxprune check-sparsity` lists the weights",
        )
    return Wanted(tuple(targets), tuple(left))


def _own(request: Request, weight: Weight, share: float) -> tuple[Pattern | None, float]:
    """The pattern and share of one weight; the last exception that matches counts. None for dense."""
    text = next((t for glob, t in reversed([*request.layers.items()]) if _matches(weight, glob)), None)
    if text is None:
        return request.pattern, share
    if text == DENSE:
        return None, 0.0
    try:
        number = float(text)
    except ValueError:
        pattern = parse_pattern(text)
        return pattern, check_share(request.share if pattern.needs_share else None, pattern)
    return request.pattern, check_share(number, request.pattern, "--layer")


def _why_left(request: Request, weight: Weight, pattern: Pattern | None, ends: Mapping[str, str]) -> str:
    if request.only and not any(_matches(weight, glob) for glob in request.only):
        return "not in --only"
    if any(_matches(weight, glob) for glob in request.ignore):
        return "in --ignore"
    if pattern is None:
        return "dense by --layer"
    if weight.name in ends:
        return ends[weight.name]
    if not request.grouped and any(use.groups > 1 for use in weight.uses):
        return "a grouped convolution, which TensorRT does not consider; --grouped takes it along"
    for use in weight.uses:
        if pattern.kind == "nm" and use.length < pattern.m:
            return f"its axis of {use.length} has no group of {pattern.m}"
        if pattern.kind == "block" and (use.length < pattern.columns or use.outputs < pattern.rows):
            return f"smaller than a block of {pattern.rows}x{pattern.columns}"
    if len(weight.uses) > 1 and pattern.kind == "block" and not _alike(weight.uses):
        return "read along different axes, which blocks cannot serve"
    return ""


def _alike(uses: Sequence[Use]) -> bool:
    """Whether uses read the same elements along the same axis."""
    first = uses[0]
    return all(
        use.axis == first.axis and use.shape == first.shape and use.operand.leaves == first.operand.leaves
        and not use.operand.is_moved for use in uses
    )  # fmt: skip


def _matches(weight: Weight, glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in weight.matches())


def _check_globs(weights: Weights, globs: Sequence[str]) -> None:
    for glob in globs:
        known = any(_matches(weight, glob) for weight in weights.weights)
        if not known and not any(fnmatchcase(p.name, glob) or fnmatchcase(p.title, glob) for p in weights.passed):
            raise SettingError(
                f"no weight or node matches {glob!r}", remedy="`onnxprune check-sparsity` lists the weights"
            )


def _ends(view: GraphView, weights: Weights) -> dict[str, str]:
    """Weights before which no other has a part in what is read, and those behind which there is none."""
    at = {use.node: weight.name for weight in weights.weights for use in weight.uses}
    above: dict[str, bool] = {}
    first: set[str] = set()
    for node in view.nodes:
        read = [*node.inputs, *(name for body in node.bodies.values() for name in body.outputs)]
        before = any(above.get(name, False) for name in read)
        if node.index in at and not before:
            first.add(at[node.index])
        above.update((name, before or node.index in at) for name in node.outputs)
    below: dict[str, bool] = {}
    last: set[str] = set()
    for node in reversed(view.nodes):
        behind = any(below.get(name, False) for name in node.outputs)
        if node.index in at and not behind:
            last.add(at[node.index])
        read = [*node.inputs, *(name for body in node.bodies.values() for name in body.outputs)]
        for name in read:
            below[name] = below.get(name, False) or behind or node.index in at
    return dict.fromkeys(first, "a first layer") | dict.fromkeys(last, "a last layer")


def _allocated(view: GraphView, request: Request, share: float, targets: list[Target]) -> list[Target]:
    """Targets whose share is that of the whole model, with shares of their own."""
    common = [t for t in targets if t.share == share and t.pattern == request.pattern]
    if request.allocation == "erk":
        shares = erk_shares({t.weight.name: t.weight.uses[0].shape for t in common}, share)
    else:
        parts = []
        for target in common:
            arrays = [magnitudes(view.model.array(view.constants[n]), leaf) for n, leaf in target.weight.leaves.items()]
            parts.append(np.concatenate([array.reshape(-1) for array in arrays]).astype(np.float32))
        kept = np.split(keep_share(np.concatenate(parts), share), np.cumsum([len(part) for part in parts])[:-1])
        shares = {t.weight.name: 1 - float(mask.mean()) for t, mask in zip(common, kept, strict=True)}
    return [Target(t.weight, t.pattern, shares.get(t.weight.name, t.share)) for t in targets]
