"""Per stored tensor and axis the indices that stay, so that others can cut their checkpoint the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Kept, Orders, Rows
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.stored import kept_by_use
from onnxprune.types import RowCut

Indices = tuple[int, ...]
Cut = dict[int, Indices]  # axis -> indices that stay


@dataclass(frozen=True)
class Cuts:
    """As `Plan` has them, see there."""

    tensors: dict[str, Cut]
    shared: dict[str, dict[str, Cut]]
    rows: dict[str, dict[int, RowCut]]


def kept_tensors(coupling: Coupling, removed: np.ndarray, orders: Orders | None = None) -> Cuts:
    """What stays of each stored tensor that changes, with the classes in `removed` (bool) gone.

    A vector that exporters let several nodes share (equal biases, say) may lose different indices at each. It is in
    `shared`, by reader as `NODE:INPUT`.
    """
    lists: dict[bytes, Indices] = {}

    def listed(indices: np.ndarray) -> Indices:
        # equal lists are one object: a residual stream's comes back at hundreds of tensors
        key = indices.tobytes()
        return lists.get(key) or lists.setdefault(key, tuple(indices.tolist()))

    def cut(kept: Kept) -> Cut:
        return {axis: listed(indices) for axis, indices in sorted(kept.items()) if isinstance(indices, np.ndarray)}

    found = Cuts({}, {}, {})
    for name, uses in kept_by_use(Prediction(coupling, removed, orders)).items():
        cuts = {use: cut(kept) for use, kept in uses.items()}
        first = next(iter(cuts.values()))
        if all(other == first for other in cuts.values()):
            if first:
                found.tensors[name] = first
        else:
            found.shared[name] = {
                f"{coupling.view.nodes[node].title}:{position}": found for (node, position), found in cuts.items()
            }
        rows = {
            axis: RowCut(indices.by, tuple(listed(row) for row in indices.indices))
            for kept in uses.values()  # of one use: vectors, which have several, have a single axis
            for axis, indices in sorted(kept.items())
            if isinstance(indices, Rows)
        }
        if rows:
            found.rows[name] = rows
    return found
