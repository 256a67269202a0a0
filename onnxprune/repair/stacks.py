"""Layers that are fitted together: each the only reader of the one before, with a Relu or Clip between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxprune.coupling.coupling import Coupling
from onnxprune.repair.places import Place

LONGEST = 3
"""Layers of a stack: a residual block's, of all usual kinds. Longer ways are cut into parts."""


@dataclass(frozen=True)
class Stack:
    """Places in the order in which data goes through them."""

    places: tuple[Place, ...]

    @property
    def title(self) -> str:
        """The layers, first to last."""
        return f"{self.places[0].consumer.title} to {self.places[-1].consumer.title}"


def stacks(coupling: Coupling, places: Sequence[Place]) -> list[Stack]:
    """Every way of at least two layers among `places`, in graph order; a layer is in one stack at most."""
    able = [place for place in places if _can_be_in_one(place)]
    by_source = {place.consumer.source.tensor: place for place in able}
    following = {}
    for place in able:
        between = _handed_on(coupling, place)
        if between in by_source:
            following[id(place)] = by_source[between]
    behind = {id(place) for place in following.values()}
    found = []
    for place in able:
        if id(place) in behind:
            continue
        way = [place]
        while id(way[-1]) in following:
            way.append(following[id(way[-1])])
        found += [Stack(tuple(part)) for part in _parts(way)]
    return sorted(found, key=lambda stack: stack.places[-1].consumer.node)


def _can_be_in_one(place: Place) -> bool:
    consumer = place.consumer
    is_forward = consumer.window is None or not consumer.window.transposed
    return not place.pooled and is_forward and consumer.source.zero is None and consumer.source.scale is None


def _handed_on(coupling: Coupling, place: Place) -> str | None:
    """What comes out behind the Relu or Clip that alone reads the layer, where one other layer alone reads that."""
    if place.bounds is None or place.total is not None:
        return None
    view = coupling.view
    (reader, _), *_ = view.consumers[place.output]
    value = reader.outputs[0]
    return value if len(view.consumers.get(value, ())) == 1 and not view.leaves(value) else None


def _parts(way: list[Place]) -> list[list[Place]]:
    """Of two to LONGEST layers each, as long as can be, none of one."""
    parts = [way[start : start + LONGEST] for start in range(0, len(way), LONGEST)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-1].insert(0, parts[-2].pop())
    return [part for part in parts if len(part) > 1]
