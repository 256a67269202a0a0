"""onnxsim's structured pruning on one file.

Channels first, then attention heads, both without simplifying before, which leaves more for it to prune.
Where the heads break the file, the channels alone count. A run counts when ONNX Runtime runs the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from zoo.limits import TimeIsUp, processor_seconds

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
Step = Callable[..., ModelProto]


def parameters(model: ModelProto) -> int:
    return sum(math.prod(i.dims) for i in model.graph.initializer if i.data_type in _FLOATS)


def feed(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """Inputs for a file, from its line in the manifest."""
    random = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for item in record["inputs"]:
        shape = item["shape"]
        if item["fill"] == "normal":
            values[item["name"]] = random.standard_normal(shape, dtype=np.float32)
        elif item["fill"] == "ids":
            values[item["name"]] = random.integers(3, item["high"], shape)
        else:
            values[item["name"]] = np.ones(shape, np.int64)
    return values


def runs(model: ModelProto, inputs: dict[str, np.ndarray]) -> str | None:
    """None where ONNX Runtime loads and runs the model, else why not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session.run(None, inputs)
    # ONNX Runtime's own exceptions have no common base class.
    except Exception as error:  # noqa: BLE001
        return str(error).strip().splitlines()[-1][:300]
    return None


def prune(path: str, record: dict[str, Any], ratio: float, limit: float) -> dict[str, Any]:
    import onnxsim

    dense = onnx.load(path)
    before = parameters(dense)
    chains: dict[str, list[Step]] = {
        "channels and heads": [onnxsim.apply_structured_pruning, onnxsim.apply_attention_head_pruning],
        "channels": [onnxsim.apply_structured_pruning],
    }
    result: dict[str, Any] = {}
    why = ""
    for name, steps in chains.items():
        started = time.process_time()
        try:
            with processor_seconds(limit):
                pruned = ModelProto()
                pruned.CopyFrom(dense)
                for step in steps:
                    pruned = step(pruned, sparsity=ratio)
        except TimeIsUp:
            return {"status": "timeout", "seconds": limit}
        # Whatever the peer raises is its result.
        except Exception as error:  # noqa: BLE001
            why = why or f"{type(error).__name__}: {str(error).strip()[:300]}"
            continue
        spent = round(time.process_time() - started, 2)
        broken = runs(pruned, feed(record))
        if broken is None:
            result = {"status": "run", "seconds": spent, "share": parameters(pruned) / before, "steps": name}
            return result | ({"why_less": why} if why else {})
        why = why or broken
    return {"status": "fail", "why": why}
