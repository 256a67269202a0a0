"""Measuring a latency table: the model pruned at random to several widths, cut into segments, all of them timed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import edit
from onnxprune.plan.counts import counts_for
from onnxprune.plan.table import LatencyTable, Sample
from onnxprune.runtime.latency import Effort, Runner, clock_for, time_in_turn
from onnxprune.runtime.machine import identity
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.segments import feeds_of, find_cuts, segment_runners

WIDTHS = 10  # at which a table is measured, the dense ones among them
EFFORT = Effort(rounds=12, seconds=20.0, warm_up=2)  # for each of them
_NARROWEST = 0.2

Progress = Callable[[int, int], None]
"""Told how many of how many widths are done."""


def measure_table(
    coupling: Coupling,
    options: RunOptions,
    *,
    round_to: int | None = None,
    effort: Effort = EFFORT,
    progress: Progress | None = None,
) -> LatencyTable:
    """Time the segments of the coupling's model at `WIDTHS` choices of widths, each a multiple of `round_to`.

    Every width of a group, from narrow to dense, comes up once, beside others of other groups each time. Raises
    ModelError where the model does not run.
    """
    cuts = find_cuts(coupling)
    clock = clock_for(options)
    samples = []
    for number, kept in enumerate(_widths(coupling, round_to, options.seed)):
        if progress is not None:
            progress(number, WIDTHS)
        removed = coupling.removed_classes({index: range(count) for index, count in enumerate(kept)})
        model = edit(coupling, removed).model
        feeds = feeds_of(coupling, model, options.seed)
        whole = Runner.of(model, feeds, options)
        timings = time_in_turn([whole, *segment_runners(model, cuts, feeds, options)], effort, clock)
        milliseconds = [round(timing.least, 5) for timing in timings]
        samples.append(Sample(kept, milliseconds[0], tuple(milliseconds[1:])))
    return LatencyTable(
        coupling.view.model.digest,
        identity(options) | {"clock": clock},
        {group.name: group.size for group in coupling.groups},
        cuts.after,
        tuple(samples),
    )


def _widths(coupling: Coupling, round_to: int | None, seed: int) -> list[tuple[int, ...]]:
    """Units kept of every group, per sample; the dense model first."""
    rng = np.random.default_rng(seed)
    shares = np.linspace(_NARROWEST, 1, WIDTHS - 1)
    kept = np.tile([group.size for group in coupling.groups], (WIDTHS, 1))
    for group in coupling.groups:
        counts = counts_for(group, round_to=round_to, min_keep=1, max_ratio=None)
        kept[1:, group.index] = [counts.nearest(float(count)) for count in group.size * rng.permutation(shares)]
    return [tuple(row) for row in kept.tolist()]
