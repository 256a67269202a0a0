"""Random graphs, random plans: what is promised of any model holds. tools/property_run.py tries many thousands."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.graphs import random_model
from tests.property.properties import check_model

CASES = 80  # per kind; about 0.2 s each


@pytest.mark.parametrize("kind", ["image", "rows", "tokens"])
def test_any_plan_keeps_the_promises(kind: str) -> None:
    @settings(max_examples=CASES)
    @given(st.randoms(use_true_random=False))
    def tried(rng: random.Random) -> None:
        check_model(random_model(rng, kind), rng)

    tried()
