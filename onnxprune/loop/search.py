"""Search for settings of a recipe: the smallest or fastest model within its limits, and the front of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxprune.errors import RuntimeMissingError, SettingError
from onnxprune.loop.candidate import Spec, Trial
from onnxprune.loop.engine import Engine
from onnxprune.loop.knobs import Knob

GENERATION = 4
"""Candidates that are chosen at a time, whatever runs them: the search takes the same way on any number of workers."""

Say = Callable[[Trial], None]


def bisect(spec: Spec, knob: Knob, engine: Engine, *, trials: int = 8, say: Say = lambda trial: None) -> list[Trial]:
    """Turn one knob as far as the limits allow: halve what lies between the farthest value that passes and the next
    that does not, up to `trials` times in all. What passes at a value is taken to pass at all milder ones.

    Raises SettingError where not even the mild end passes.
    """

    def attempt(value: float) -> Trial:
        (trial,) = engine.run(spec, [{knob.key: knob.spell(value)}])
        say(trial)
        return trial

    if knob.choices:
        raise SettingError(f"--tune {knob.key}: choices have no order to bisect", remedy="give --trials for a search")
    ends = engine.run(spec, [{knob.key: knob.spell(value)} for value in (knob.mild, knob.far)])
    for trial in ends:
        say(trial)
    if not ends[0].passed:
        raise SettingError(
            f"--tune {knob.key}: not even its mild end {knob.spell(knob.mild)} passes ({ends[0].error or 'a limit'})",
            remedy="begin at a milder value, or allow a larger drop",
        )
    found, good, bad = list(ends), knob.mild, knob.far
    while not ends[1].passed and len(found) < trials:
        middle = (good + bad) / 2
        if knob.spell(middle) in (knob.spell(good), knob.spell(bad)):
            break
        trial = attempt(middle)
        found.append(trial)
        good, bad = (middle, bad) if trial.passed else (good, middle)
    return found


def optimise(
    spec: Spec,
    knobs: Sequence[Knob],
    objective: str,
    engine: Engine,
    *,
    trials: int = 32,
    seed: int = 0,
    say: Say = lambda trial: None,
) -> list[Trial]:
    """Turn several knobs with Optuna's multi-objective TPE: little loss, and little of the objective.

    The study is kept in `study.db` (SQLite) in the folder: a search that was cut short goes on, and one that is started
    with more `trials` takes only those. Candidates are chosen a generation at a time.
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{Path(spec.folder) / 'study.db'}"
    study = optuna.create_study(
        study_name="search", storage=storage, load_if_exists=True, directions=["minimize", "minimize"]
    )
    states = optuna.trial.TrialState
    for left in study.get_trials(deepcopy=False, states=(states.RUNNING,)):  # of a search that was cut short
        study.tell(left.number, state=states.FAIL)
    kept = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
    found = [_trial(one) for one in kept]
    for trial in found:
        say(trial)
    while len(found) < trials:
        study.sampler = _sampler(optuna, seed + len(found))
        asked = [study.ask() for _ in range(min(GENERATION, trials - len(found)))]
        results = engine.run(spec, [{knob.key: knob.suggest(one) for knob in knobs} for one in asked])
        for one, trial in zip(asked, results, strict=True):
            one.set_user_attr("trial", vars(trial))
            share = trial.share(objective)
            if trial.loss is None or share is None or not math.isfinite(trial.loss):
                study.tell(one, state=states.PRUNED)
            else:
                study.tell(one, [trial.loss, share])
            found.append(trial)
            say(trial)
    return found


def best_of(trials: Sequence[Trial], objective: str) -> Trial | None:
    """The trial that passes with the least of the objective."""
    passed = [trial for trial in trials if trial.passed and trial.share(objective) is not None]
    return min(passed, key=lambda trial: (trial.share(objective) or 0.0, trial.loss or 0.0), default=None)


def front_of(trials: Sequence[Trial], objective: str) -> list[Trial]:
    """The trials that no other beats in both loss and objective, least of the objective first."""
    points: dict[tuple[float, float], Trial] = {}
    for trial in trials:
        share = trial.share(objective)
        if trial.loss is not None and share is not None:
            points.setdefault((share, trial.loss), trial)
    front: list[Trial] = []
    least = math.inf
    for (_, loss), trial in sorted(points.items(), key=lambda item: item[0]):
        if loss < least:
            front.append(trial)
            least = loss
    return front


def _sampler(optuna: Any, seed: int) -> Any:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * GENERATION, multivariate=False)


def _trial(one: Any) -> Trial:
    kept: Mapping[str, Any] = one.user_attrs["trial"]
    return Trial(**kept)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise RuntimeMissingError(
            "a search over several settings needs Optuna, which is not installed",
            remedy="`pip install onnxprune[loop]`",
        ) from error
    return optuna
