"""Lengths and costs by counts are those of the classes that go, however units cross."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.analyse import analyse
from onnxprune.plan.choices import Choice
from onnxprune.plan.costs import Costs, Lengths
from onnxprune.plan.counts import Counts
from tests.support.planning import conv_chain, two_factors


@pytest.mark.parametrize("model", [conv_chain((8, 5)), two_factors(), two_factors(6)])
def test_lengths(model) -> None:
    coupling = analyse(model)
    rng = np.random.default_rng(0)
    choices = [Choice(g, Counts(g.size, 1), rng.random(g.size)) for g in coupling.groups]
    lengths = Lengths(coupling, choices)
    for _ in range(30):
        counts = tuple(int(rng.integers(1, g.size + 1)) for g in coupling.groups)
        kept = {c.group.index: c.best(n) for c, n in zip(choices, counts, strict=True)}
        np.testing.assert_array_equal(lengths(counts), coupling.lengths(coupling.removed_classes(kept)))


def test_only_what_is_asked_for() -> None:
    coupling = analyse(conv_chain((8, 5)))
    choices = [Choice(g, Counts(g.size, 1), np.ones(g.size)) for g in coupling.groups]
    assert Costs(coupling, choices).at((4, 5)) == coupling.cost(coupling.removed_classes({0: range(4)}))
    asked = Costs(coupling, choices, {"activations"}).at((4, 5))
    assert (asked.bytes, asked.activations) == (None, 4 * 64 * 10)
