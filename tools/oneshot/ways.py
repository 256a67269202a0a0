"""Ways to prune a model to a share of its MACs, ours by criterion and ranking, and onnxsim's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oneshot.repairing import Repairing
from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.apply import apply
from onnxprune.errors import OnnxPruneError
from onnxprune.graph.io import load
from onnxprune.graph.model import Model
from onnxprune.importance import criteria, score
from onnxprune.importance.traits import traits_of
from onnxprune.plan import plan
from onnxprune.runtime.calibrate import calibrate
from onnxprune.runtime.data import Data
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.statistics import KINDS, Statistics
from onnxprune.types import Budget, Plan

_BISECTIONS = 12
_HELD = 1 << 30  # bytes of samples that are kept in memory
_PEER_SAMPLES = 64  # onnxsim holds every activation of its calibration data at once


@dataclass(frozen=True)
class Pruned:
    """A pruned model, the share of MACs that is left of it, and a key that only equal models share."""

    model: Model
    macs: float
    key: object


@dataclass
class Bench:
    """One model with its calibration data by seed; statistics are collected once a seed, for all criteria."""

    coupling: Coupling
    calibration: Callable[[int], Data]
    options: RunOptions
    round_to: int
    scope: Sequence[str] | None
    mask: str | None
    _statistics: dict[int, Statistics] = field(default_factory=dict)
    _repairing: dict[int, Repairing] = field(default_factory=dict)

    def statistics(self, seed: int) -> Statistics:
        """What all criteria together need."""
        if seed not in self._statistics:
            needs = {kind for function in criteria().values() for kind in traits_of(function).needs if kind in KINDS}
            self._statistics[seed] = calibrate(
                self.coupling, self.calibration(seed), needs, seed=seed, mask=self.mask, options=self.options
            )
        return self._statistics[seed]

    def ours(self, criterion: str, ranking: str, share: float, seed: int) -> Pruned:
        """Pruned to at most `share` of the MACs by score, plan and apply alone: no weight is adjusted."""
        data = {"statistics": self.statistics(seed)} if traits_of(criteria()[criterion]).needs else {}
        scores = score(self.coupling, criterion, seed=seed, data=data)
        chosen = plan(
            self.coupling, scores, Budget(max_macs=share), round_to=self.round_to, ranking=ranking, scope=self.scope
        )
        return Pruned(
            apply(self.coupling.view.model, chosen, self.coupling), _macs_left(chosen),
            tuple((group.kept, group.blocks) for group in chosen.groups),
        )  # fmt: skip

    def repaired(self, share: float, seed: int) -> Pruned:
        """What `onnxprune prune --data` does (repairing.py)."""
        if seed not in self._repairing:
            data = self.calibration(seed)
            data.hold(_HELD)
            self._repairing[seed] = Repairing(
                self.coupling, data, self.options, self.round_to, self.scope, self.mask, seed
            )
        chosen = self._repairing[seed].plan(Budget(max_macs=share))
        return Pruned(self._repairing[seed].carried_out(chosen), _macs_left(chosen), ("repaired", seed))

    def peers(self) -> Iterator[tuple[str, Callable[[float, int], Pruned]]]:
        """onnxsim's structured pruning by name, each to be called with a share and a seed; none if not installed."""
        try:
            import onnxsim
        except ImportError:
            return
        for across in (False, True):
            suffix = ", global" if across else ""
            yield (
                f"onnxsim l2{suffix}",
                lambda share, seed, across=across: self._bisected(
                    share, lambda ratio, p: onnxsim.apply_structured_pruning(p, sparsity=ratio, global_sparsity=across)
                ),
            )
            yield (
                f"onnxsim wanda{suffix}",
                lambda share, seed, across=across: self._bisected(
                    share,
                    lambda ratio, p: onnxsim.apply_structured_wanda_pruning(
                        p, calibration_data=self._samples(seed), sparsity=ratio, global_sparsity=across
                    ),
                ),
            )

    def _samples(self, seed: int) -> list[dict[str, np.ndarray]]:
        return [batch.feeds for batch in self.calibration(seed).part(0, _PEER_SAMPLES).batches(1)]

    def _bisected(self, share: float, prune: Callable[[float, Any], Any]) -> Pruned:
        """The mildest sparsity that leaves at most `share` of the MACs, as this project counts them."""
        dense = self.coupling.cost().macs
        low, high, best = 0.0, 1.0, None
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            proto = prune(middle, self.coupling.view.model.to_proto(external=True))
            left = analyse(load(proto), **self.coupling.options).cost().macs / dense
            if left <= share:
                high, best = middle, Pruned(load(proto), left, ("onnxsim", proto.SerializeToString(deterministic=True)))
            else:
                low = middle
        if best is None:
            raise OnnxPruneError(f"onnxsim does not reach {share:.0%} of the MACs")
        return best


def _macs_left(plan: Plan) -> float:
    if plan.before is None or plan.after is None:
        raise OnnxPruneError("the plan has no cost")
    return plan.after.macs / plan.before.macs
