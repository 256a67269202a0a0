"""ONNX's own backend test cases: every one analyses, and what can be pruned of it is pruned and equal.

    python tools/backend_cases.py
    python tools/backend_cases.py --only 'test_gru*' --list

The cases are what the onnx package generates for its operators, their expansions into functions among them. Inputs and
outputs of a case may all shrink. A case is nothing but inputs, so it is tried in three forms in which axes belong to
parameters (backend/forms.py). In each, half of the units of every group go: the pruned model must be valid, run, and
where no statistic runs over the units give what the masked dense model gives at the indices that stay. Both run in ONNX
Runtime, or, where that does not know the operator, in onnx's reference implementation. Exits non-zero where a case
crashes, does not run or is not equal.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import warnings
from collections import Counter

from backend.forms import forms
from backend.trial import BAD, Outcome, try_form
from onnx.backend.test.case.node import collect_testcases
from rich.console import Console
from rich.progress import track
from rich.table import Table

from onnxprune.analyse import analyse


def outcomes(only: str, console: Console) -> list[tuple[str, str, Outcome]]:
    """Case, form and what came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases divide by zero on purpose
        cases = [case for case in collect_testcases(None) if fnmatch.fnmatch(case.name, only)]
        found = []
        for case in track(cases, console=console):
            try:
                analyse(case.model)
            except Exception as error:  # noqa: BLE001 - a crash is what is looked for
                found.append((case.name, "as it is", Outcome("crash", f"{type(error).__name__}: {error}")))
                continue
            tried = [(case.name, name, try_form(model, feeds)) for name, model, feeds in forms(case)]
            found += tried or [(case.name, "as it is", Outcome("analysed", "one input, and no float"))]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="GLOB", help="names of cases")
    parser.add_argument("--list", action="store_true", help="print every case, not only what is bad")
    given = parser.parse_args()
    console = Console(width=200 if not sys.stdout.isatty() else None)
    found = outcomes(given.only, Console(stderr=True))
    table = Table("case", "form", "outcome", "")
    for name, form, outcome in found:
        if given.list or outcome.status in BAD:
            table.add_row(name, form, outcome.status, outcome.remark[:140])
    if table.row_count:
        console.print(table)
    best: dict[str, set[str]] = {}
    for name, _, outcome in found:
        best.setdefault(name, set()).add(outcome.status)
    console.print(f"{len(best)} cases, in {len(found)} forms")
    for status, count in Counter(outcome.status for _, _, outcome in found).most_common():
        console.print(f"{status}: {count} forms, {sum(status in of for of in best.values())} cases")
    return 1 if any(outcome.status in BAD for _, _, outcome in found) else 0


if __name__ == "__main__":
    sys.exit(main())
