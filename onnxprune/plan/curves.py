"""What a group's units mean for the model's outputs, measured: its divergence from dense at several counts kept.

Each group is cut on its own, its consumers make up for what goes in closed form (repair/compensate.py), and the model
is run on some samples. Between the counts that were measured the loss is interpolated.

    choices = choices_for(coupling, scores, budget)
    losses = measured_losses(coupling, choices, data)
    chosen = plan(coupling, scores, budget, ranking="efficient", losses=losses)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.apply import edit
from onnxprune.errors import SettingError
from onnxprune.graph.model import Model
from onnxprune.plan.choices import Choice
from onnxprune.repair.compensate import Compensator
from onnxprune.repair.together import shares_left
from onnxprune.runtime.calibrate import POSITIONS, calibrate
from onnxprune.runtime.consumers import classes_of, consumers_of
from onnxprune.runtime.data import Data
from onnxprune.runtime.divergence import Reference
from onnxprune.runtime.inputs import input_specs
from onnxprune.runtime.ort import RunOptions, make_session
from onnxprune.runtime.statistics import GRAM, Statistics
from onnxprune.runtime.tap import data_folder

LEVELS = tuple(step / 16 for step in range(1, 16))
"""Shares of a group's units that are removed in turn."""

SAMPLES = (32, 128)
"""The least and the most samples that a model is run on."""

_WORK = 16 * 10**9  # multiply-accumulates of one measurement, within these
_SHARE = 3  # of the samples, one in so many is run at most
_BATCH = 16
HOPELESS = 3.0  # times the variance, or nats: no smaller count is measured, a model this far off is of no use
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Runner:
    """Runs models on samples that are held in memory, and compares their outputs with the dense model's."""

    feeds: tuple[dict[str, np.ndarray], ...]
    reference: Reference
    options: RunOptions

    @classmethod
    def of(cls, dense: Model, data: Data, batch: int, options: RunOptions) -> Runner:
        """The reference are the outputs of `dense` on `data`."""
        names = {value.name for value in dense.proto.graph.input}
        feeds = tuple(
            {name: array for name, array in item.feeds.items() if name in names} for item in data.batches(batch)
        )
        if not feeds:
            raise SettingError(f"{data.origin}: no batch could be made of it", remedy="give more samples")
        return cls(feeds, Reference(_outputs(dense, feeds, options)), options)

    def divergence(self, model: Model) -> float:
        """Of the model's outputs from the dense one's (runtime/divergence.py)."""
        return self.reference.divergence(_outputs(model, self.feeds, self.options))


def _outputs(model: Model, feeds: Sequence[dict[str, np.ndarray]], options: RunOptions) -> list[list[np.ndarray]]:
    session = make_session(model.to_proto().SerializeToString(), options, folder=data_folder(model))
    return [session.run(None, feed) for feed in feeds]


def measured_losses(
    coupling: Coupling,
    choices: Sequence[Choice],
    data: Data,
    *,
    positions: int | None = POSITIONS,
    seed: int = 0,
    mask: str | None = None,
    batch: int | None = None,
    together: bool = True,
    options: RunOptions | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[int, np.ndarray]:
    """By group index what keeping n of its units loses (float64 [size + 1]): divergence (runtime/divergence.py).

    The first samples of `data` are run, fewer of a model that takes longer; the consumers are fitted to the others,
    as a wide layer would learn those that it is judged by. With `together` losses count for less where repair will fit
    both sides of the group at once, as much as that is likely to make up for (repair/together.py). For the settings
    see `calibrate`.

    Raises SettingError where there are no samples, and what `calibrate` raises.
    """
    options = options or RunOptions()
    judged, fitted = _halves(coupling, data)

    def gram(part: Data) -> Statistics:
        return calibrate(
            coupling, part, (GRAM,),
            positions=positions, seed=seed, mask=mask, batch=batch, options=options, cache=cache,
        )  # fmt: skip

    runner = Runner.of(coupling.view.model, judged, _BATCH, options)
    compensator = Compensator(coupling, gram(fitted), gram(judged))
    found: dict[int, np.ndarray] = {}
    later = _Later(coupling, fitted.samples) if together else None
    for number, choice in enumerate(choices):
        if progress is not None:
            progress(number, len(choices))
        size = choice.counts.size
        known: dict[int, float] = {size: 0.0}
        for count in _counts(choice):
            removed = coupling.removed_classes({choice.group.index: choice.best(count)})
            pruned = edit(coupling, removed).model
            compensator(pruned, removed)
            lost = runner.divergence(pruned)
            known[count] = max(lost, *known.values())
            if not lost < HOPELESS:
                break
        share = 1.0 if later is None else later.share(choice)
        found[choice.group.index] = share * interpolated(known, size)
    if progress is not None:
        progress(len(choices), len(choices))
    return found


class _Later:
    """What fitting layers together later is likely to leave of a group's loss."""

    def __init__(self, coupling: Coupling, samples: int | None) -> None:
        left = shares_left(coupling, samples)
        self._coupling = coupling
        self._reads = [
            (left.get(consumer.node, 1.0), classes_of(coupling, consumer.source)) for consumer in consumers_of(coupling)
        ]

    def share(self, choice: Choice) -> float:
        """Less than one where all that reads the group is fitted together with what makes it."""
        removed = self._coupling.removed_classes({choice.group.index: choice.best(choice.counts.minimum)})
        return max((share for share, classes in self._reads if removed[classes].any()), default=1.0)


def _halves(coupling: Coupling, data: Data) -> tuple[Data, Data]:
    """Samples to run, and those to fit to: the same where nobody knows how many there are, or where they are few."""
    macs = max(coupling.cost().macs, 1)
    few, many = SAMPLES
    least = _fixed_batch(coupling)
    count = max(int(np.clip(_WORK // macs, few, many)), least)
    if data.samples is not None:
        count = min(count, max(data.samples // _SHARE // least * least, least))
        if data.samples - count >= count:
            return data.part(0, count), data.part(count)
    return data.part(0, count), data


def _fixed_batch(coupling: Coupling) -> int:
    """The samples that the model takes at once, where it says so."""
    specs = input_specs(coupling.view)
    firsts = [spec.dims[0] for spec in specs.values() if spec.dims]
    return max([1, *(first for first in firsts if isinstance(first, int))])


def _counts(choice: Choice) -> list[int]:
    """The counts that are measured, from many to few."""
    counts = choice.counts
    wanted = {counts.nearest(counts.size * (1 - share)) for share in LEVELS}
    return sorted((n for n in wanted if n < counts.size), reverse=True)


def interpolated(known: Mapping[int, float], size: int) -> np.ndarray:
    """The loss at every count (float64 [size + 1]) from those in `known`, 0 for all `size` units among them.

    Between them it lies on a straight line, and below the least one it goes on steeply.
    """
    counts = np.array(sorted(known))
    values = np.array([min(known[n], 1e6) for n in counts.tolist()])
    found = np.interp(np.arange(size + 1), counts, values)
    least = int(counts[0])
    step = max((values[0] - values[min(1, len(values) - 1)]) / max(counts[min(1, len(counts) - 1)] - least, 1), 1e-6)
    below = np.arange(least)
    found[below] = values[0] + 2 * step * (least - below)
    return np.asarray(found)
