"""Every axis of a stored tensor that must stay, with the reason."""

from __future__ import annotations

from collections.abc import Iterable

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.solve import NO_REASON
from onnxprune.types import Refusal


def list_refusals(coupling: Coupling) -> Iterable[Refusal]:
    solution, atoms = coupling.solution, coupling.atoms
    for index in coupling.stored_slots:
        slot = atoms.slots[index]
        if slot.size == 1:
            continue
        label = solution.label[slot.start : slot.start + slot.size]
        frozen = solution.frozen[label]
        if not frozen.any():
            continue
        reason = int(solution.reason[label[frozen]].min())
        cause = atoms.reasons[reason] if reason != NO_REASON else Refusal("", "", "", -1, "padding")
        part = "" if frozen.all() else f"{int(frozen.sum())} of {slot.size} indices: "
        where = f" [{cause.tensor}:{cause.axis}]" if cause.tensor and cause.tensor != slot.tensor else ""
        yield Refusal(cause.node, cause.op, slot.tensor, slot.axis, f"{part}{cause.why}{where}", cause.help)
