"""A model as a torch module: the graph is interpreted, weights keep their names, training changes nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from onnxprune.analyse import Source
from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.io import load
from onnxprune.graph.model import Model
from onnxprune.graph.node import Node, Scope
from onnxprune.graph.view import GraphView
from onnxprune.recover.dtypes import HALF, RANGES, TORCH, UNTOLD, to_tensor
from onnxprune.recover.interpreter import Program
from onnxprune.recover.naming import Place, put
from onnxprune.recover.registry import Registry, forms
from onnxprune.recover.step import Step
from onnxprune.recover.torch_ops.quantization import rounded, spread
from onnxprune.recover.weights import FLOATS, Weight, frozen_by, running_of, weights_of

_SETTINGS_LIMIT = 1024
"""Elements up to which integers are taken for sizes and stay on the CPU."""


class OnnxModule(nn.Module):
    """What `to_torch` gives. Inputs by position or by name; one output as it is, several as a tuple.

    `weights` are what is trained, `places` where each is kept; both by initializer name, as is `state_dict()`.
    """

    def __init__(self, view: GraphView, registry: Registry, widen: bool, frozen: Sequence[str]) -> None:
        super().__init__()
        self.input_names, self.output_names = list(view.inputs), list(view.outputs)
        self.widen = widen
        self.weights: dict[str, Weight] = {}
        self.places: dict[str, Place] = {}
        self.originals: dict[str, Tensor] = {}
        """Float weights as they were; what training did not change is written back as it is stored."""
        self._constants: dict[str, Tensor] = {}
        self._kinds = {
            name: info.type.tensor_type.elem_type
            for name, info in view.inputs.items() if info.type.HasField("tensor_type")
        }  # fmt: skip
        self._store(view, registry, frozen)
        self.program = _program(view, registry, self, widen)

    # -- what is stored ----------------------------------------------------------------------------------------

    def _store(self, view: GraphView, registry: Registry, frozen: Sequence[str]) -> None:
        found = {weight.key: weight for weight in weights_of(view, registry)}
        left = frozen_by(frozen, list(found), "--freeze")
        running = running_of(view)
        for key, tensor in view.constants.items():
            value = to_tensor(view.model.array(tensor))
            if self.widen and value.dtype in HALF:
                value = value.float()
            weight = found.get(key)
            if weight is not None:
                if weight.is_quantised:
                    value = _real(view, weight, value)
                self.weights[key] = weight
                self.places[key] = put(self, key, nn.Parameter(value, requires_grad=key not in left))
            elif key in running or value.numel() > _SETTINGS_LIMIT or tensor.data_type in FLOATS:
                self.places[key] = put(self, key, value, persistent=key in running)
            else:
                self._constants[key] = value
        for sparse in view.graph.sparse_initializer:
            key = sparse.values.name
            self.places[key] = put(self, key, _dense(view.model, sparse), persistent=False)
        self.running = {key for key in running if key in self.places}
        self.tracked = {key for key, alone in running.items() if alone}
        self.originals = {
            key: self.places[key].get().detach().clone() for key in [*self.weights, *sorted(self.running)]
        }

    def stored(self) -> dict[str, Any]:
        """The values of stored tensors as the graph reads them: masked, and quantised ones in whole numbers."""
        values: dict[str, Any] = dict(self._constants)
        for key, place in self.places.items():
            values[key] = place.get()
        for key, weight in self.weights.items():
            if weight.is_quantised:
                values[key] = whole(values[key], weight, values)
        return values

    def stored_settings(self, weight: Weight) -> dict[str, Tensor]:
        """The scale and zero point of a quantised weight, by key."""
        names = [name for name in (weight.scale, weight.zero) if name]
        return {name: self._constants[name] if name in self._constants else self.places[name].get() for name in names}

    def named_weights(self) -> dict[str, Tensor]:
        """What is trained, by initializer name, masks applied."""
        return {key: self.places[key].get() for key in self.weights}

    # -- running -----------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the first stored tensor lies."""
        for place in self.places.values():
            return place.get().device
        return torch.device("cpu")

    @property
    def device_type(self) -> str:
        return self._device_type

    _device_type = "cpu"

    def _apply(self, fn: Any, recurse: bool = True) -> OnnxModule:
        super()._apply(fn, recurse)
        self._device_type = self.device.type
        return self

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The outputs in the graph's order, for inputs in the graph's order or by name (arrays or tensors)."""
        feeds = dict(zip(self.input_names, inputs, strict=False)) | named
        found = self.run(feeds, self.output_names)
        outputs = tuple(found[name] for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def run(self, feeds: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
        """Run the graph on `feeds` and give the values named in `wanted`, outputs or not.

        Raises SettingError for inputs that are missing or unknown, ModelError where a node does not run.
        """
        missing = [name for name in self.input_names if name not in feeds]
        unknown = [name for name in feeds if name not in self.input_names]
        if missing or unknown:
            what = f"nothing for the input {missing[0]!r}" if missing else f"{unknown[0]!r} is no input"
            raise SettingError(what, remedy=f"the model's inputs: {', '.join(self.input_names)}")
        values = self.stored()
        for name, value in feeds.items():
            values[name] = self._fed(value)
        found = self.program.run(values, wanted)
        lost = [name for name in wanted if name not in found]
        if lost:
            raise SettingError(f"the model has no value {lost[0]!r}", remedy="name a tensor of its main graph")
        return found

    def _fed(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._fed(item) for item in value]
        if isinstance(value, np.ndarray | np.generic):
            value = to_tensor(np.asarray(value))
        if not isinstance(value, Tensor):
            return value
        if self.widen and value.dtype in HALF:
            value = value.float()
        return value if self._device_type == "cpu" else value.to(self.device)


def to_torch(model: Source, *, widen: bool = True, freeze: Iterable[str] = ()) -> OnnxModule:
    """The model as a trainable module of its own graph.

    Parameters are keyed by initializer name; a tensor that several nodes read is one parameter. With `widen` tensors
    of half precision are held and computed in float32 (and rounded when they are written back); without it they stay
    what they are. Weights that match a glob of `freeze` get no gradient. Batch and sequence lengths are free.

    Raises ModelError for a model that cannot be read, and for operators without a torch form, all of them at once;
    SettingError for a glob that matches no weight.
    """
    view = GraphView(load(model))
    registry = forms()
    _refuse_unknown(view, registry)
    return OnnxModule(view, registry, widen, list(freeze)).eval()


def _refuse_unknown(view: GraphView, registry: Registry) -> None:
    unknown: dict[str, list[str]] = {}
    for node in view.nodes:
        if registry.find(node.domain, node.op, node.opset) is None:
            unknown.setdefault(f"{node.domain}.{node.op}" if node.domain else node.op, []).append(node.title)
    for name, tensor in view.constants.items():
        if tensor.data_type == TensorProto.STRING or tensor.data_type not in TORCH:
            unknown.setdefault(f"tensors of {TensorProto.DataType.Name(tensor.data_type)}", []).append(name)
    for name, info in view.inputs.items():
        if info.type.tensor_type.elem_type == TensorProto.STRING:
            unknown.setdefault("tensors of STRING", []).append(name)
    if unknown:
        listed = ", ".join(
            f"{what} ({titles[0]}" + (f" and {len(titles) - 1} more)" if len(titles) > 1 else ")")
            for what, titles in sorted(unknown.items())
        )
        raise ModelError(
            f"{view.model.data.origin} has what torch has no form for: {listed}",
            remedy="a form can be added through the entry point onnxprune.torch_ops",
        )


def whole(value: Tensor, weight: Weight, stored: Mapping[str, Any]) -> Tensor:
    """A quantised weight's real numbers as the whole numbers to be stored, with the gradient of the real ones."""
    scale = spread(stored[weight.scale].to(value), value, weight.axis, weight.block)
    found = rounded(value / scale)
    if weight.zero:
        found = found + spread(stored[weight.zero].to(value), value, weight.axis, weight.block)
    return found.clamp(*RANGES[weight.tensor.data_type])


def _real(view: GraphView, weight: Weight, value: Tensor) -> Tensor:
    scale = to_tensor(view.model.array(view.constants[weight.scale])).float()
    found = value.float()
    if weight.zero:
        zero = to_tensor(view.model.array(view.constants[weight.zero])).float()
        found = found - spread(zero, found, weight.axis, weight.block)
    return found * spread(scale, found, weight.axis, weight.block)


def _dense(model: Model, sparse: Any) -> Tensor:
    values, indices = model.array(sparse.values), model.array(sparse.indices)
    found = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        found.reshape(-1)[indices] = values
    else:
        found[tuple(indices.T)] = values
    return to_tensor(found)


# -- steps -------------------------------------------------------------------------------------------------------


def _program(view: GraphView, registry: Registry, owner: OnnxModule, widen: bool) -> Program:
    stored = view.constants

    def steps_of(scope: Scope) -> list[Step]:
        nodes = [node for node in scope.steps if not _is_stored(node, stored)]
        return [_step(view, node, registry, owner, widen) for node in _sorted(nodes)]

    main = steps_of(view.main)
    bodies = {scope.title: (scope, steps_of(scope)) for scope in view.scopes if not scope.is_main and not scope.is_call}
    _plan_drops(view, main)
    return Program(main, bodies)


def _sorted(nodes: Sequence[Node]) -> list[Node]:
    """Each node after those that make its inputs: some writers append nodes at the end, and runtimes sort."""
    made = {name: node for node in nodes for name in node.outputs if name}
    found: dict[int, Node] = {}
    for root in nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            reads = {*node.inputs, *_read_inside(node)}
            before = [made[name] for name in reads if name in made and made[name].index not in found]
            before = [maker for maker in before if maker is not node]
            if before and len(stack) <= len(nodes):
                stack += before
            else:
                found.setdefault(node.index, stack.pop())
    return list(found.values())


def _is_stored(node: Node, stored: Mapping[str, Any]) -> bool:
    return node.op == "Constant" and not node.domain and node.outputs[0] in stored


def _step(view: GraphView, node: Node, registry: Registry, owner: OnnxModule, widen: bool) -> Step:
    form = registry.find(node.domain, node.op, node.opset)
    if form is None:
        raise ModelError(f"{node.op} {node.title} has no torch form")
    step = Step(node, form, owner, widen)
    if node.op == "BatchNormalization" and not node.domain:
        step.tracked = all(view.identity_source(name) in owner.tracked for name in node.inputs[3:5])
    kinds = tuple(_kind(view, name) for name in node.inputs)
    if any(kind in UNTOLD for kind in kinds):
        step.kinds = tuple(kind if kind in UNTOLD else 0 for kind in kinds)
    return step


def _kind(view: GraphView, name: str) -> int:
    """The element type of a stored tensor or an input, 0 for any other value."""
    if name in view.constants:
        return int(view.constants[name].data_type)
    return int(view.inputs[name].type.tensor_type.elem_type) if name in view.inputs else 0


def _plan_drops(view: GraphView, steps: Sequence[Step]) -> None:
    """Let values go after the last step that reads them, those that bodies read with the node of the body."""
    last: dict[str, int] = {}
    for index, step in enumerate(steps):
        for name in [*step.inputs, *step.outputs, *_read_inside(step.node)]:
            last[name] = index
    drops: dict[int, list[str]] = {}
    for name, index in last.items():
        if name and name not in view.constants:
            drops.setdefault(index, []).append(name)
    for index, names in drops.items():
        steps[index].drops = tuple(names)


def _read_inside(node: Node) -> set[str]:
    found: set[str] = set()
    for body in node.bodies.values():
        found.update(body.outputs)
        for inner in body.steps:
            found.update(inner.inputs)
            found |= _read_inside(inner)
    return found
