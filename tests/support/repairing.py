"""Repair under test: data from arrays, plans by what stays, and both models run side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import carry
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.plan import plan_for
from onnxprune.repair.refit import Repaired, refit
from onnxprune.runtime.data import Data, Stored
from onnxprune.runtime.inputs import input_specs
from tests.support.oracle import run


@dataclass(frozen=True)
class _Held:
    """A Store (runtime/data.py) of arrays in memory."""

    arrays: Mapping[str, np.ndarray]
    origin: str = "arrays"

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self.arrays.items()}

    def labels(self) -> None:
        return None

    def digest(self, index: int) -> bytes:
        return b"".join(array[index].tobytes() for array in self.arrays.values())


def given(coupling: Coupling, **arrays: np.ndarray) -> Data:
    """Samples from arrays by input name, in their order."""
    store = _Held(arrays)
    return Stored(store, input_specs(coupling.view), range(len(store)))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def repaired(
    coupling: Coupling,
    kept: Mapping[str, Sequence[int]],
    data: Data,
    *,
    dropped: Sequence[str] = (),
    blocks: Mapping[str, Sequence[Sequence[int]]] | None = None,
    **how: Any,
) -> tuple[Model, Repaired]:
    """The model pruned to `kept`, and what repair makes of it."""
    made = plan_for(coupling, kept, blocks=blocks, dropped=dropped)
    edited = carry(coupling, made)
    return edited.model, refit(coupling, made, edited, data, **how)


def missed(model: Model, dense: Model, feeds: Mapping[str, np.ndarray]) -> float:
    """Mean square of what a model's outputs miss of the dense one's, as a share of their variance; the worst output."""
    pairs = zip(run(model, feeds), run(dense, feeds), strict=True)
    return max(float(((a.astype(float) - b) ** 2).mean() / b.astype(float).var()) for a, b in pairs)


def stored(model: Model) -> dict[str, np.ndarray]:
    """Every stored tensor by name, those of Constant nodes included."""
    view = GraphView(Model(model.to_proto(external=True)))
    return {name: view.model.array(tensor) for name, tensor in view.constants.items()}
