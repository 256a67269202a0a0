"""From limits to how many units of each choice stay, by the ranking that the user chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.residual import ResidualBlock
from onnxprune.edit import edit
from onnxprune.errors import BudgetError, SettingError
from onnxprune.graph.size import file_bytes
from onnxprune.plan.choices import Choice
from onnxprune.plan.costs import Costs, Counts
from onnxprune.plan.limits import Limit
from onnxprune.plan.ranking import RANKINGS, Ranking, ranking_called
from onnxprune.plan.search import Search
from onnxprune.plan.spending import Spender, kept_share, readers
from onnxprune.types import Cost

EFFICIENT = "efficient"


@dataclass(frozen=True)
class Blocks:
    """Residual blocks that are gone (`stay` 0) or may go (1), and what is lost with each."""

    blocks: tuple[ResidualBlock, ...] = ()
    stay: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()

    def gone(self, stay: Sequence[int]) -> list[ResidualBlock]:
        """The blocks of which `stay` is 0."""
        return [block for block, stays in zip(self.blocks, stay, strict=True) if not stays]


NO_BLOCKS = Blocks()
_ATTEMPTS = 4  # at a file size that is not quite what was predicted


@dataclass(frozen=True)
class Found:
    """Units kept per choice, the share that was removed (None where it is no one share), and the cost."""

    counts: Counts
    share: float | None
    cost: Cost


class Finder:
    """Finds counts within limits, from a share of `floor` on. Raises SettingError for a ranking that there is not.

    `losses` gives by group index what keeping n of its units loses (float64 [size + 1]), for the ranking "efficient";
    unless given it follows from the scores (`kept_share`). `blocks` may go: with that ranking alone.
    """

    def __init__(
        self,
        coupling: Coupling,
        choices: Sequence[Choice],
        costs: Costs,
        ranking: str,
        floor: float,
        losses: Mapping[int, np.ndarray] | None = None,
        blocks: Blocks = NO_BLOCKS,
    ) -> None:
        if ranking != EFFICIENT and ranking not in RANKINGS:
            raise SettingError(
                f"there is no ranking {ranking!r}", remedy="there are: " + ", ".join([*RANKINGS, EFFICIENT])
            )
        self._coupling, self._choices, self._costs, self._floor = coupling, choices, costs, floor
        self._blocks = blocks
        by_share = ranking_called("local" if ranking == EFFICIENT else ranking, choices)
        self._ranking: Ranking = lambda share: (*by_share(share), *blocks.stay)
        self._spender: Spender | None = None
        if ranking == EFFICIENT:
            given = losses or {}
            of_choice = [
                given[c.group.index] if c.group.index in given else kept_share(c, count)
                for c, count in zip(choices, readers(coupling, choices), strict=True)
            ]
            self._spender = Spender(choices, of_choice, costs, blocks.losses)

    def find(self, limits: Sequence[Limit]) -> Found:
        """Raises BudgetError where the limits cannot be met."""
        found = self._once(limits)
        if not any(limit.quantity == "bytes" for limit in limits):
            return found
        wanted = limits
        for _ in range(_ATTEMPTS):
            actual = self._bytes(found.counts)
            if all(actual <= limit.amount for limit in wanted if limit.quantity == "bytes"):
                return replace(found, cost=replace(found.cost, bytes=actual))
            assert found.cost.bytes is not None
            excess = actual - found.cost.bytes  # copies of shared vectors, literals that were put in
            limits = [
                replace(limit, amount=limit.amount - excess) if limit.quantity == "bytes" else limit for limit in wanted
            ]
            found = self._once(limits)
        raise BudgetError(
            f"the file would have {actual:,} bytes, where {found.cost.bytes:,} were predicted",
            remedy="give a somewhat smaller --max-bytes",
        )

    def _once(self, limits: Sequence[Limit]) -> Found:
        if self._spender is not None:
            counts = self._spender.within(limits, self._ranking(self._floor))
            return Found(counts, None, self._costs.at(counts))
        counts, share = Search(self._costs, self._choices, self._ranking).mildest(self._floor, limits)
        return Found(counts, share, self._costs.at(counts))

    def _bytes(self, counts: Counts) -> int:
        kept = {c.group.index: c.best(count) for c, count in zip(self._choices, counts, strict=False)}
        gone = self._blocks.gone(counts[len(self._choices) :])
        return file_bytes(edit(self._coupling, self._coupling.removed_classes(kept), dropped=gone).model)
