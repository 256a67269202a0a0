"""What a plan does to each group, in figures: what it takes, what that saves, and what repair makes up for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from onnxprune.coupling.coupling import Coupling
    from onnxprune.importance import Scores
    from onnxprune.plan.table import LatencyTable
    from onnxprune.repair.layer import Refit
    from onnxprune.types import Plan


@dataclass(frozen=True)
class Row:
    """What a plan does to one group; shares are of the dense model's, or of all its units' importance.

    `macs_saved` and `time_saved` are what this group alone would save. `outputs_lost` is how far it alone moves the
    outputs (runtime/divergence.py), where that was measured; `error_before` and `error_after` are those of the layers
    that read the group, before and after they were repaired, the largest.
    """

    name: str
    kind: str
    kept: int
    size: int
    importance_lost: float
    macs_saved: float
    time_saved: float | None = None
    outputs_lost: float | None = None
    error_before: float | None = None
    error_after: float | None = None

    def as_json(self) -> dict[str, object]:
        """Without what is not known."""
        return {name: value for name, value in vars(self).items() if value is not None}


def rows_of(
    coupling: Coupling,
    plan: Plan,
    scores: Scores,
    losses: Mapping[int, np.ndarray] | None = None,
    table: LatencyTable | None = None,
) -> list[Row]:
    """A row for each group; `losses` as plan() takes them."""
    from onnxprune.plan.predicting import Predictor

    dense = coupling.cost()
    predict = None if table is None else Predictor(coupling, table)
    time = None if predict is None else predict(coupling.footprint, coupling.lengths())
    rows = []
    for group, item in zip(coupling.groups, plan.groups, strict=True):
        values, kept = scores.values[group.index], len(item.kept)
        total = float(values.sum())
        lost = 1 - float(values[list(item.kept)].sum()) / total if total else 0.0
        row = Row(group.name, group.kind, kept, group.size, lost, 0.0)
        if kept < group.size:
            lengths = coupling.lengths(coupling.removed_classes({group.index: item.kept}))
            curve = None if losses is None else losses.get(group.index)
            row = replace(
                row,
                macs_saved=1 - coupling.footprint.macs(lengths) / max(dense.macs, 1),
                time_saved=None if predict is None or time is None else 1 - predict(coupling.footprint, lengths) / time,
                outputs_lost=None if curve is None else float(curve[kept]),
            )
        rows.append(row)
    return rows


def with_errors(coupling: Coupling, plan: Plan, rows: Sequence[Row], layers: Sequence[Refit]) -> list[Row]:
    """The rows with the errors of the layers that read each group."""
    from onnxprune.runtime.consumers import classes_of, consumers_of

    fitted = {layer.layer: layer for layer in layers if not layer.is_norm}
    reads = [(fitted[c.title], classes_of(coupling, c.source)) for c in consumers_of(coupling) if c.title in fitted]
    found = []
    for row, group, item in zip(rows, coupling.groups, plan.groups, strict=True):
        mine = []
        if len(item.kept) < group.size:
            removed = coupling.removed_classes({group.index: item.kept})
            mine = [layer for layer, classes in reads if removed[classes].any()]
        if mine:
            row = replace(
                row, error_before=max(layer.before for layer in mine), error_after=max(layer.after for layer in mine)
            )
        found.append(row)
    return found
