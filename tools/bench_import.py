"""ONNX's own backend cases (node, simple, pytorch-operator, pytorch-converted) in torch, and the best known importer's.

    python tools/bench_import.py                    # ours
    python tools/bench_import.py --peer onnx2torch  # the same cases, one process for all

Cases come from the onnx package itself. Not counted are those whose tensors are no numbers (strings) and those of
operators that torch has no arithmetic for; each is listed with its reason. A case passes where every output has the
expected shape and values, within the case's own tolerances.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from importing.cases import Case, all_cases
from importing.reasons import not_counted
from rich.console import Console
from rich.table import Table

Outputs = Sequence[Any]
Runner = Callable[[Case], Callable[[list[Any]], Outputs]]


def ours(case: Case) -> Callable[[list[Any]], Outputs]:
    """The module as `to_torch` gives it, in the stored precision."""
    from onnxprune.recover import to_torch

    module = to_torch(case.model, widen=False)

    def run(inputs: list[Any]) -> Outputs:
        feeds = dict(zip(module.input_names, inputs, strict=False))
        with torch.no_grad():
            found = module.run(feeds, module.output_names)
        return [found[name] for name in module.output_names]

    return run


def onnx2torch(case: Case) -> Callable[[list[Any]], Outputs]:
    """The importer of that name, in evaluation mode."""
    from zoo.torchvision_shim import import_torchvision

    import_torchvision()  # which it imports, and which does not load by itself beside a CPU build of torch
    import onnx2torch

    module = onnx2torch.convert(case.model).eval()

    def run(inputs: list[Any]) -> Outputs:
        with torch.no_grad():
            found = module(*(torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x for x in inputs))
        return found if isinstance(found, tuple | list) else [found]

    return run


def passes(case: Case, runner: Runner) -> str:
    """ "" where the case passes, else why not."""
    try:
        run = runner(case)
        for inputs, expected in case.data:
            found = run(inputs)
            if len(found) != len(expected):
                return f"{len(found)} outputs for {len(expected)}"
            for mine, theirs in zip(found, expected, strict=True):
                why = differs(mine, theirs, case)
                if why:
                    return why
    except Exception as error:  # noqa: BLE001 - whatever an importer raises is that case's result
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
    return ""


def differs(mine: Any, theirs: Any, case: Case) -> str:
    if theirs is None or isinstance(theirs, list):
        items = [] if theirs is None else theirs
        mine = [] if mine is None else mine
        if len(mine) != len(items):
            return f"a sequence of {len(mine)} for {len(items)}"
        return next((why for a, b in zip(mine, items, strict=True) if (why := differs(a, b, case))), "")
    array = (mine.detach().float() if mine.dtype in _NARROW else mine.detach()).numpy()
    wanted = np.asarray(theirs)
    if array.shape != wanted.shape:
        return f"shape {array.shape} for {wanted.shape}"
    kind = np.complex128 if wanted.dtype.kind == "c" else np.float64
    close = np.isclose(array.astype(kind), wanted.astype(kind), rtol=case.rtol, atol=case.atol, equal_nan=True)
    return "" if close.all() else f"{(~close).sum()} of {close.size} values differ"


_NARROW = {torch.bfloat16, torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
RUNNERS: dict[str, Runner] = {"onnxprune": ours, "onnx2torch": onnx2torch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=RUNNERS, default="onnxprune")
    parser.add_argument("--json", help="write each case's result to this file")
    parser.add_argument("--only", help="names that contain this")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    counts: dict[str, Counter[str]] = {}
    results = {}
    left: dict[str, list[str]] = {}
    for case in all_cases():
        if given.only and given.only not in case.name:
            continue
        count = counts.setdefault(case.kind, Counter())
        count["cases"] += 1
        reason = not_counted(case)
        if reason:
            count["not counted"] += 1
            left.setdefault(reason, []).append(case.name)
        why = passes(case, RUNNERS[given.peer])
        results[f"{case.kind}/{case.name}"] = {"why": why, "not counted": reason}
        count["equal"] += not why
        count["equal, of those counted"] += not why and not reason
        if why and not reason:
            left.setdefault(f"FAILS: {why}", []).append(case.name)
    report(counts, left, given.peer)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(results, file, indent=1)


def report(counts: dict[str, Counter[str]], left: dict[str, list[str]], peer: str) -> None:
    console = Console(width=150)
    table = Table("cases", "all", "equal", "counted", "equal of these", "share", title=peer)
    for kind, count in counts.items():
        numeric = count["cases"] - count["not counted"]
        share = count["equal, of those counted"] / max(numeric, 1)
        table.add_row(kind, *(str(n) for n in (count["cases"], count["equal"], numeric,
                                              count["equal, of those counted"])), f"{share:.1%}")  # fmt: skip
    console.print(table)
    for why, names in sorted(left.items()):
        console.print(f"{why}: {len(names)}: {', '.join(sorted(names)[:8])}{' …' if len(names) > 8 else ''}")


if __name__ == "__main__":
    main()
