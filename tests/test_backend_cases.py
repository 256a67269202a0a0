"""ONNX's own backend test cases, all of them: each analyses, what can go goes, and the rest of the model is equal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "backend_cases.py"


@pytest.mark.slow
def test_every_case_analyses_and_is_pruned_to_what_its_masked_model_gives() -> None:
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
