"""Rewrite the sizes that a graph carries, in graph order, while its shapes are being inferred anew.

Each rule states what its node must carry after the edit; here that is compared with what the edited graph gives at
that point. Elements that agree are left alone, so what is computed from a dynamic dimension stays computed. Where
one differs, the constant it comes from is edited if no one else reads it, else a constant is put in for that element.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from onnx import helper

from onnxprune.coupling.atoms import Operand
from onnxprune.edit.insertions import Insertions
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.settle import Settling
from onnxprune.errors import PlanError
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.tensors import set_array
from onnxprune.graph.view import GraphView, Node

# Operators through which a wanted vector can be traced back element by element, without change of value.
_PASS_THROUGH = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape"})


class Literals:
    """Visitor for `infer_shapes`: runs every rule's literals on the graph that is being edited."""

    def __init__(self, view: GraphView, prediction: Prediction, changed: Collection[str] = ()) -> None:
        """`changed` are the stored tensors that were cut."""
        self.view, self.prediction = view, prediction
        self.settling = Settling(prediction, changed)
        self.coupling = prediction.coupling
        self.notes: list[str] = []
        self.insertions = Insertions(view)

    def __call__(self, node: Node, shapes: Shapes) -> None:
        site = self.coupling.sites[node.index]
        dense = self.coupling.shapes
        if all(name in dense.arithmetic for name in node.outputs if name):
            return  # its result is compared where it is used
        if site.rule is None and site.node.never_runs:
            return
        if node.scope.in_function:
            node.refresh()  # an earlier call of the function may have edited it
        rewrite = NodeRewrite(self, node, shapes)
        if site.settled and (value := self.settling.value(site)) is not None:
            rewrite.store(value)
            return
        if site.rule is not None and site.rule.rewrite is not None:
            site.rule.rewrite(site.node, rewrite)
        for position, (old, new) in enumerate(zip(site.node.node.inputs, node.inputs, strict=False)):
            if position in rewrite.wanted or old not in dense.arithmetic:
                continue
            operand = site.node.optional(position)
            if operand is not None and rewrite.changed(operand):
                continue  # a vector of integers that was sliced: a quantised bias, not sizes
            before, after = dense.value[old], shapes.value.get(new)
            if after is None or before.shape != after.shape or not np.array_equal(before, after):
                # A size that is used as data (a scale, a divisor): the dense model's value is what it was trained with.
                rewrite.want(position, before)
                self.notes.append(f"{node.title}: input {position} pinned to its dense value {before.tolist()}")


class NodeRewrite:
    """The edit of one node; implements `coupling.rewrite.Rewrite`."""

    def __init__(self, literals: Literals, node: Node, shapes: Shapes) -> None:
        self._all, self._node, self._shapes = literals, node, shapes
        self._view, self._prediction = literals.view, literals.prediction
        self.wanted: set[int] = set()

    # -- what the plan says ------------------------------------------------------------------------------------

    def kept(self, x: Operand, axis: int) -> np.ndarray:
        return self._prediction.kept(x, axis)

    def shape(self, x: Operand) -> tuple[int, ...]:
        return self._prediction.shape_of(x)

    def changed(self, x: Operand, axis: int | None = None) -> bool:
        new = self.shape(x)
        return new != x.shape if axis is None else new[axis] != x.shape[axis]

    def current(self, position: int) -> np.ndarray | None:
        return self._shapes.value.get(self._node.inputs[position])

    # -- what the rule says ------------------------------------------------------------------------------------

    def refuse(self, why: str) -> None:
        raise PlanError(
            f"{self._node.op} {self._node.title}: {why}",
            remedy="leave its groups out with --ignore, or report the model's structure",
        )

    def attr(self, name: str, value: Any) -> None:
        proto = self._node.proto
        for index, attr in enumerate(proto.attribute):
            if attr.name == name:
                if value is not None and _plain(helper.get_attribute_value(attr)) == _plain(value):
                    return
                del proto.attribute[index]
                break
        if value is not None:
            proto.attribute.append(helper.make_attribute(name, value))
        self._node.refresh()

    def pin(self, name: str, value: Any) -> None:
        self.attr(name, value)
        self._all.notes.append(f"{self._node.title}: {name} pinned to its dense value {value}")

    def replace(self, op: str, inputs: list[str | np.ndarray], **attrs: Any) -> None:
        proto = self._node.proto
        old = f"{proto.op_type} {self._node.title}"
        names = self._named(op, inputs)
        proto.op_type = op
        del proto.input[:], proto.attribute[:]
        proto.input.extend(names)
        proto.attribute.extend(helper.make_attribute(k, v) for k, v in attrs.items() if v is not None)
        self._node.refresh()
        self.wanted.update(range(len(names)))
        self._all.notes.append(f"{old} became {op}")

    def store(self, value: np.ndarray) -> None:
        """Make this node give a stored value; nothing may read what it gives beside its first output."""
        proto, old = self._node.proto, f"{self._node.op} {self._node.title}"
        name = self._constant(self._node, value, f"{proto.output[0]}_stored")
        proto.op_type = "Identity"
        del proto.input[:], proto.attribute[:], proto.output[1:]
        proto.input.append(name)
        self._node.outputs = self._node.outputs[:1]
        self._node.refresh()
        self._all.notes.append(f"{old}: what it gives in the dense model is stored in its place")

    def insert(self, op: str, inputs: list[str | np.ndarray], shape: tuple[int, ...], **attrs: Any) -> str:
        names = self._named(op, inputs)
        name = self._all.insertions.node(self._node, op, names, f"{self._node.proto.output[0]}_{op.lower()}", **attrs)
        first = self._node.scope.key(names[0])
        self._shapes.shape[name], self._shapes.dtype[name] = shape, self._shapes.dtype[first]
        return name

    def _named(self, op: str, inputs: list[str | np.ndarray]) -> list[str]:
        """Names of values, given by key. Arrays become constants; a stored vector that this node no longer shares is
        read under its own name.
        """
        dense = self._all.coupling.sites[self._node.index].node.node.inputs
        renamed = dict(zip(dense, self._node.inputs, strict=False))
        base = f"{self._node.proto.output[0]}_{op.lower()}"
        names = []
        for given in inputs:
            key = (
                self._constant(self._node, given, base) if isinstance(given, np.ndarray) else renamed.get(given, given)
            )
            name = self._node.scope.name(key) if key else ""
            if name is None:
                self.refuse(f"{key} is not to be seen from where it stands")
            names.append(name or "")
        return names

    def want(self, position: int, value: Any) -> None:
        self.wanted.add(position)
        node = self._node
        name = node.inputs[position] if position < len(node.inputs) else ""
        if not name:
            node.read(position, self._constant(node, np.asarray(value, np.int64), f"{node.proto.output[0]}_sizes"))
            self._all.notes.append(f"{self._node.title}: sizes that were implied are written out")
            return
        current = self._shapes.value.get(name)
        if current is None:
            source = self._view.identity_source(name)
            if source in self._view.constants:  # too large to be a size, e.g. the indices of a table
                current = self._view.model.array(self._view.constants[source])
        if current is None:
            self.refuse(f"its input {position} ({name}) is computed from data")
            return
        wanted = np.asarray(value, current.dtype)
        wanted = wanted.reshape(current.shape) if wanted.size == current.size else wanted
        self._set(node, position, current, wanted)

    # -- how a value is changed --------------------------------------------------------------------------------

    def _set(self, reader: Node, position: int, current: np.ndarray, wanted: np.ndarray) -> None:
        """Make input `position` of `reader` give `wanted` instead of `current`."""
        if current.shape == wanted.shape and np.array_equal(current, wanted):
            return
        name = reader.inputs[position]
        private = self._readers(name) == 1 and not self._view.leaves(name)
        if private and (self._edit_constant(name, wanted) or self._trace(name, current, wanted)):
            self._shapes.value[name] = wanted
            self._shapes.shape[name] = wanted.shape
            return
        varying = self._shapes.varying.get(name)
        if varying is None or not varying.any():
            reader.read(position, self._constant(reader, wanted, f"{reader.proto.input[position]}_pruned"))
            return
        grown = varying & (current != wanted)
        is_counted = np.issubdtype(current.dtype, np.integer)  # of other numbers nothing says how they grow
        if current.shape != wanted.shape or current.ndim != 1 or (grown & ((current == 0) | (not is_counted))).any():
            self.refuse(f"{name} depends on a dynamic dimension and would have to be {wanted.tolist()}")
        self._splice(reader, position, current, wanted, grown)

    def _readers(self, name: str) -> int:
        return len({(id(reader.proto), at) for reader, at in self._view.consumers.get(name, ())})

    def _edit_constant(self, name: str, wanted: np.ndarray) -> bool:
        tensor = self._view.initializers.get(name)
        if tensor is None:
            producer = self._view.producer.get(name)
            if producer is None or producer.op != "Constant" or producer.domain:
                return False
            self._view.small[name] = wanted
            attr = producer.proto.attribute[0]
            if attr.name == "value":
                set_array(attr.t, wanted)
            else:
                replacement = wanted.item() if attr.name in ("value_int", "value_float") else wanted.tolist()
                attr.CopyFrom(helper.make_attribute(attr.name, replacement))
            producer.refresh()
            return True
        if self._view.model.is_pending(tensor):
            return False
        set_array(tensor, wanted)
        self._view.small[name] = wanted
        inputs = self._view.graph.input if name in self._view.main.initializers else ()
        for info in inputs:  # IR before 4 lists initializers as inputs, with their shape
            if info.name == name:
                info.type.tensor_type.CopyFrom(
                    helper.make_tensor_type_proto(tensor.data_type, wanted.shape).tensor_type
                )
        return True

    def _trace(self, name: str, current: np.ndarray, wanted: np.ndarray) -> bool:
        """Change what the producer of `name` reads so that it gives `wanted`; False where that is not possible."""
        producer = self._view.producer.get(name)
        if producer is None or producer.domain or current.size != wanted.size:
            return False
        values = [self._shapes.value.get(i) for i in producer.inputs]
        if producer.op == "Concat" and all(v is not None and v.ndim == 1 for v in values):
            start = 0
            for position, value in enumerate(values):
                if value is None:
                    return False
                part = wanted[start : start + value.size]
                self._set(producer, position, value, part)
                start += value.size
            return True
        first = values[0]
        if first is None:
            return False
        if producer.op in _PASS_THROUGH and first.size == wanted.size:
            source = producer.inputs[0]
            if first.ndim == 0 and self._readers(source) > 1 and self._shapes.varies(source):
                return False  # others read this scalar too; the vector made of it can be spliced
            self._set(producer, 0, first, wanted.reshape(first.shape).astype(first.dtype))
            return True
        second = values[1] if len(values) > 1 else None
        if producer.op == "Mul" and second is not None and wanted.size == 1:
            return self._scale(producer, first, second, int(wanted.reshape(-1)[0]))
        return False

    def _scale(self, product: Node, first: np.ndarray, second: np.ndarray, wanted: int) -> bool:
        """A product of a varying size and a constant (`batch * heads`): change the constant."""
        for position, mine, other in ((1, second, first), (0, first, second)):
            if self._shapes.varies(product.inputs[position]) or mine.size != 1 or not other.reshape(-1)[0]:
                continue
            if wanted % int(other.reshape(-1)[0]) == 0:
                new = np.full(mine.shape, wanted // int(other.reshape(-1)[0]), mine.dtype)
                self._set(product, position, mine, new)
                return True
        return False

    def _splice(self, reader: Node, position: int, current: np.ndarray, wanted: np.ndarray, scaled: np.ndarray) -> None:
        """Let an input be a vector that takes the elements that agree from what it was, and has constants for the rest.

        Those marked in `scaled` vary and must change (batch * heads, which others read too): they keep their
        proportion. Whether that is right at other sizes, the verification at other sizes says.
        """
        source = reader.proto.input[position]
        pieces: list[str] = []

        def computed(op: str, inputs: list[str], base: str, value: np.ndarray, **attrs: Any) -> str:
            name = self._all.insertions.node(reader, op, inputs, base, **attrs)
            self._know(name, value)
            return name

        def constant(value: np.ndarray, base: str) -> str:
            return self._constant(reader, value, f"{source}_{base}")

        differs = current != wanted
        kind = differs.astype(int) + scaled
        edges = np.flatnonzero(np.diff(kind)) + 1
        for low, high in zip([0, *edges], [*edges, len(wanted)], strict=True):
            if kind[low] == 1:
                pieces.append(constant(wanted[low:high], "literal"))
                continue
            index = constant(np.arange(low, high, dtype=np.int64), "index")
            piece = computed("Gather", [source, index], f"{source}_part", current[low:high], axis=0)
            if scaled[low]:
                common = np.gcd(current[low:high], wanted[low:high])
                times = constant(wanted[low:high] // common, "times")
                grown = current[low:high] * wanted[low:high] // common
                piece = computed("Mul", [piece, times], f"{source}_grown", grown)
                by = constant(current[low:high] // common, "by")
                piece = computed("Div", [piece, by], f"{source}_scaled", wanted[low:high])
            pieces.append(piece)
        reader.read(position, computed("Concat", pieces, f"{source}_spliced", wanted, axis=0))

    def _constant(self, at: Node, value: np.ndarray, base: str) -> str:
        name = self._all.insertions.constant(at, value, base)
        self._know(name, value)
        return name

    def _know(self, name: str, value: np.ndarray) -> None:
        self._shapes.value[name] = value
        self._shapes.shape[name] = value.shape
        self._shapes.dtype[name] = int(helper.np_dtype_to_tensor_dtype(value.dtype))


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
