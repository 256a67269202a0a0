"""A node as it is run: its torch form, attributes read once, and what the form may ask about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from onnx import TensorProto

from onnxprune.errors import ModelError
from onnxprune.graph.node import Node
from onnxprune.recover.dtypes import torch_dtype
from onnxprune.recover.registry import Form

if TYPE_CHECKING:
    from onnxprune.recover.module import OnnxModule

Bodies = dict[str, Callable[..., list[Any]]]


class Step:
    """One node of a module. `opset` is that of its domain.

    `tracked` holds for a BatchNormalization whose running statistics are its own, so that training may move them.
    `drops` are keys of values that nobody reads after this step.
    """

    __slots__ = (
        "attrs", "drops", "form", "function", "inputs", "kinds", "node", "op", "opset", "outputs", "owner", "single",
        "tracked", "widen",
    )  # fmt: skip

    def __init__(self, node: Node, form: Form, owner: OnnxModule, widen: bool) -> None:
        self.node, self.form, self.op, self.opset, self.widen = node, form, node.op, node.opset, widen
        self.function = form.function
        self.attrs = {name: value for name, value in node.attrs.items() if name not in node.bodies}
        self.inputs, self.outputs = node.inputs, node.outputs
        self.single = len(node.outputs) == 1
        self.owner = owner
        self.tracked = False
        self.drops: tuple[str, ...] = ()
        self.kinds: tuple[int, ...] = ()
        """ONNX element types of the inputs where they are known and torch's dtype does not tell them (int4), else 0."""

    @property
    def training(self) -> bool:
        return self.owner.training

    @property
    def title(self) -> str:
        return f"{self.op} {self.node.title}"

    def attr(self, name: str, default: Any = None) -> Any:
        return self.attrs.get(name, default)

    def wants(self, position: int) -> bool:
        """Whether somebody may read that output."""
        return position < len(self.outputs) and self.outputs[position] != ""

    def dtype(self, kind: int) -> torch.dtype:
        """The dtype for an ONNX element type here. Raises ModelError where torch has none."""
        try:
            return torch_dtype(kind, self.widen)
        except KeyError:
            raise self.refusal(f"torch has no element type {TensorProto.DataType.Name(kind)}") from None

    def kind(self, position: int) -> int:
        """The ONNX element type of an input where torch's dtype does not tell it, else 0."""
        return self.kinds[position] if position < len(self.kinds) else 0

    def refusal(self, why: str) -> ModelError:
        """An error that names the node."""
        return ModelError(f"{self.title}: {why}", remedy="This model cannot be run in torch as it is")

    def __repr__(self) -> str:
        return f"Step({self.title})"


def ints(tensor: torch.Tensor | None) -> list[int]:
    """The elements of a tensor of sizes, axes or pads; none of one that is left out."""
    return [] if tensor is None else [int(v) for v in tensor.reshape(-1).tolist()]


def floats(tensor: torch.Tensor | None) -> list[float]:
    """The elements of a tensor of scales and the like; none of one that is left out."""
    return [] if tensor is None else [float(v) for v in tensor.reshape(-1).tolist()]
