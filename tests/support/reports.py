"""What a report draws, made up at any size."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.report.facts import Facts, Width


def drawn(names: Sequence[str], units: int, kept: Sequence[int]) -> Facts:
    """A run with everything that is drawn: groups and layers of these names, each group of so many units.

    Half of them stay; the curves are at `kept` units.
    """
    provenance = dict.fromkeys(("dense", "dense_digest", "recipe_sha256", "folder", "model_from"), "x")
    timed = {"p50": 2.0, "p90": 2.5, "p99": 3.0}
    return Facts(
        "net.onnx",
        latency={
            "provider": "cpu", "threads": 1, "batch": 1, "rounds": 9, "dense_ms": timed, "pruned_ms": timed,
            "ratio": {"median": 0.5, "low": 0.4, "high": 0.6},
            "layers": [{"name": name, "op": "Conv", "dense_ms": 1.0, "pruned_ms": 0.5} for name in names],
        },
        widths=[Width(name, "channels", units, units // 2) for name in names],
        zeros=[{"name": name, "shape": [8, 4], "share": 0.5, "parts": [0.0, 1.0] * 4} for name in names],
        training=[{"name": "recover", "history": [{"epoch": 0, "metric": 0.5}, {"epoch": 1, "metric": 0.75}]}],
        sensitivity={
            "metric": "top1", "higher_is_better": True, "dense": 0.9,
            "groups": [
                {"name": name, "size": units, "kept": list(kept), "values": [count / units for count in kept]}
                for name in names
            ],
        },
        provenance={**provenance, "versions": {}, "machine": {}},
    )  # fmt: skip
