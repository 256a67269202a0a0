"""What is promised of any plan for any model. Each function raises AssertionError where it does not hold."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from onnxprune.analyse import analyse
from onnxprune.check import mask_dense
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import apply
from onnxprune.edit.prediction import Prediction
from onnxprune.graph.model import Model
from onnxprune.plan import from_json, plan_for, removed_classes_of, to_json
from onnxprune.types import Plan
from tests.property.graphs.sketch import BATCH
from tests.support.oracle import TOLERANCE, complaint, distance, random_feeds, run

INPUTS = 8  # to try before masking is said to change nothing

Kept = dict[str, list[int]]


def analysed(model: onnx.ModelProto | Model) -> Coupling:
    """At a batch of two, whether it is dynamic or not."""
    return analyse(model, input_shapes=_shapes(model))


def check_model(model: onnx.ModelProto, rng: random.Random) -> None:
    """All of it, for two random plans: one over exact units, one over any."""
    coupling = analysed(model)
    check_analysis(coupling, analysed(model))
    check_empty_plan(coupling, model)
    exact = random_choice(coupling, rng, exact_only=True)
    any_kind = random_choice(coupling, rng, exact_only=False)
    if exact:
        pruned = check_plan(coupling, plan_for(coupling, exact), exact=True)
        check_composition(coupling, exact, pruned, rng)
    if any_kind.keys() - exact.keys():
        check_plan(coupling, plan_for(coupling, any_kind), exact=False)


def random_choice(coupling: Coupling, rng: random.Random, *, exact_only: bool) -> Kept:
    """At least one unit of most groups; groups that the choice leaves whole are not named."""
    kept = {}
    for group in coupling.groups:
        if (group.exact or not exact_only) and rng.random() < 0.8:
            count = rng.choice([1, group.size - 1, rng.randint(1, group.size - 1)])
            kept[group.name] = sorted(rng.sample(range(group.size), count))
    return kept


def check_analysis(coupling: Coupling, again: Coupling) -> None:
    """The same twice; groups are disjoint and named once; whatever stays has a reason."""
    assert coupling.groups == again.groups, "two analyses differ in their groups"
    assert coupling.refusals == again.refusals, "two analyses differ in their refusals"
    assert len({g.name for g in coupling.groups}) == len(coupling.groups), "two groups share a name"
    roots = [root for g in coupling.units.groups for root in g.roots.tolist()]
    assert len(set(roots)) == len(roots), "a unit is in two groups"
    for refusal in coupling.refusals:
        assert all((refusal.why, refusal.node, refusal.op)), f"a refusal without a reason: {refusal!r}"
    explained = {(r.tensor, r.axis) for r in coupling.refusals}
    for index in coupling.stored_slots:
        slot = coupling.atoms.slots[index]
        still = coupling.solution.frozen[coupling.solution.label[slot.start : slot.start + slot.size]]
        assert slot.size == 1 or not still.any() or (slot.tensor, slot.axis) in explained, f"{slot} stays for no reason"


def check_empty_plan(coupling: Coupling, model: onnx.ModelProto) -> None:
    """A plan that removes nothing gives the very same bytes, whether it names the groups or not."""
    whole = {g.name: list(range(g.size)) for g in coupling.groups}
    for kept, known in (({}, None), (whole, coupling)):
        plan = plan_for(coupling, kept)
        assert plan.is_empty
        same = apply(model, plan, known)
        assert _bytes(same.to_proto(external=True)) == _bytes(model), "an empty plan changed the model"


def check_plan(coupling: Coupling, plan: Plan, *, exact: bool) -> Model:
    """The plan survives JSON; the model it gives is valid, of the predicted shapes, and equals the masked dense one."""
    assert from_json(to_json(plan)) == plan, "a plan came back from JSON as another"
    dense = coupling.view.model
    pruned = apply(dense, plan, coupling)
    removed = removed_classes_of(coupling, plan)
    assert complaint(pruned) in ("", complaint(dense)), complaint(pruned)
    check_shapes(coupling, removed, pruned)
    feeds = random_feeds(coupling)
    found = run(pruned, feeds)
    assert all(np.isfinite(y).all() for y in found), "not finite"
    if exact:
        masked = mask_dense(coupling, plan)
        expected = run(masked, feeds)
        gap = distance(found, expected)
        assert gap <= TOLERANCE, f"pruned and masked differ by {gap:.2g} of the output's scale"
        if len(masked.proto.graph.node) > len(dense.proto.graph.node):  # else nobody reads what is removed
            assert is_seen(coupling, masked), "blind: masking changes nothing"
        if coupling.bindings.any_dynamic:
            check_other_batch(coupling, pruned, masked)
    return pruned


def is_seen(coupling: Coupling, masked: Model) -> bool:
    """Whether masking changes what the model gives, however little.

    A ReLU may hide a unit from one input, but not from all; where everything passes through one unit, it may hide all
    inputs, and a model that always gives the same tells nothing.
    """
    given = []
    for seed in range(INPUTS):
        feeds = random_feeds(coupling, seed)
        given.append(run(coupling.view.model, feeds))
        if distance(given[-1], run(masked, feeds)) > 0:
            return True
    return all(distance(given[0], other) == 0 for other in given[1:])


def check_other_batch(coupling: Coupling, pruned: Model, masked: Model) -> None:
    """What is dynamic stays dynamic: both work, and agree, at another size."""
    feeds = {name: np.concatenate([x, x[:1]]) for name, x in random_feeds(coupling, seed=1).items()}
    gap = distance(run(pruned, feeds), run(masked, feeds))
    assert gap <= TOLERANCE, f"at another batch size, pruned and masked differ by {gap:.2g} of the output's scale"


def check_shapes(coupling: Coupling, removed: np.ndarray, pruned: Model) -> None:
    """Every stored tensor, and every shape that onnx itself infers, is as the analysis predicts."""
    prediction = Prediction(coupling, removed)
    proto = pruned.to_proto(external=True)
    lengths = {name: {axis: {int(prediction.lengths[s]) for s in slots} for axis, slots in by_axis.items()}
               for name, by_axis in coupling.tensor_slots.items()}  # fmt: skip
    for tensor in proto.graph.initializer:
        for axis, predicted in lengths.get(tensor.name, {}).items():
            assert tensor.dims[axis] in predicted, f"{tensor.name}:{axis} is {tensor.dims[axis]}, not {predicted}"
    view = coupling.view
    # a stored vector has shapes per reader, see VectorKeys
    made = {o for n in view.nodes for o in n.outputs if view.identity_source(o) not in view.constants}
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        if info.name not in made or info.name in coupling.shapes.arithmetic:
            continue
        if info.name in coupling.shapes.shape and info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            predicted = prediction.shape(info.name)
            assert len(dims) == len(predicted), info.name
            for axis, (dim, size) in enumerate(zip(dims, predicted, strict=True)):
                if dim.HasField("dim_value"):
                    assert dim.dim_value == size, f"{info.name}:{axis} is {dim.dim_value}, not {size}"


def check_composition(coupling: Coupling, first: Kept, pruned: Model, rng: random.Random) -> None:
    """A plan for the pruned model works as one for a dense model does; both plans at once give the same bytes."""
    again = analysed(pruned)
    second = random_choice(again, rng, exact_only=True)
    if not second:
        return
    twice = check_plan(again, plan_for(again, second), exact=True)
    composed = compose(coupling, first, again, second)
    if composed is not None:
        at_once = apply(coupling.view.model, plan_for(coupling, composed))
        assert _matrices(at_once, coupling) == _matrices(twice, coupling), "two plans in turn are not the two at once"


def compose(coupling: Coupling, first: Kept, again: Coupling, second: Kept) -> Kept | None:
    """One choice for the dense model; None where the pruned model's groups are not the dense one's, but smaller."""
    dense = {g.axes: g for g in coupling.groups}
    if len(dense) < len(coupling.groups):
        return None
    kept = dict(first)
    for group in again.groups:
        whole = dense.get(group.axes)
        if whole is None or len(first.get(whole.name, range(whole.size))) != group.size:
            return None
        if group.name in second:
            left = first.get(whole.name, list(range(whole.size)))
            kept[whole.name] = [left[i] for i in second[group.name]]
    return kept


def _shapes(model: onnx.ModelProto | Model) -> Mapping[str, Sequence[int]]:
    graph = model.graph if isinstance(model, onnx.ModelProto) else model.proto.graph
    return {
        info.name: [dim.dim_value if dim.HasField("dim_value") else BATCH for dim in info.type.tensor_type.shape.dim]
        for info in graph.input
        if any(not dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim)
    }


def _bytes(proto: onnx.ModelProto | onnx.TensorProto) -> bytes:
    return proto.SerializeToString(deterministic=True)


def _matrices(model: Model, dense: Coupling) -> dict[str, bytes]:
    """Stored tensors by name; not vectors, which may have been cloned for readers that keep different indices."""
    names = {name for name, tensor in dense.view.initializers.items() if sum(d > 1 for d in tensor.dims) > 1}
    return {t.name: _bytes(t) for t in model.to_proto(external=True).graph.initializer if t.name in names}
