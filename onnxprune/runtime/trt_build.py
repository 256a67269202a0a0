"""Builds a TensorRT engine through Polygraphy, beside the dense precision of ONNX Runtime, and prints JSON.

Stands alone: python trt_build.py SETTINGS-AS-JSON, or with the settings written into it (`onnxprune engine
--emit-script`). Needs polygraphy, tensorrt, onnxruntime and an NVIDIA GPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

SETTINGS: dict[str, Any] = {}
WARM, RUNS = 10, 50


def loaders(given: dict[str, Any], trt: Any) -> Any:
    """Polygraphy's loader that builds the engine of these settings; `trt` is the tensorrt module."""
    from polygraphy.backend.trt import CreateConfig, EngineFromNetwork, NetworkFromOnnxPath, Profile, SaveEngine

    profile = Profile()
    for name, (smallest, usual, largest) in given["shapes"].items():
        profile.add(name, tuple(smallest), tuple(usual), tuple(largest))
    options: dict[str, Any] = {"sparse_weights": given["sparse"], "profiles": [profile]}
    if given["precision"] != "fp32":
        options[given["precision"]] = True
    if given["workspace"] is not None:
        options["memory_pool_limits"] = {trt.MemoryPoolType.WORKSPACE: given["workspace"] << 20}
    if given["timing_cache"] is not None and os.path.exists(given["timing_cache"]):
        options["load_timing_cache"] = given["timing_cache"]
    options["profiling_verbosity"] = trt.ProfilingVerbosity.DETAILED
    network = NetworkFromOnnxPath(given["model"])
    engine = EngineFromNetwork(network, config=CreateConfig(**options), save_timing_cache=given["timing_cache"])
    return SaveEngine(engine, given["engine"])


def feeds_for(metadata: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Seeded noise of the usual shapes."""
    import numpy as np

    rng = np.random.default_rng(0)
    found = {}
    for name, (dtype, shape) in metadata.items():
        usual = given["shapes"].get(name, [None, shape])[1]
        kind = np.dtype(dtype.numpy() if hasattr(dtype, "numpy") else dtype)
        values = rng.normal(size=usual) if kind.kind == "f" else rng.integers(0, 2, usual)
        found[name] = values.astype(kind)
    return found


def timed(runner: Any, feeds: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Outputs, and the median time of an inference in milliseconds."""
    outputs = {name: array.copy() for name, array in runner.infer(feeds).items()}
    for _ in range(WARM):
        runner.infer(feeds)
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        runner.infer(feeds)
        times.append(time.perf_counter() - started)
    return outputs, sorted(times)[RUNS // 2] * 1e3


def main(given: dict[str, Any]) -> None:
    """Build, run beside ONNX Runtime on the CPU, print one line of JSON."""
    import numpy as np
    import tensorrt as trt
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.backend.trt import TrtRunner

    with OnnxrtRunner(SessionFromOnnx(given["model"], providers=["cpu"])) as reference:
        feeds = feeds_for(reference.get_input_metadata(), given)
        expected, cpu = timed(reference, feeds)
    found: dict[str, Any] = {"tensorrt": trt.__version__, "engine": given["engine"], "onnxruntime_cpu_ms": cpu}
    for what, sparse in (("dense", False), ("sparse", True)) if given["sparse"] else (("dense", False),):
        path = given["engine"] if sparse == given["sparse"] else f"{given['engine']}.dense"
        with TrtRunner(loaders({**given, "sparse": sparse, "engine": path}, trt)) as runner:
            outputs, median = timed(runner, feeds)
            inspector = runner.engine.create_engine_inspector()
            layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
        error = max(float(np.abs(outputs[n] - expected[n]).max() / np.abs(expected[n]).max()) for n in expected)
        found[what] = {"ms": median, "worst_relative_error": error, "layers": len(layers)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(SETTINGS or json.loads(sys.argv[1]))
