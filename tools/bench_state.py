"""How far a pruned model with state drifts from the dense one: frame after frame, each fed its own states.

    python tools/bench_state.py silero_vad.onnx --pruning-ratio 0.2 --frames 100 \\
        --state stateN=state --set sr=16000 --input-shapes '{"input": [1, 576], "state": [2, 1, 128]}' --hop 512

Both models start from zero states and read the same signal in frames; what the output OUT of one frame holds is the
input IN of the next (`--state OUT=IN`, once for each state). The signal is made up: "speech" is a voiced source with
gliding pitch, formants and syllables, with pauses of faint noise; "noise" is white. Prints, for every output that is no
state, the largest and the mean absolute distance over all frames, beside how far the dense output itself moves. With
--max-distance exits non-zero where an output is further away in any frame.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper
from rich.console import Console
from rich.table import Table

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit import edit
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.selection import removed_classes_of
from onnxprune.graph.model import Model
from onnxprune.importance import score
from onnxprune.plan import plan
from onnxprune.runtime.measure import measure_shapes
from onnxprune.runtime.ort import RunOptions, make_session, run
from onnxprune.types import Budget

RATE = 16000  # samples a second, of the made-up speech
LOUD, FAINT = 0.3, 0.001
FORMANTS = ((500.0, 80.0), (1500.0, 120.0), (2500.0, 160.0))  # Hz: centre and width of a neutral vowel's
Feeds = dict[str, np.ndarray]


def noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """White noise, float32."""
    return (LOUD * rng.normal(size=count)).astype(np.float32)


def speech(count: int, rng: np.random.Generator) -> np.ndarray:
    """Something like speech, float32: four syllables a second, every other second a pause."""
    time = np.arange(count) / RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time) + 10 * np.sin(2 * np.pi * 3.1 * time)
    phase = np.cumsum(pitch) / RATE
    source = 2 * (phase % 1) - 1 + 0.05 * rng.normal(size=count)
    voice = sum(_resonance(source, centre, width) / (k + 1) for k, (centre, width) in enumerate(FORMANTS))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time), 0, 1) ** 0.5 * (time % 2 < 1)
    voice = voice * syllables
    return (LOUD * voice / np.abs(voice).max(initial=1e-9) + FAINT * rng.normal(size=count)).astype(np.float32)


def _resonance(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A second-order resonator, as the response of one impulse that is convolved with `x`."""
    n = np.arange(RATE // 20)
    response = np.exp(-np.pi * width * n / RATE) * np.sin(2 * np.pi * centre * (n + 1) / RATE)
    return np.convolve(x, response)[: len(x)]


SIGNALS = {"speech": speech, "noise": noise}


def frames(coupling: Coupling, given: argparse.Namespace) -> Iterator[Feeds]:
    """The inputs of every frame that are no state: a window on the signal for each float, what was set for the rest."""
    rng = np.random.default_rng(given.seed)
    sources, fixed = {}, {}
    for name, info in coupling.view.inputs.items():
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
        shape = coupling.bindings.shapes[name]
        if name in given.set:
            fixed[name] = np.full(shape, given.set[name], dtype)
        elif name not in given.state.values():
            size = int(np.prod(shape))
            step = given.hop or size
            sources[name] = SIGNALS[given.signal](size + step * given.frames, rng), size, step, shape, dtype
    for frame in range(given.frames):
        cut = {
            name: signal[frame * step : frame * step + size].reshape(shape).astype(dtype)
            for name, (signal, size, step, shape, dtype) in sources.items()
        }
        yield {**fixed, **cut}


def stream(
    model: Model, starts: Mapping[str, np.ndarray], states: Mapping[str, str], inputs: list[Feeds]
) -> list[Feeds]:
    """Run `model` frame by frame. `states` says which output is which input of the next; gives the outputs."""
    session = make_session(model.to_proto(external=True).SerializeToString(), RunOptions(threads=1))
    names = [output.name for output in session.get_outputs()]
    held, found = dict(starts), []
    for feeds in inputs:
        outputs = dict(zip(names, run(session, names, {**feeds, **held}), strict=True))
        held = {target: outputs[source] for source, target in states.items()}
        found.append(outputs)
    return found


def zeros(coupling: Coupling, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> Feeds:
    kinds = {name: coupling.view.inputs[name].type.tensor_type.elem_type for name in names}
    return {name: np.zeros(shapes[name], helper.tensor_dtype_to_np_dtype(kind)) for name, kind in kinds.items()}


def compare(dense: list[Feeds], pruned: list[Feeds], states: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Per output that is no state: how far the models are apart, and how far the dense one moves on its own."""
    found = {}
    for name in dense[0]:
        if name in states or dense[0][name].dtype.kind != "f":
            continue
        a, b = (np.stack([outputs[name] for outputs in run]).astype(np.float64) for run in (dense, pruned))
        gaps = np.abs(a - b).reshape(len(a), -1)
        found[name] = {
            "max": float(gaps.max()),
            "at frame": int(gaps.max(axis=1).argmax()),
            "mean": float(gaps.mean()),
            "last frame": float(gaps[-1].max()),
            "dense from": float(a.min()),
            "dense to": float(a.max()),
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pruning-ratio", type=float, default=0.2)
    parser.add_argument("--criterion", default="l2")
    parser.add_argument("--ranking", default="local")
    parser.add_argument("--exact-only", action="store_true")
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--allow-io-change", action="append", default=[])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--hop", type=int, default=0, help="samples from one frame to the next; 0: a frame's length")
    parser.add_argument("--signal", choices=SIGNALS, default="speech")
    parser.add_argument("--state", action="append", default=[], metavar="OUT=IN")
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=NUMBER")
    parser.add_argument("--input-shapes", type=json.loads, default={})
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-distance", type=float)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.state = dict(item.split("=", 1) for item in given.state)
    given.set = {name: float(number) for name, number in (item.split("=", 1) for item in given.set)}

    coupling = analyse(
        given.model, input_shapes=given.input_shapes, allow_io_change=given.allow_io_change, measure=measure_shapes
    )
    chosen = plan(
        coupling, score(coupling, given.criterion), Budget(ratio=given.pruning_ratio), ranking=given.ranking,
        ignore=given.ignore, exact_only=given.exact_only,
    )  # fmt: skip
    removed = removed_classes_of(coupling, chosen)
    pruned, prediction = edit(coupling, removed).model, Prediction(coupling, removed)
    inputs, held = list(frames(coupling, given)), list(given.state.values())
    dense_run = stream(coupling.view.model, zeros(coupling, held, coupling.bindings.shapes), given.state, inputs)
    smaller = {name: prediction.shape(name) for name in held}
    pruned_run = stream(pruned, zeros(coupling, held, smaller), given.state, inputs)
    found = compare(dense_run, pruned_run, given.state)

    before, after = coupling.cost(), coupling.cost(removed)
    console = Console(width=160 if not sys.stdout.isatty() else None)
    console.print(f"{given.model.name}: {given.frames} frames of {given.signal}, state carried")
    console.print(
        f"parameters left {after.parameters / before.parameters:.3f}, MACs left {after.macs / before.macs:.3f}"
    )
    table = Table(
        "output", "max distance", "at frame", "mean distance", "in the last frame", "dense output, from", "to"
    )
    for name, row in found.items():
        table.add_row(name, *(f"{value:.4g}" for value in row.values()))
    console.print(table)
    if given.json:
        given.json.write_text(json.dumps({"before": vars(before), "after": vars(after), "outputs": found}, indent=1))
    if given.max_distance is not None and any(row["max"] > given.max_distance for row in found.values()):
        console.print(f"further than {given.max_distance}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
