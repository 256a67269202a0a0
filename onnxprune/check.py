"""The masking oracle: the dense model with the removed units set to zero on the side of their consumers.

Zeroing a producer proves nothing (BatchNorm's beta leaves relu(beta) behind), so the mask is put where an index is
summed over: in front of every contraction, as a Mul with zeros and ones, or a Where that puts a quantised operand's
zero point there. On exact units the pruned model gives what this one gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Orders
from onnxprune.coupling.residual import ResidualBlock
from onnxprune.edit.blocks import blocks_called
from onnxprune.edit.insertions import Insertions
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.rearrange import rearrange
from onnxprune.edit.selection import orders_of, removed_classes_of
from onnxprune.errors import VerificationError
from onnxprune.graph.functions import specialise
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView, Node
from onnxprune.types import Plan

_ZERO_POINT = 2  # the position of DequantizeLinear's optional input


def new_complaints(dense: Model, path: Path) -> None:
    """Run onnx's checker on the file at `path`. Raises VerificationError for what it does not say of `dense` too."""
    found = _complaint(str(path))
    if found is None:
        return
    origin = dense.path
    if origin is None or _complaint(str(origin)) is None:
        raise VerificationError(f"onnx's checker refuses the pruned model: {found}", remedy="please report this model")


def _complaint(model: str) -> str | None:
    """The first line of what the checker says of a file, None if it has nothing to say."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def mask_dense(coupling: Coupling, plan: Plan) -> Model:
    """The coupling's model with each index that `plan` removes multiplied by zero where it is contracted."""
    dropped = blocks_called(coupling, plan.dropped)
    return mask_classes(coupling, removed_classes_of(coupling, plan), orders_of(coupling, plan), dropped)


def mask_classes(
    coupling: Coupling, removed: np.ndarray, orders: Orders | None = None, dropped: Sequence[ResidualBlock] = ()
) -> Model:
    """`mask_dense` for removed classes (bool), of stored tensors brought into the order `orders`.

    What the branch of a `dropped` block gives is multiplied by zero.
    """
    prediction = Prediction(coupling, removed)
    masked = coupling.view.model.copy() if orders is None else rearrange(coupling, orders)
    masked = specialise(masked)  # calls of one function lose their own units
    view = GraphView(masked, coupling.view)
    insertions = Insertions(view)
    for number, position, axis, zero in coupling.links.contracts:
        operand = coupling.sites[number].node.inputs[position]
        if operand is None:
            continue
        kept = prediction.kept(operand, axis)
        if len(kept) == operand.shape[axis]:
            continue
        node = view.nodes[number]
        source = node.proto.input[position]
        base = f"{source}::mask{number}.{position}.{axis}"
        dtype = helper.tensor_dtype_to_np_dtype(operand.dtype)
        quantised = zero is not None or np.issubdtype(dtype, np.integer)
        stays = np.zeros(operand.shape[axis], bool if quantised else dtype)
        stays[kept] = 1
        mask = insertions.constant(node, stays.reshape([-1 if a == axis else 1 for a in range(operand.rank)]), base)
        if quantised:
            given = node.proto.input[zero] if zero is not None else ""
            nothing = given or insertions.constant(node, np.zeros((), dtype), f"{base}.zero")
            out = insertions.node(node, "Where", [mask, source, nothing], f"{base}.out")
        elif (decoder := _decoder(coupling, node, position)) is not None:
            out = _mask_decoded(decoder, node, source, mask, base, insertions)
        else:
            out = insertions.node(node, "Mul", [source, mask], f"{base}.out")
        node.read(position, out)
    for block in dropped:
        node = view.nodes[block.sum_index]
        source = node.proto.input[block.branch_position]
        dtype = helper.tensor_dtype_to_np_dtype(coupling.shapes.dtype[block.branch])
        nothing = insertions.constant(node, np.zeros((), dtype), f"{source}::dropped")
        node.read(block.branch_position, insertions.node(node, "Mul", [source, nothing], f"{source}::dropped.out"))
    insertions.finish()
    return masked


def _decoder(coupling: Coupling, reader: Node, position: int) -> Node | None:
    """The DequantizeLinear (with a zero point) that makes what `reader` reads there from computed integers, else None.

    And None where the reader does not see its scale and zero point.
    """
    name = reader.inputs[position]
    made = coupling.view.producer.get(name)
    if made is None or made.op != "DequantizeLinear" or name in coupling.view.fixed:
        return None
    if len(made.inputs) <= _ZERO_POINT or not made.inputs[_ZERO_POINT]:
        return None
    return made if all(reader.scope.name(key) is not None for key in made.inputs[1:]) else None


def _mask_decoded(decoder: Node, at: Node, source: str, mask: str, base: str, insertions: Insertions) -> str:
    """Mask what `decoder` gives, quantise that and decode it again: the numbers are the same.

    A runtime that computes the decoder's readers in integers then does so here, too; otherwise the dense model would
    be computed in floats where the pruned one is in integers, and a sum that lies between two steps may round
    differently. Gives the name of the result.
    """
    parameters = [at.scope.name(key) or "" for key in decoder.inputs[1:]]
    attrs = {name: value for name, value in decoder.attrs.items() if name in ("axis", "block_size")}
    domain = decoder.proto.domain
    masked = insertions.node(at, "Mul", [source, mask], f"{base}.masked")
    again = insertions.node(at, "QuantizeLinear", [masked, *parameters], f"{base}.quantised", domain=domain, **attrs)
    return insertions.node(at, "DequantizeLinear", [again, *parameters], f"{base}.out", domain=domain, **attrs)
