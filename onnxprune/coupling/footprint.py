"""What a model takes at given lengths of its axes: multiply-accumulates, weights, file bytes, memory for activations.

All follow from the lengths of slots, as products of them; a planner asks for thousands of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from onnxprune.graph.size import file_bytes
from onnxprune.graph.tensors import content_size

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling

# What only says how the same numbers are to be read: its output takes no memory of its own.
_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
_STEEPNESS = 16.0  # of the mean that stands for the peak, see `pressure`


class Products:
    """Products of lengths, many at once: row i is `factors[i]` times, per axis, the longest of the slots there."""

    def __init__(self, rows: Sequence[tuple[float, Sequence[Sequence[int]]]], slots: int) -> None:
        deep = max((len(axes) for _, axes in rows), default=0)
        wide = max((len(at) for _, axes in rows for at in axes), default=1)
        self.factors = np.fromiter((factor for factor, _ in rows), float, len(rows))
        self._at = np.full((len(rows), deep, wide), slots)  # one past the last slot: a length of 1
        for i, (_, axes) in enumerate(rows):
            for a, at in enumerate(axes):
                self._at[i, a] = [*at, *[at[0]] * (wide - len(at))]

    def __call__(self, lengths: np.ndarray) -> np.ndarray:
        """Float64 per row."""
        known = np.append(lengths, 1).astype(float)
        return np.asarray(self.factors * known[self._at].max(axis=2).prod(axis=1))


class Footprint:
    """What a coupling's model costs at lengths (int64, per slot; see Coupling.lengths).

    `dropped` are the indices of nodes that are gone, with the stored tensors that only they read.
    """

    def __init__(self, coupling: Coupling, dropped: Iterable[int] = ()) -> None:
        self._coupling, self.dropped = coupling, frozenset(dropped)
        self._slots = len(coupling.atoms.slots)

    def macs(self, lengths: np.ndarray) -> int:
        """Multiply-accumulates at the bound input sizes."""
        return round(float(self.macs_by_work(lengths).sum()))

    def macs_by_work(self, lengths: np.ndarray) -> np.ndarray:
        """The same (float64) per entry of `Coupling.works`; 0 for those of dropped nodes."""
        return self._work(lengths)

    def parameters(self, lengths: np.ndarray) -> int:
        """Elements of the parameters."""
        return int(self._parameters(lengths).sum())

    def file_bytes(self, lengths: np.ndarray) -> int:
        """Bytes of the model's files. Of the graph, what dropped nodes take is counted as gone, all else as it was."""
        dense = self._coupling.lengths()
        gone = sum(int(self._coupling.view.nodes[i].proto.ByteSize()) for i in self.dropped)
        less = float(self._all_stored(dense).sum() - self._stored(lengths).sum())
        return self._dense_bytes - gone - round(less)

    def activations(self, lengths: np.ndarray) -> int:
        """Bytes of the values that are alive at once, at most, when nodes run in the file's order.

        A value lives from the node that makes it to the last that reads it; inputs of the model live from the start,
        its outputs to the end. Views (a Reshape) take nothing. What a runtime saves by working in place, or needs for
        itself, is not known here.
        """
        return round(float(self._alive(lengths).max(initial=0.0)))

    def pressure(self, lengths: np.ndarray) -> float:
        """A power mean of what is alive at each node: it follows the peak, and falls with any value near it.

        For a search, which would not see from the peak alone that two equal peaks must both go.
        """
        alive = self._alive(lengths)
        top = float(alive.max(initial=0.0))
        return top * float(np.mean((alive / top) ** _STEEPNESS)) ** (1 / _STEEPNESS) if top else 0.0

    @cached_property
    def _work(self) -> Products:
        rows = []
        for site, (work, slots) in zip(self._coupling.work_sites, self._coupling.works, strict=True):
            factor, axes = work.factor, []
            for (x, axis), slot in zip(work.axes, slots, strict=True):
                if slot is None:
                    factor *= x.shape[axis]
                else:
                    axes.append([slot])
            rows.append((0.0 if site in self.dropped else factor, axes))
        return Products(rows, self._slots)

    @cached_property
    def _parameters(self) -> Products:
        shapes = {name: shape for name, shape in self._coupling.parameters.items() if name not in self.orphans}
        return self._of_shapes(shapes, dict.fromkeys(shapes, 1.0), self._coupling.parameter_slots)

    @cached_property
    def _all_stored(self) -> Products:
        return self._of_stored(frozenset())

    @cached_property
    def _stored(self) -> Products:
        return self._of_stored(self.orphans)

    def _of_stored(self, without: frozenset[str]) -> Products:
        shapes, sizes = {}, {}
        for name, tensor in self._coupling.view.constants.items():
            shape = tuple(tensor.dims)
            elements = int(np.prod(shape))
            if name not in without and elements and tensor.data_type != TensorProto.STRING:
                shapes[name], sizes[name] = shape, content_size(tensor) / elements
        return self._of_shapes(shapes, sizes, self._coupling.tensor_slots)

    def _of_shapes(
        self, shapes: dict[str, tuple[int, ...]], factors: dict[str, float], slots: dict[str, dict[int, list[int]]]
    ) -> Products:
        rows = []
        for name, shape in shapes.items():
            by_axis, factor, axes = slots.get(name, {}), factors[name], []
            for axis, size in enumerate(shape):
                if axis in by_axis:
                    axes.append(by_axis[axis])
                else:
                    factor *= size
            rows.append((factor, axes))
        return Products(rows, self._slots)

    @cached_property
    def orphans(self) -> frozenset[str]:
        """Stored tensors that only dropped nodes read."""
        view = self._coupling.view
        if not self.dropped:
            return frozenset()
        readers: dict[str, set[int]] = {}
        for name, found in view.consumers.items():
            readers.setdefault(view.identity_source(name), set()).update(
                node.index for node, _ in found if node.op != "Identity"
            )
        return frozenset(
            name for name, found in readers.items() if found and found <= self.dropped and name not in view.outputs
        )

    @cached_property
    def _dense_bytes(self) -> int:
        model = self._coupling.view.model
        files = [path for path in dict.fromkeys(model.source_files) if path.exists()]
        return sum(path.stat().st_size for path in files) if files else file_bytes(model)

    def _alive(self, lengths: np.ndarray) -> np.ndarray:
        """Bytes alive at each node (float64)."""
        values, born, dies = self._values
        change = np.zeros(len(self._coupling.view.nodes) + 2)
        sizes = values(lengths)
        np.add.at(change, born, sizes)
        np.subtract.at(change, dies + 1, sizes)
        return np.asarray(change.cumsum()[:-1])

    @cached_property
    def _values(self) -> tuple[Products, np.ndarray, np.ndarray]:
        """Bytes of every value that is computed or fed, and (int64) the nodes from and to which it lives."""
        coupling = self._coupling
        view, shapes = coupling.view, coupling.shapes
        end = len(view.nodes)
        born = dict.fromkeys(view.inputs, 0)
        born |= {name: node.index for node in view.nodes for name in node.outputs if name and name not in view.fixed}
        dies = {
            name: max((node.index for node, _ in view.consumers.get(name, ())), default=at) for name, at in born.items()
        }
        dies |= {name: end for name in view.outputs if name in born}
        for node in reversed(view.nodes):  # what a view shows lives as long as the view does
            if node.op in _VIEWS and not node.domain and node.inputs[0] in born and node.outputs[0] in born:
                dies[node.inputs[0]] = max(dies[node.inputs[0]], dies[node.outputs[0]])
                del born[node.outputs[0]]
        rows, names = [], []
        for name in born:
            maker = view.producer.get(name)
            if name not in shapes.shape or (maker is not None and maker.index in self.dropped):
                continue
            factor, axes = float(_itemsize(shapes.dtype.get(name, 0))), []
            for axis, size in enumerate(shapes.shape[name]):
                slot = coupling.atoms.slot_at((name, -1, -1), axis)
                if slot is None:
                    factor *= size
                else:
                    axes.append([slot])
            rows.append((factor, axes))
            names.append(name)
        return (
            Products(rows, self._slots),
            np.fromiter((born[n] for n in names), np.int64, len(names)),
            np.fromiter((dies[n] for n in names), np.int64, len(names)),
        )


def _itemsize(kind: int) -> float:
    """Bytes of an element; 0 for what has no fixed size (strings) or is not known."""
    if kind in (TensorProto.UNDEFINED, TensorProto.STRING):
        return 0.0
    if kind in (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1):
        return 0.5
    return float(np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize)
