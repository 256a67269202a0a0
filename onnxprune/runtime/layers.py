"""Where a model's time goes: ONNX Runtime's own profile, node by node.

What ONNX Runtime runs is not what the file holds: it fuses nodes and changes layouts. A node that it made is named
after the tensor or node that it ends with, which a pruned model has under the same name, so that the two compare.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxprune.errors import ModelError
from onnxprune.runtime.ort import RunOptions, make_session, run

RUNS, _WARM_UP = 20, 3
LAYOUT = "changes of layout"
"""The name under which nodes are gathered that only bring tensors into the order in which the others want them."""

_LAYOUT_NODES = re.compile(r"Reorder(In|Out)put\w*")
_SUFFIXES = re.compile(r"(_nchwc)?_kernel_time$")


def time_layers(
    model: Path, feeds: Mapping[str, np.ndarray], options: RunOptions, *, runs: int = RUNS
) -> dict[str, tuple[str, float]]:
    """Operator and milliseconds a run of every node that ONNX Runtime runs, by name, in the order of the first run.

    The milliseconds are of the wall clock, the mean of the faster half of the runs. Profiling itself takes time: the
    sum is more than the model takes without. Raises as `make_session` and `run` do.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = make_session(model, options, profile=Path(folder) / "profile")
        for _ in range(_WARM_UP + runs):
            run(session, None, dict(feeds))
        written = Path(session.end_profiling())
        try:
            events = json.loads(written.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"the profile of ONNX Runtime cannot be read: {error}") from error
    operators: dict[str, str] = {}
    times: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    number = 0
    for event in events:
        if event.get("name") == "model_run":  # comes after the events of its nodes
            number += 1
        elif event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = _SUFFIXES.sub("", event["name"])
            if _LAYOUT_NODES.fullmatch(name):
                name = LAYOUT
            operators.setdefault(name, event["args"].get("op_name", ""))
            times[name][number] += event["dur"] / 1000
    return {name: (operators[name], _usual([of[k] for k in of if k >= _WARM_UP])) for name, of in times.items()}


def _usual(samples: list[float]) -> float:
    """The mean of the faster half: whole microseconds are what the profile has, and other work slows some runs."""
    fast = sorted(samples)[: max(1, (len(samples) + 1) // 2)]
    return float(np.mean(fast)) if samples else 0.0
