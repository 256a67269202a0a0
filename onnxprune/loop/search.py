"""Search for settings of a recipe: the smallest or fastest model within its limits, and the front of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
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

    Where they have no more combinations than `trials`, each of these is tried, once.
    The study is kept in `study.db` (SQLite) in the folder: a search that was cut short goes on, and one that is started
    with more `trials` takes only those. Candidates are chosen a generation at a time. With a screen (`spec.screen`)
    each is tried under it first, see `screened`.
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
    found = [_trial(one.user_attrs["trial"]) for one in kept]
    seen = [_trial(one.user_attrs["screen"]) for one in kept] if spec.screen else []
    for trial in found:
        say(trial)
    every = _combinations(knobs, trials)
    while len(found) < trials:
        tried = [trial.values for trial in found]
        untried = [turned for turned in every if _spelled(knobs, turned) not in tried][:GENERATION]
        if every and not untried:
            break
        for turned in untried:
            study.enqueue_trial(turned)
        study.sampler = _sampler(optuna, seed + len(found))
        asked = [study.ask() for _ in range(len(untried) or min(GENERATION, trials - len(found)))]
        candidates = [{knob.key: knob.suggest(one) for knob in knobs} for one in asked]
        results = screened(spec, candidates, objective, engine, seen) if spec.screen else engine.run(spec, candidates)
        for one, trial in zip(asked, results, strict=True):
            one.set_user_attr("trial", vars(trial))
            if spec.screen:
                one.set_user_attr("screen", vars(seen[len(found)]))
            share = trial.share(objective)
            if trial.screened or trial.loss is None or share is None or not math.isfinite(trial.loss):
                study.tell(one, state=states.PRUNED)
            else:
                study.tell(one, [trial.loss, share])
            found.append(trial)
            say(trial)
    return found


def screened(
    spec: Spec, candidates: Sequence[Mapping[str, str]], objective: str, engine: Engine, seen: list[Trial]
) -> list[Trial]:
    """Trials of the candidates, those of little promise under the screen alone, whose figures are added to `seen`.

    Optuna's own pruners do not go with several objectives. Here a candidate is out where another one that was screened,
    earlier or with it, beats it in both; and where its run went wrong.
    """
    firsts = engine.run(spec.screening, candidates)
    seen += firsts
    going = [
        k for k, first in enumerate(firsts)
        if first.error is None and not any(_beats(other, first, objective) for other in seen)
    ]  # fmt: skip
    whole = engine.run(spec, [candidates[k] for k in going])
    results = [replace(first, screened=True) for first in firsts]
    for k, trial in zip(going, whole, strict=True):
        results[k] = trial
    return results


def _beats(one: Trial, other: Trial, objective: str) -> bool:
    mine, its = one.share(objective), other.share(objective)
    if one.loss is None or mine is None:
        return False
    return other.loss is None or its is None or (one.loss < other.loss and mine < its)


def best_of(trials: Sequence[Trial], objective: str) -> Trial | None:
    """The trial that passes with the least of the objective."""
    passed = [trial for trial in trials if trial.passed and trial.share(objective) is not None]
    return min(passed, key=lambda trial: (trial.share(objective) or 0.0, trial.loss or 0.0), default=None)


def front_of(trials: Sequence[Trial], objective: str) -> list[Trial]:
    """The trials that no other beats in both loss and objective, least of the objective first."""
    points: dict[tuple[float, float], Trial] = {}
    for trial in trials:
        share = trial.share(objective)
        if trial.loss is not None and share is not None and not trial.screened:
            points.setdefault((share, trial.loss), trial)
    front: list[Trial] = []
    least = math.inf
    for (_, loss), trial in sorted(points.items(), key=lambda item: item[0]):
        if loss < least:
            front.append(trial)
            least = loss
    return front


def _combinations(knobs: Sequence[Knob], most: int) -> list[dict[str, int | str]]:
    """All ways to turn the knobs, the last one fastest; none at all where there are more than `most`, or no end."""
    values = [known for knob in knobs if (known := knob.values()) is not None]
    if len(values) < len(knobs) or math.prod(map(len, values)) > most:
        return []
    return [dict(zip([knob.key for knob in knobs], picked, strict=True)) for picked in product(*values)]


def _spelled(knobs: Sequence[Knob], turned: Mapping[str, int | str]) -> dict[str, str]:
    return {knob.key: knob.spell(turned[knob.key]) for knob in knobs}


def _sampler(optuna: Any, seed: int) -> Any:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * GENERATION, multivariate=False)


def _trial(kept: Mapping[str, Any]) -> Trial:
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
