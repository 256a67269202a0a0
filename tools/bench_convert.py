"""Model files in torch: equal to ONNX Runtime at other sizes than the exported ones, trainable, and back to the byte.

    python tools/bench_convert.py build/zoo ../shared/models

For each .onnx below the folders: the largest difference of any output, relative to that output's largest magnitude, at
every dynamic dimension one (or 32) larger than its default; which float weights that are read get no gradient; whether
import and write-back without training gives the same bytes. One line a file, and the totals.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxprune.errors import OnnxPruneError
from onnxprune.graph.bindings import bind_inputs, varied
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.recover import OnnxModule, to_torch, write_back
from onnxprune.runtime.feeds import random_feeds
from onnxprune.runtime.ort import RunOptions, make_session, run

CLOSE = 1e-4
SMALLEST = 1e-6  # differences below this are ONNX Runtime's own rounding of saturated functions


def checked(path: Path, largest_mb: float) -> dict[str, Any]:
    """What became of one file; `why` is empty where all is well."""
    if sum(f.stat().st_size for f in path.parent.glob(path.name + "*")) > largest_mb * 2**20:
        return {"status": "skipped", "why": f"larger than {largest_mb:g} MB"}
    started = time.perf_counter()
    try:
        module = to_torch(path)
    except OnnxPruneError as error:
        return {"status": "refused", "why": error.message}
    found: dict[str, Any] = {"import_s": round(time.perf_counter() - started, 2), "weights": len(module.weights)}
    model = load(path)
    view = GraphView(model)
    found["same_bytes"] = write_back(module, model).to_proto().SerializeToString(
        deterministic=True
    ) == model.to_proto().SerializeToString(deterministic=True)
    feeds, expected, sizes = _reference(view, path)
    if expected is None:
        return {**found, "status": "not run", "why": f"ONNX Runtime does not run it on made-up inputs: {feeds}"}
    found["sizes"] = sizes
    try:
        with torch.no_grad():
            mine = module.run(feeds, module.output_names)
    except OnnxPruneError as error:
        return {**found, "status": "fails", "why": error.message}
    worst, where = _difference(module, mine, expected)
    found["difference"] = worst
    found["no_gradient"] = _without_gradient(module, feeds)
    if worst > CLOSE:
        return {**found, "status": "differs", "why": f"{where}: {worst:.1e}"}
    return {**found, "status": "equal", "why": ""}


def _reference(view: GraphView, path: Path) -> tuple[Any, Any, str]:
    """Feeds at varied sizes and ONNX Runtime's outputs; at the default sizes where it does not run at others."""
    bindings = bind_inputs(view)
    session = make_session(path, RunOptions(threads=1), optimise=False)
    why = ""
    for name, binding in (("varied", varied(bindings, view)), ("default", bindings)):
        try:
            feeds = random_feeds(view.inputs, binding.shapes, seed=1)
            return feeds, run(session, None, feeds), name if bindings.any_dynamic else "fixed"
        except OnnxPruneError as error:
            why = error.message
    return why, None, ""


def _difference(module: OnnxModule, mine: dict[str, Any], expected: list[Any]) -> tuple[float, str]:
    worst, where = 0.0, ""
    for name, theirs in zip(module.output_names, expected, strict=True):
        pairs = zip(mine[name], theirs, strict=True) if isinstance(theirs, list) else [(mine[name], theirs)]
        for one, other in pairs:
            wanted = np.asarray(other).astype(np.float64)
            have = one.double().numpy()
            if have.shape != wanted.shape:
                return float("inf"), f"{name} has the shape {have.shape}, not {wanted.shape}"
            if not wanted.size:
                continue
            with np.errstate(invalid="ignore"):
                apart = np.where((have == wanted) | (np.isnan(have) & np.isnan(wanted)), 0, np.abs(have - wanted))
            if not np.isfinite(apart).all():
                return float("inf"), name
            size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
            relative = float(apart.max() / size) if apart.max() > SMALLEST else 0.0
            if relative > worst:
                worst, where = relative, name
    return worst, where


def _without_gradient(module: OnnxModule, feeds: dict[str, np.ndarray]) -> list[str]:
    module.zero_grad()
    outputs = module.run(feeds, module.output_names)
    flat = [x for value in outputs.values() for x in (value if isinstance(value, list) else [value])]
    losses = [x.float().square().sum() for x in flat if x is not None and x.requires_grad]
    if not losses:
        return list(module.weights)
    torch.stack(losses).sum().backward()
    return [key for key, place in module.places.items() if key in module.weights and place.get().grad is None]


def _files(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(folder.rglob("*.onnx")) if folder.is_dir() else [folder]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--largest-mb", type=float, default=1500)
    parser.add_argument("--only")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    for path in _files(given.paths):
        if str(path) in results or (given.only and given.only not in path.name):
            continue
        result = checked(path, given.largest_mb)
        results[str(path)] = result
        lost = result.get("no_gradient", [])
        print(path.name, result["status"], result.get("sizes", ""), f"{result.get('difference', 0):.1e}", result["why"],
              f"{len(lost)} of {result.get('weights', 0)} without gradient {lost[:3]}" if lost else "",
              "" if result.get("same_bytes", True) else "BYTES DIFFER", flush=True)  # fmt: skip
        if given.json:
            given.json.write_text(json.dumps(results, indent=1))
    ran = [r for r in results.values() if r["status"] not in ("skipped", "not run")]
    equal = [r for r in ran if r["status"] == "equal"]
    print(
        f"{len(equal)} of {len(ran)} files equal ONNX Runtime within {CLOSE:g} ({len(equal) / max(len(ran), 1):.1%}), "
        f"{sum(r.get('sizes') == 'varied' for r in equal)} of them at other sizes; "
        f"{sum(r.get('same_bytes', False) for r in ran)} come back to the byte; "
        f"{sum(bool(r.get('no_gradient')) for r in ran)} have weights without gradient"
    )


if __name__ == "__main__":
    main()
