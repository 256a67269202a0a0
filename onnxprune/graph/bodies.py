"""What is known of the values that go into the bodies of If, Loop and Scan, and come out of them.

A Loop's state may change its shape from one iteration to the next: only a shape that the body gives back as it got
it is known. Of an If both bodies are walked; where its condition is known, its outputs are those of the body it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from onnxprune.graph.node import Node, Scope
from onnxprune.graph.wiring import Carried, Wiring, wiring

if TYPE_CHECKING:
    from onnxprune.graph.shapes import Shapes, Walk

_INFINITE = 1 << 31  # exporters give a Loop that ends by its condition the largest trip count there is


class Bodies:
    """Walks the bodies of one node after the other; a part of the walk of shapes.py."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk

    def __call__(self, node: Node) -> None:
        """Walk the bodies of `node`. Its inputs are known, as far as they can be."""
        wired = wiring(node)
        if wired is None:
            for body in node.bodies.values():
                self._steps(body)
            return
        body, open_states = node.bodies["body"], set[str]()
        while True:
            self._enter(node, wired, body, open_states)
            self._steps(body)
            changing = {c.inner for c in wired.carried if not self._returns(node, c)} - open_states
            if not changing or self.walk.visit is not None:
                return
            open_states |= changing
            self._forget(body)

    def leave(self, node: Node) -> None:
        """Learn the outputs of `node` from what is known of its bodies."""
        if node.op == "If" and not node.domain:
            self._leave_if(node)
            return
        wired = wiring(node)
        if wired is None:
            return
        known = self.walk.known
        for carried in wired.carried:
            if final := _output(node, carried.final):
                self.walk.copy_type(carried.inner, final)
                if not self._returns(node, carried):
                    self.walk.drop_shape(final)
        trips = self._trips(node, wired)
        if trips is not None:
            known.runs[node.bodies["body"].title] = trips
        for stacked in wired.stacked:
            part, whole = known.shape.get(stacked.part), _output(node, stacked.position)
            if whole and stacked.part in known.dtype:
                known.dtype[whole] = known.dtype[stacked.part]
                if part is not None and trips is not None:
                    axis = stacked.axis % (len(part) + 1)
                    known.shape[whole] = (*part[:axis], trips, *part[axis:])

    # -- Loop and Scan -----------------------------------------------------------------------------------------

    def _steps(self, body: Scope) -> None:
        for key in body.outputs:
            if key in body.initializers:
                self.walk.learn_constant(key, body.initializers[key])
        self.walk.steps(body)

    def _enter(self, node: Node, wired: Wiring, body: Scope, open_states: set[str]) -> None:
        known, like = self.walk.known, self.walk.like if self.walk.visit is not None else None
        if node.op == "Loop":
            for key, dtype in zip(body.inputs, (TensorProto.INT64, TensorProto.BOOL), strict=False):
                known.shape[key], known.dtype[key] = (), dtype
        for carried in wired.carried:
            self.walk.copy_type(node.inputs[carried.start], carried.inner)
            is_open = carried.inner in open_states if like is None else carried.inner not in like.shape
            if is_open:
                self.walk.drop_shape(carried.inner)
        for cut in wired.cut:
            source = node.inputs[cut.position]
            if source in known.dtype:
                known.dtype[cut.part] = known.dtype[source]
            if whole := known.shape.get(source):
                axis = cut.axis % len(whole)
                known.shape[cut.part] = (*whole[:axis], *whole[axis + 1 :])

    def _returns(self, node: Node, carried: Carried) -> bool:
        """Whether a state keeps its shape. Where the body's inference stops, the node's stated output decides."""
        known = self.walk.known.shape
        found = known.get(carried.result)
        if found is None and (final := _output(node, carried.final)):
            found = self.walk.stated_shape(final)
        return carried.inner in known and known[carried.inner] == found

    def _forget(self, scope: Scope) -> None:
        for node in scope.steps:
            for key in node.outputs:
                self.walk.forget(key)
            for body in node.bodies.values():
                for key in body.inputs:
                    self.walk.forget(key)
                self.walk.known.runs.pop(body.title, None)
                self.walk.known.dead.discard(body.title)
                self._forget(body)

    def _trips(self, node: Node, wired: Wiring) -> int | None:
        """How often the body runs, where that is known."""
        known = self.walk.known
        if node.op == "Scan":
            for cut in wired.cut:
                if whole := known.shape.get(node.inputs[cut.position]):
                    return whole[cut.axis % len(whole)]
            return None
        count, condition = (known.value.get(name) for name in (*node.inputs[:2],))
        if count is None or count.size != 1 or not 0 <= int(count.reshape(-1)[0]) < _INFINITE:
            return None
        if node.inputs[1] and (condition is None or not condition.all()):
            return None
        body = node.bodies["body"]
        return int(count.reshape(-1)[0]) if self._goes_on(body) else None

    def _goes_on(self, body: Scope) -> bool:
        """Whether the body gives its condition back as it got it, or gives true."""
        key = body.outputs[0]
        value = self.walk.known.value.get(key)
        if value is not None:
            return bool(value.all())
        while key != body.inputs[1]:
            maker = self.walk.view.producer.get(key)
            if maker is None or maker.op != "Identity" or maker.domain:
                return False
            key = maker.inputs[0]
        return True

    # -- If ----------------------------------------------------------------------------------------------------

    def _leave_if(self, node: Node) -> None:
        branches = [node.bodies.get(name) for name in ("then_branch", "else_branch")]
        if None in branches:
            return
        then, other = (branch for branch in branches if branch is not None)
        known, condition = self.walk.known, node.inputs[0]
        value = known.value.get(condition)
        if value is not None and value.size == 1:
            taken, left = (then, other) if value.all() else (other, then)
            known.runs[taken.title], known.runs[left.title] = 1, 0
            if not known.varies(condition):
                known.dead.add(left.title)
            for source, target in zip(taken.outputs, node.outputs, strict=False):
                if target:
                    self.walk.copy_type(source, target)
                    _copy_value(known, source, target, known.varies(condition))
            return
        for one, two, target in zip(then.outputs, other.outputs, node.outputs, strict=False):
            if not target:
                continue
            if one in known.shape and known.shape[one] == known.shape.get(two):
                self.walk.copy_type(one, target)
                a, b = known.value.get(one), known.value.get(two)
                if a is not None and b is not None and np.array_equal(a, b):
                    _copy_value(known, one, target, known.varies(one) or known.varies(two))
            elif one in known.dtype:
                known.dtype[target] = known.dtype[one]


def _output(node: Node, position: int) -> str:
    return node.outputs[position] if position < len(node.outputs) else ""


def _copy_value(known: Shapes, source: str, target: str, varies: bool) -> None:
    """Copy what is known of a value; `varies`: at other sizes it may be quite another one."""
    value = known.value.get(source)
    if value is None:
        return
    known.value[target] = value
    if source in known.sized:
        known.sized.add(target)
    if varies:
        known.varying[target] = np.ones(value.shape, bool)
    elif source in known.varying:
        known.varying[target] = known.varying[source]
