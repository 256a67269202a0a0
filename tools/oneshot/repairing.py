"""What `onnxprune prune --data` does: order by `obs`, shares by measured losses, weights re-fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import carry
from onnxprune.graph.model import Model
from onnxprune.importance import Scores, score
from onnxprune.importance.registry import find
from onnxprune.importance.traits import traits_of
from onnxprune.plan import plan
from onnxprune.plan.curves import measured_losses
from onnxprune.plan.planner import choices_for
from onnxprune.plan.table import LatencyTable
from onnxprune.repair.refit import refit
from onnxprune.runtime.calibrate import POSITIONS, calibrate
from onnxprune.runtime.data import Data
from onnxprune.runtime.ort import RunOptions
from onnxprune.types import Budget, Plan

CRITERION = "obs"


@dataclass
class Repairing:
    """Plans for one model by samples of it, and what repair makes of them; scores and losses are found once."""

    coupling: Coupling
    data: Data
    options: RunOptions
    round_to: int | None
    scope: Sequence[str] | None = None
    mask: str | None = None
    seed: int = 0

    @cached_property
    def scores(self) -> Scores:
        """Of every group's units."""
        statistics = calibrate(
            self.coupling, self.data, traits_of(find(CRITERION)).needs, seed=self.seed, mask=self.mask,
            options=self.options, positions=POSITIONS,
        )  # fmt: skip
        return score(self.coupling, CRITERION, seed=self.seed, data={"statistics": statistics})

    @cached_property
    def losses(self) -> dict[int, np.ndarray]:
        """The same whatever the budget is."""
        choices = choices_for(self.coupling, self.scores, Budget(max_macs=0.5), **self._within)
        return measured_losses(self.coupling, choices, self.data, seed=self.seed, mask=self.mask, options=self.options)

    @property
    def _within(self) -> dict[str, Any]:
        return {"round_to": self.round_to, "scope": self.scope}

    def plan(self, budget: Budget, latency: LatencyTable | None = None) -> Plan:
        """What loses least for what it saves."""
        return plan(
            self.coupling, self.scores, budget, **self._within, ranking="efficient", losses=self.losses, latency=latency
        )

    def carried_out(self, chosen: Plan) -> Model:
        """The pruned and repaired model."""
        edited = carry(self.coupling, chosen)
        found = refit(self.coupling, chosen, edited, self.data, seed=self.seed, mask=self.mask, options=self.options)
        return found.edited.model
