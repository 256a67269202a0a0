"""Packages that optional extras bring."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest


def needs(*packages: str) -> None:
    """Skip where a package is not installed: an older environment. In CI, which installs all, that is a failure."""
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return
    assert "ONNXPRUNE_CI" not in os.environ, f"{missing} are not installed, and CI installs all"
    pytest.skip(
        f"{', '.join(missing)} not installed; `pip install -c constraints.txt -e .[all,dev]`",
        allow_module_level=True,
    )
