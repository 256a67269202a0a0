"""Names, kinds and costs of groups: what a person is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.types import Axis, Group


def describe_groups(coupling: Coupling) -> Iterable[Group]:
    units, atoms, view = coupling.units, coupling.atoms, coupling.view
    sizes = coupling.lengths()
    share_parameters, share_macs = cost_per_class(coupling, sizes)
    parameters, macs = units.unit_totals(share_parameters), units.unit_totals(share_macs)
    tags = {
        word: units.marked([ids for ids, tag in coupling.links.tags if tag == word])
        for word in ("heads", "head_dims", "width", "channels", "experts")
    }
    mixed = units.marked([ids for ids, _ in coupling.links.mixes])
    mix_classes = [(np.unique(coupling.solution.label[ids]), reason) for ids, reason in coupling.links.mixes]
    stored = set(coupling.stored_slots)
    readers = view.consumers
    used: dict[str, int] = {}
    for index, group in enumerate(units.groups):
        slots = group.slots.tolist()
        axes = sorted({(atoms.slots[s].tensor, atoms.slots[s].axis) for s in slots})
        first = next((atoms.slots[s] for s in slots if s in stored and _is_matrix(coupling, s)), None)
        first = first or next(atoms.slots[s] for s in slots if s in stored)
        name = f"{first.tensor}:{first.axis}"
        used[name] = used.get(name, 0) + 1
        if used[name] > 1:
            name = f"{name}#{used[name]}"
        root = int(group.roots[0])
        below = units.below[units.root == root]
        mixes: tuple[str, ...] = ()
        if mixed[group.roots].any():
            mixes = tuple(sorted({str(atoms.reasons[r].why) for c, r in mix_classes if np.isin(below, c).any()}))
        tensors = {tensor for tensor, _ in axes}
        near = {reader.index for tensor in tensors for reader, _ in readers.get(tensor, ())}
        near.update(view.producer[tensor].index for tensor in tensors if tensor in view.producer)
        yield Group(
            name=name,
            index=index,
            size=len(group.roots),
            axis=Axis(first.tensor, first.axis),
            kind=_kind(tags, coupling, root),
            axes=tuple(Axis(*at) for at in axes),
            nodes=tuple(view.nodes[index].title for index in sorted(near)),
            parameters=round(float(parameters[group.roots].mean())),
            macs=round(float(macs[group.roots].mean())),
            exact=not mixed[group.roots].any(),
            mixes=mixes,
        )


def _is_matrix(coupling: Coupling, slot: int) -> bool:
    return sum(size > 1 for size in coupling.shapes.shape[coupling.atoms.slots[slot].tensor]) > 1


def _kind(tags: Mapping[str, np.ndarray], coupling: Coupling, root: int) -> str:
    for kind in ("experts", "heads", "head_dims", "width", "channels"):
        if tags[kind][root]:
            return kind
    return "ffn"


def cost_per_class(coupling: Coupling, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and MACs per class: each slot's share of its tensor or node, with all else dense."""
    places = coupling.solution.places
    per_slot_parameters = np.zeros(len(sizes))
    per_slot_macs = np.zeros(len(sizes))
    for tensor, by_axis in coupling.parameter_slots.items():
        total = float(np.prod(coupling.parameters[tensor]))
        for slots in by_axis.values():
            for slot in slots:
                per_slot_parameters[slot] += total / max(sizes[slot], 1) / len(slots)
    for work, work_slots in coupling.works:
        total = work.factor * float(np.prod([x.shape[axis] for x, axis in work.axes]))
        for slot in {s for s in work_slots if s is not None}:
            per_slot_macs[slot] += total / max(sizes[slot], 1)
    shares = []
    for per_slot in (per_slot_parameters, per_slot_macs):
        per_place = np.bincount(places.slots.of, per_slot, places.number)
        shares.append(np.bincount(places.cls, per_place[places.place] * places.count, coupling.solution.classes))
    return shares[0], shares[1]
