"""Writes docs/operators.md: what is known of every operator of ai.onnx and of ONNX Runtime's own.

python tools/operator_table.py
python tools/operator_table.py --check     # non-zero where the file is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from onnxprune.ops.coverage import EFFECTS, NO_RULE, Row, rows

PATH = Path(__file__).resolve().parent.parent / "docs" / "operators.md"
MICROSOFT, BLOCKED = "com.microsoft", "com.microsoft.nchwc"


def shipped(domain: str) -> set[str]:
    """Operators of a domain for which the installed ONNX Runtime has a CPU kernel."""
    kernels = runtime.get_all_opkernel_def()
    return {k.op_name for k in kernels if k.domain == domain and k.provider == "CPUExecutionProvider"}


def markdown() -> str:
    """The whole file."""
    known = rows()
    on_cpu = shipped(MICROSOFT)
    ruled = {row.op for row in known if row.domain == MICROSOFT}
    known += [Row(MICROSOFT, op, 1, "frozen", NO_RULE, "") for op in on_cpu - ruled]
    onnx_rows = [row for row in known if row.domain == ""]
    cpu = sorted((row for row in known if row.domain == MICROSOFT and row.op in on_cpu), key=lambda row: row.op)
    other = [row for row in known if row.domain == MICROSOFT and row.op not in on_cpu]
    blocked = [row for row in known if row.domain == BLOCKED]
    text = [
        "# Operators",
        f"Written by `tools/operator_table.py` with onnx {onnx.__version__} and onnxruntime {onnxruntime.__version__}; "
        "`onnxprune inspect --operators` prints the same, `onnxprune inspect MODEL --operators` those of a model.",
        "\n".join(f"- **{name}**: {what}" for name, what in EFFECTS.items()),
        "An axis that the rule does not let change (places of an image, positions of a sequence) stays under all of "
        "them, and the analysis of a model names it. A row applies from its opset on.",
        f"## ai.onnx\n\n{_summary(onnx_rows)}",
        _table(onnx_rows),
        f"## com.microsoft, as ONNX Runtime's CPU build ships it\n\n{_summary(cpu)}",
        _table(cpu),
        f"## com.microsoft, without a CPU kernel\n\n{_summary(other)}",
        _table(other),
        "## com.microsoft.nchwc",
        _table(blocked),
    ]
    return "\n\n".join(text) + "\n"


def _summary(found: list[Row]) -> str:
    counts = {effect: sum(row.effect == effect for row in found) for effect in EFFECTS}
    names = len({row.op for row in found})
    return f"{names} operators: " + ", ".join(f"{count} rows {effect}" for effect, count in counts.items()) + "."


def _table(found: Iterable[Row]) -> str:
    lines = ["| operator | opset | effect | |", "|---|---|---|---|"]
    for row in found:
        told = "; ".join(part for part in (row.note, _code(row.says)) if part)
        lines.append(f"| {row.op} | {row.since} | {row.effect} | {told} |")
    return "\n".join(lines)


def _code(text: str) -> str:
    """Shapes are full of what Markdown would take for markup."""
    escaped = text.replace("|", "\\|")
    return f"`` {escaped} ``" if "`" in text else f"`{escaped}`" if text else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    text = markdown()
    if given.check:
        return 0 if PATH.exists() and PATH.read_text(encoding="utf-8") == text else 1
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text, encoding="utf-8")
    print(f"wrote {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
