"""Every axis of a stored tensor that must stay, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Reason:
    """Why so many `axes` must stay at an operator, what helps, and an axis for example."""

    op: str
    why: str
    help: str
    axes: int
    example: str


def by_reason(refusals: Iterable[Refusal]) -> list[Reason]:
    """Refusals gathered by reason, the most frequent first."""
    gathered: dict[tuple[str, str, str], list[Refusal]] = {}
    for refusal in refusals:
        gathered.setdefault((refusal.op, _general(refusal.why), refusal.help), []).append(refusal)
    return [
        Reason(op, why, help, len(found), f"{found[0].tensor}:{found[0].axis} (by {found[0].node})")
        for (op, why, help), found in sorted(gathered.items(), key=lambda item: -len(item[1]))
    ]


def _general(why: str) -> str:
    """A reason without the tensor at which it struck and without how many indices, to gather equal ones."""
    return why.split(" [", 1)[0].split("indices: ", 1)[-1]
