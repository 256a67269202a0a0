"""What a group's units mean for the model: by scores, by running it, or by curves that `sensitivity` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxprune.cli.calibration import Calibrating, cache_folder
from onnxprune.cli.clocking import AUTO, Wish
from onnxprune.cli.options import Choosing
from onnxprune.cli.progress import samples_bar
from onnxprune.cli.session import Session
from onnxprune.errors import SettingError
from onnxprune.types import Budget

if TYPE_CHECKING:
    import numpy as np

    from onnxprune.coupling.coupling import Coupling
    from onnxprune.importance import Scores
    from onnxprune.runtime.data import Data

MEASURED, EFFICIENT = "measured", "efficient"


@dataclass(frozen=True)
class Way:
    """How units are chosen once defaults are settled; `measured`: losses are measured, not taken from the scores."""

    criterion: str
    ranking: str
    measured: bool = False


def way_of(budget: Budget, choosing: Choosing, wish: Wish | None, drop: object, data: Data | None) -> Way:
    """Defaults settled. Raises SettingError for settings that do not go together."""
    from onnxprune.plan.limits import limited

    has_limit = wish is not None or bool(limited(budget))
    if choosing.sensitivity is not None:
        return _by_curves(choosing, drop, has_limit)
    by_data = data is not None and has_limit and drop is None
    criterion = choosing.criterion or ("obs" if by_data else "l2")
    ranking = choosing.ranking
    if ranking is None:
        is_open = by_data and choosing.criterion is None and not choosing.balanced
        ranking = MEASURED if is_open else "local" if wish is None and drop != AUTO else EFFICIENT
    if ranking != MEASURED:
        return Way(criterion, ranking)
    if data is None:
        raise SettingError("--ranking measured runs the model on samples", remedy="give --data")
    _check(MEASURED, choosing, drop, has_limit)
    return Way(criterion, EFFICIENT, True)


def _by_curves(choosing: Choosing, drop: object, has_limit: bool) -> Way:
    from onnxprune.loop.recorded import criterion_of

    if choosing.ranking not in (None, EFFICIENT):
        raise SettingError(
            f"--ranking {choosing.ranking} does not look at --sensitivity", remedy="give --ranking efficient, or none"
        )
    _check(None, choosing, drop, has_limit)
    assert choosing.sensitivity is not None
    return Way(choosing.criterion or criterion_of(choosing.sensitivity), EFFICIENT)


def _check(ranking: str | None, choosing: Choosing, drop: object, has_limit: bool) -> None:
    what = "--sensitivity" if ranking is None else f"--ranking {ranking}"
    if not has_limit:
        raise SettingError(
            f"{what} spends a limit, and there is none", remedy="give --max-macs 50%, or another --max-…"
        )
    other = "leave --sensitivity out" if ranking is None else "give --ranking efficient"
    if drop == AUTO or (ranking is not None and drop is not None):
        raise SettingError(f"--drop-blocks does not go with {what}", remedy=other)
    if choosing.balanced:
        raise SettingError(f"--balanced does not go with {what}", remedy=other)


def losses_of(
    here: Session,
    coupling: Coupling,
    scores: Scores,
    budget: Budget,
    within: Mapping[str, Any],
    choosing: Choosing,
    way: Way,
    given: Calibrating,
    data: Data | None,
) -> dict[int, np.ndarray] | None:
    """By group index what keeping n of its units loses; None where that follows from the scores."""
    from onnxprune.plan.planner import choices_for

    if choosing.sensitivity is not None:
        from onnxprune.loop.recorded import recorded

        wanted = [choice.group.index for choice in choices_for(coupling, scores, budget, **within)]
        return recorded(choosing.sensitivity, coupling, wanted)
    if not way.measured or data is None:
        return None
    from onnxprune.plan.curves import measured_losses

    choices = choices_for(coupling, scores, budget, **within)
    with samples_bar(here, "Measuring what each group means for the outputs", len(choices)) as progress:
        return measured_losses(
            coupling, choices, data,
            seed=here.seed, mask=given.mask_input, batch=given.batch, options=here.options,
            cache=cache_folder(given), progress=progress,
        )  # fmt: skip
