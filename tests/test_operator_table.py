"""docs/operators.md is what tools/operator_table.py writes today, and has a row for every operator."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import defs

from tests.support.kernels import asks_for_kernels, kernels

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


def written_with() -> tuple[str, str]:
    """The versions of onnx and onnxruntime that the file names."""
    found = re.search(r"with onnx (\S+) and onnxruntime (\S+);", TEXT)
    assert found is not None
    return found[1], found[2]


def section(title: str) -> dict[str, set[str]]:
    """Operator -> effects of its rows, of one section."""
    part = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found: dict[str, set[str]] = {}
    for op, effect in re.findall(r"^\| (\w+) \| \d+ \| (\w+) \|", part, re.MULTILINE):
        found.setdefault(op, set()).add(effect)
    return found


is_todays = pytest.mark.skipif(
    written_with() != (onnx.__version__, onnxruntime.__version__), reason="written with other versions"
)


@is_todays
@asks_for_kernels
def test_the_file_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "operator_table.py"), "--check"], check=False)
    assert done.returncode == 0, "run tools/operator_table.py"


@is_todays
def test_every_operator_of_onnx_has_a_row() -> None:
    rows = section("ai.onnx")
    assert {s.name for s in defs.get_all_schemas() if s.domain == ""} <= rows.keys()
    assert rows["Conv"] == {"exact"}
    assert rows["Softmax"] == {"mix"}
    assert rows["NonZero"] == {"frozen"}


@is_todays
@asks_for_kernels
def test_every_operator_that_the_cpu_build_ships_has_a_row() -> None:
    assert section("com.microsoft, as ONNX Runtime's CPU build ships it").keys() == kernels("com.microsoft")
    assert section("com.microsoft.nchwc").keys() == kernels("com.microsoft.nchwc")


def test_effects_are_one_of_three_and_frozen_rows_have_a_reason() -> None:
    rows = re.findall(r"^\| \w+ \| \d+ \| (\w+) \| (.*) \|$", TEXT, re.MULTILINE)
    assert {effect for effect, _ in rows} == {"exact", "mix", "frozen"}
    assert all(told for _, told in rows)
    assert not any("no rule" in told for _, told in rows)
