"""Hypothesis profiles: `ci` tries the same cases always; with HYPOTHESIS_PROFILE=search it tries many new ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# The machines that run this are slow and shared: time limits per case would only report that.
settings.register_profile(
    "ci",
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("search", settings.get_profile("ci"), derandomize=False, max_examples=10000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
