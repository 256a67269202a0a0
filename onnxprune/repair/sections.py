"""Which layers are fitted together: parts of the graph that nothing else reads anything of but their output.

Inside are layers, normalisations by fixed statistics, activations, sums and products, and what moves elements elsewhere
(a shortcut's Slice or Pad). What is read from around is taken as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.view import Node
from onnxprune.repair.passes import Pruned
from onnxprune.repair.pieces import Build, Piece, Shape, alone, layer, pair
from onnxprune.repair.places import Place
from onnxprune.repair.program import Program, Step


@dataclass(frozen=True)
class Section:
    """A part of the pruned model; `places` are its layers in order.

    It reads the values `reads`, whose channels lie on `axes`, of the pruned model, and makes `end`, as the dense model
    calls it, whose channels are the last layer's. Values are numbered as a Program's.
    """

    places: tuple[Place, ...]
    end: str
    reads: tuple[str, ...]
    axes: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def title(self) -> str:
        """The layers, first to last."""
        return f"{self.places[0].consumer.title} to {self.places[-1].consumer.title}"

    @property
    def last(self) -> Place:
        """The layer behind which the output is."""
        return self.places[-1]

    @property
    def is_image(self) -> bool:
        """Whether maps have the spatial axes of a convolution's."""
        return self.places[0].consumer.window is not None

    def program(self, shapes: Sequence[Shape]) -> Program | None:
        """The steps, for values read whose maps have the `shapes` [C, *spatial]; None where they do not go together."""
        there, steps = list(shapes), list[Step]()
        for piece in self.pieces:
            step, shape = piece.build(piece.reads, [there[read] for read in piece.reads])
            if step is None:
                return None
            steps.append(step)
            there.append(shape)
        return Program(len(shapes), tuple(steps))


def sections(coupling: Coupling, pruned: Pruned, places: Sequence[Place], longest: int) -> list[Section]:
    """Sections of two to `longest` layers among `places`, in graph order, each as long as can be; they may overlap."""
    able = [place for place in places if _can_be_in_one(place)]
    order = pruned.view.producer
    able.sort(key=lambda place: order[_made(place)].index)
    found: list[Section] = []
    start = done = 0
    while start < len(able):
        ends = {
            stop: section
            for stop in range(start + 2, min(start + longest, len(able)) + 1)
            if (section := _section(coupling, pruned, able[start:stop])) is not None
        }
        stop = max(ends, default=start + 1)
        if stop in ends and stop > done:  # not a part of the one before
            found.append(ends[stop])
            done = stop
        start = _next(ends, start, stop)
    return found


def _next(ends: Collection[int], start: int, stop: int) -> int:
    """Where the section behind one that ends at `stop` begins: in its second half, where a part of it ends."""
    return max((end for end in ends if end < stop and 2 * (end - start) > stop - start), default=stop)


def _can_be_in_one(place: Place) -> bool:
    consumer = place.consumer
    is_forward = consumer.window is None or not consumer.window.transposed
    return not place.pooled and is_forward and consumer.source.zero is None and consumer.source.scale is None


def _made(place: Place) -> str:
    """What the layer itself gives, before a bias that is added behind it."""
    assert place.consumer.output is not None
    return place.consumer.output[0]


def _section(coupling: Coupling, pruned: Pruned, places: Sequence[Place]) -> Section | None:
    """The part of the graph from these layers on to behind the last one, if it is one by itself and has no others."""
    tracer = _Tracer(coupling, pruned, places)
    end = _end(coupling, pruned, places[-1])
    if len({place.consumer.window is None for place in places}) > 1 or not tracer.trace(end):
        return None
    if not tracer.has_all or tracer.is_read_outside(end):
        return None
    return Section(tuple(places), end, *tracer.result())


def _end(coupling: Coupling, pruned: Pruned, last: Place) -> str:
    """The last value that normalisations and sums alone make of what a layer gives, and that is in both models."""
    view, shapes, name = pruned.view, coupling.shapes.shape, last.output
    while len(view.consumers.get(name, ())) == 1 and not view.leaves(name):
        node = view.consumers[name][0][0]
        is_sum = node.op == "Add" and not any(value in view.fixed for value in node.inputs)
        behind = node.outputs[0]
        if node.domain or not (is_sum or node.op == "BatchNormalization"):
            break
        if behind not in coupling.view.producer or shapes.get(behind) != shapes[last.output]:
            break
        name = behind
    return name


class _Tracer:
    """Follows what layers give on to one value."""

    def __init__(self, coupling: Coupling, pruned: Pruned, places: Sequence[Place]) -> None:
        self._coupling, self._pruned, self._view = coupling, pruned, pruned.view
        self._layers = {place.output: place for place in places}
        self._numbers = {place.output: number for number, place in enumerate(places)}
        self._begin = min(self._view.producer[_made(place)].index for place in places)
        self._depends: dict[str, bool] = {}
        self._pieces: dict[str, tuple[tuple[str, ...], Build]] = {}
        self._axes: dict[str, int] = {}

    def trace(self, name: str) -> bool:
        """Follow back what has a part in a value; False where there is a node that no step stands for."""
        if name in self._depends:
            return True
        place = self._layers.get(name)
        if place is not None:
            source = self._pruned.called(place.consumer.source.tensor)
            if not self.trace(source):
                return False
            self._axes.setdefault(source, place.consumer.source.axis)
            build = layer(self._pruned, place, self._numbers[name])
            return self._put(name, (source,), build, place.axis)
        node = self._view.producer.get(name)
        self._depends[name] = False
        if node is None or node.index < self._begin:
            return True
        read = [value for value in node.inputs if value and value not in self._view.fixed]
        if not all(self.trace(value) for value in read):
            return False
        if not any(self._depends[value] for value in read):
            return True
        return self._follow(name, node, read)

    def _follow(self, name: str, node: Node, read: Sequence[str]) -> bool:
        if not node.scope.is_main or node.bodies or node.domain or len(node.outputs) > 1:
            return False
        axis = next(self._axes[value] for value in read if self._depends[value])
        if len(read) == 2 and (build := pair(node)) is not None:
            for value in read:
                self._axes.setdefault(value, axis)
            same = {self._coupling.shapes.shape.get(value) for value in (*read, name)}
            return len(same) == 1 and self._put(name, tuple(read), build, axis)
        if len(read) > 1:
            return False
        build = alone(self._coupling, self._view, node, axis)
        return build is not None and self._put(name, tuple(read), build, axis)

    def _put(self, name: str, reads: tuple[str, ...], build: Build, axis: int) -> bool:
        self._depends[name] = True
        self._pieces[name] = reads, build
        self._axes[name] = axis
        return True

    @property
    def has_all(self) -> bool:
        """Whether all layers have a part in it."""
        return self._layers.keys() <= self._pieces.keys()

    def is_read_outside(self, end: str) -> bool:
        """Whether anything else reads what is made inside, but for the value `end`."""
        inside = {self._view.producer[name].index for name in self._pieces}
        inside |= {self._view.producer[_made(place)].index for place in self._layers.values()}
        return any(
            self._view.leaves(name)
            or any(reader.index not in inside for reader, _ in self._view.consumers.get(name, ()))
            for name in self._pieces
            if name != end
        )

    def result(self) -> tuple[tuple[str, ...], tuple[int, ...], tuple[Piece, ...]]:
        """See Section."""
        given = dict.fromkeys(value for reads, _ in self._pieces.values() for value in reads)
        outer = [value for value in given if value not in self._pieces]
        numbers = {name: number for number, name in enumerate([*outer, *self._pieces])}
        pieces = [Piece(tuple(numbers[read] for read in reads), build) for reads, build in self._pieces.values()]
        return tuple(outer), tuple(self._axes[name] for name in outer), tuple(pieces)
