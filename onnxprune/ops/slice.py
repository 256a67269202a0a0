"""Slice: y's axis is x's axis indexed by start:end:step, as numpy indexes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.evaluate import slice_arguments

BOUNDS_ARE_INPUTS = 10  # the opset in which starts, ends and axes moved from attributes to inputs, and steps came
_STARTS, _ENDS, _AXES, _STEPS = 1, 2, 3, 4


@dataclass(frozen=True)
class Span:
    """One sliced axis of `size`: x's `axis` from `start` to `end` by `step`, the `place`-th of the node's lists.

    `open` says why the bounds are not known for good, "" where they are.
    """

    place: int
    axis: int
    size: int
    start: int
    end: int
    step: int
    open: str

    @property
    def taken(self) -> np.ndarray:
        """The indices of x's axis that y consists of, in y's order (int64)."""
        return select(self.start, self.end, self.step, self.size)

    @property
    def is_whole(self) -> bool:
        return not self.open and np.array_equal(self.taken, np.arange(self.size))


def select(start: int, end: int, step: int, size: int) -> np.ndarray:
    """Indices (int64) of an axis of `size` that start:end:step selects; bounds beyond the axis are clamped to it."""
    return np.arange(*slice(start, end, step).indices(size), dtype=np.int64)


@rule("Slice")
def slice_(node: NodeView, link: Link) -> None:
    """y's axis is a numpy slice of x's. Where data or a dynamic dimension sets the bounds, any index may be taken."""
    x, y = node.x, node.y
    spans = _spans(node)
    link.same_axes(x, y, skip=[span.axis for span in spans])
    narrowed = [span for span in spans if not span.is_whole]
    for span in spans:
        at = (x.name, span.axis)
        if span.open:
            link.freeze(x[span.axis], span.open, at=at)
            link.freeze(y[span.axis], span.open)
        elif span.is_whole:
            link.same(x[span.axis], y[span.axis])
        elif len(narrowed) > 1 and abs(span.step) > 1:
            # What is left of a stride may be none, and only a Slice of this one axis can become a Gather.
            why = f"every {abs(span.step)}th index is taken, and other axes are sliced by the same node"
            link.freeze(x[span.axis], why, at=at)
            link.freeze(y[span.axis], why)
        else:
            link.same(x[span.axis][span.taken], y[span.axis])
            if len(span.taken) == 1:
                link.freeze(x[span.axis][span.taken], "the only index that a Slice takes", at=at)


@slice_.literals
def _(node: NodeView, edit: Rewrite) -> None:
    x, y = node.x, node.y
    spans = [span for span in _spans(node) if not span.open]
    if not any(edit.changed(x, span.axis) for span in spans):
        return
    starts, ends, _, steps = slice_arguments(node.node, [None, *(_now(node, edit, p) for p in range(1, 5))])
    for span in spans:
        kept_x, kept_y = edit.kept(x, span.axis), edit.kept(y, span.axis)
        places = np.searchsorted(kept_x, span.taken[kept_y])
        stated = starts[span.place], ends[span.place], steps[span.place]
        bounds = bounds_for(stated, places, len(kept_x))
        if bounds is None:
            edit.replace("Gather", [x.name, places], axis=span.axis)
            return
        starts[span.place], ends[span.place], steps[span.place] = bounds
    if node.opset < BOUNDS_ARE_INPUTS:
        edit.attr("starts", starts)
        edit.attr("ends", ends)
        return
    edit.want(_STARTS, starts)
    edit.want(_ENDS, ends)
    if _is_given(node, _STEPS):  # else all are 1, and what is left of a run is a run
        edit.want(_STEPS, steps)


def bounds_for(stated: tuple[int, int, int], places: np.ndarray, size: int) -> tuple[int, int, int] | None:
    """Bounds that select `places` of an axis of `size`, those that change least of the stated ones; None if none do."""
    start, end, step = stated
    stride = int(places[1] - places[0]) if len(places) > 1 else step
    candidates = []
    for by in (step, stride):
        first, last = _ends(places, by, size)
        candidates += [(start, end, by), (start, last, by), (first, end, by), (first, last, by)]
    return next((found for found in candidates if np.array_equal(select(*found, size), places)), None)


def _ends(places: np.ndarray, step: int, size: int) -> tuple[int, int]:
    """Start and end of a slice by `step` that runs from the first of `places` through the last."""
    if not len(places):
        return 0, 0
    last = int(places[-1]) + (1 if step > 0 else -1)
    return int(places[0]), last if last >= 0 else -size - 1  # -1 would be the last index


def _spans(node: NodeView) -> list[Span]:
    """The sliced axes. Raises Decline where the axes or steps are not known for good."""
    x = node.x
    values: list[np.ndarray | None] = [None, *(node.value(position) for position in range(1, 5))]
    open_: dict[int, str] = {}
    for position, what in ((_AXES, "axes"), (_STEPS, "steps")):
        if _is_given(node, position) and (values[position] is None or node.varies(position)):
            raise Decline(f"its {what} are computed")
    for position in (_STARTS, _ENDS):
        if not _is_given(node, position):
            continue
        known = values[position]
        if known is None:
            known = values[position] = np.zeros(node.input(position).shape, np.int64)
            open_ |= dict.fromkeys(range(known.size), "its bounds are computed from data")
            continue
        for place in np.flatnonzero(node.varying(position, known.size)).tolist():
            open_.setdefault(place, "its bounds depend on a dynamic dimension")
    try:
        starts, ends, axes, steps = slice_arguments(node.node, values)
    except ValueError as error:
        raise Decline(str(error)) from error
    axes = [axis + x.rank if axis < 0 else axis for axis in axes]
    if len({len(starts), len(ends), len(axes), len(steps)}) > 1 or len(set(axes)) < len(axes) or 0 in steps:
        raise Decline(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} make no slice")
    if not all(0 <= axis < x.rank for axis in axes):
        raise Decline(f"axes {axes} of a tensor of rank {x.rank}")
    return [
        Span(i, axis, x.shape[axis], start, end, step, open_.get(i, ""))
        for i, (axis, start, end, step) in enumerate(zip(axes, starts, ends, steps, strict=True))
    ]


def _is_given(node: NodeView, position: int) -> bool:
    return node.optional(position) is not None


def _now(node: NodeView, edit: Rewrite, position: int) -> np.ndarray | None:
    """An input's value at this point of the edit."""
    return edit.current(position) if _is_given(node, position) else None
