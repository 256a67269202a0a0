"""The step of a runtime, from times; and that it can be found here."""

from __future__ import annotations

import pytest

from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.probe import STEPS, rounding_step, step_of


@pytest.mark.parametrize(
    ("times", "step"),
    [
        pytest.param({128: 8.2, 96: 4.9, 112: 6.4, 120: 8.2, 124: 8.2, 126: 8.3}, 16, id="AVX-512"),
        pytest.param({128: 5.6, 96: 3.1, 112: 4.6, 120: 5.0, 124: 5.6, 126: 6.4}, 8, id="AVX2"),
        pytest.param(
            {128: 128.0**2, 96: 96.0**2, 112: 112.0**2, 120: 120.0**2, 124: 124.0**2, 126: 126.0**2}, 2, id="even"
        ),
        pytest.param({128: 1.0, 96: 1.0, 112: 1.0, 120: 1.0, 124: 1.0, 126: 1.0}, 32, id="too small to tell"),
    ],
)
def test_the_smallest_step_that_saves(times: dict[int, float], step: int) -> None:
    assert step_of(times) == step


@pytest.mark.slow
def test_it_is_found_here() -> None:
    assert rounding_step(RunOptions()) in STEPS
