"""The step in which a runtime's time falls with the number of channels: 16 with AVX-512, 8 with AVX2, often 8 on a GPU.

Kernels work on blocks of channels: one channel more than a whole number of blocks may cost as much as the next block.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxprune.runtime.latency import Effort, Runner, clock_for, time_in_turn
from onnxprune.runtime.ort import CPU, RunOptions, provider_name

STEPS = (32, 16, 8, 4, 2)
_WIDTH = 128
_PIXELS = 28
_EFFORT = Effort(rounds=40, seconds=15.0, warm_up=3)
_ENOUGH = 0.5  # of what fewer multiplications would save


def rounding_step(options: RunOptions, half: bool = False) -> int:
    """The largest saving per channel is had in multiples of this: one of STEPS, found by timing convolutions.

    Two 3x3 convolutions in a row of 128 channels are compared with those of a step less, in float16 if `half`. The step
    is the smallest from 32 down of which each saves at least half of what its multiplications let expect. On the CPU
    one thread does it: its kernels are the same for any number. Raises as `make_session` does.
    """
    if provider_name(options.provider) == CPU:
        options = replace(options, threads=1)
    widths = [_WIDTH, *(_WIDTH - step for step in STEPS)]
    feeds = [_input(width, half) for width in widths]
    runners = [
        Runner.of(_convolutions(width, half).SerializeToString(), {"x": x}, options)
        for width, x in zip(widths, feeds, strict=True)
    ]
    times = [timing.least for timing in time_in_turn(runners, _EFFORT, clock_for(options))]
    return step_of(dict(zip(widths, times, strict=True)))


def step_of(times: dict[int, float]) -> int:
    """The step, from times by number of channels: of 128, and of 128 less each of STEPS."""
    found = STEPS[0]
    for step in STEPS:
        expected = 1 - ((_WIDTH - step) / _WIDTH) ** 2
        if 1 - times[_WIDTH - step] / times[_WIDTH] < _ENOUGH * expected:
            break
        found = step
    return found


def _input(width: int, half: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(1, width, _PIXELS, _PIXELS)).astype(np.float16 if half else np.float32)


def _convolutions(width: int, half: bool) -> ModelProto:
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    rng = np.random.default_rng(1)
    weight = (rng.normal(size=(width, width, 3, 3)) / width).astype(np.float16 if half else np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Conv", ["r", "w"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "probe",
        [helper.make_tensor_value_info("x", kind, (1, width, _PIXELS, _PIXELS))],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
