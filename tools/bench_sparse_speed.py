"""2:4 by magnitude on one file: ours, `polygraphy surgeon prune`, and onnx.load + onnx.save, in turn.

    python tools/bench_sparse_speed.py --megabytes 100

The model is made here: 1x1 and 3x3 convolutions, float32, random weights. Whole processes are compared for the two
tools, and our function alone with load and save; of ours and of load and save the median of several runs. Seconds are
the processor's, children's included, which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxprune.graph.io import load, save
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.check import check
from onnxprune.sparsity.masking import TWO_OF_FOUR, put_masked
from onnxprune.sparsity.wanted import Request, settle
from onnxprune.sparsity.weights import find_weights

WIDTH = 512


def make(path: Path, megabytes: int) -> None:
    """Layers of WIDTH channels, a 1x1 and a 3x3 convolution in turn."""
    rng = np.random.default_rng(0)
    nodes, weights, value, size, number = [], [], "x", 0, 0
    while size < megabytes * 1_000_000:
        kernel = (3, 3) if number % 2 else (1, 1)
        weight = rng.normal(size=(WIDTH, WIDTH, *kernel)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"], pads=[kernel[0] // 2] * 4))
        value, size, number = f"c{number}", size + weight.nbytes, number + 1
    nodes.append(helper.make_node("Identity", [value], ["y"]))
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, WIDTH, 8, 8]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "speed", info[:1], info[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def ours(source: Path, target: Path) -> None:
    """What `onnxprune sparsify` does, without running the result."""
    model = load(source)
    view = GraphView(model)
    wanted = settle(view, find_weights(view), Request(TWO_OF_FOUR))
    changed = GraphView(model.copy(without=[t.weight.name for t in wanted.targets]), view)
    for each in wanted.targets:
        put_masked(changed, model, view, each)
    save(changed.model, target)


def seconds(run: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        started = os.times()
        run()
        ended = os.times()
        found.append(sum(ended[:4]) - sum(started[:4]))
    return median(found)


def command(program: str, *arguments: object) -> None:
    """Run a console script of this installation."""
    subprocess.run(
        [str(Path(sys.executable).with_name(program)), *map(str, arguments)], check=True, capture_output=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "model.onnx"
        make(source, given.megabytes)
        plain = seconds(lambda: onnx.save(onnx.load(source), folder / "plain.onnx"), given.times)
        mine = seconds(lambda: ours(source, folder / "ours.onnx"), given.times)
        view = GraphView(load(folder / "ours.onnx"))
        share = check(view, find_weights(view), TWO_OF_FOUR).share
        whole = seconds(
            lambda: command("onnxprune", "sparsify", source, "-o", folder / "o.onnx", "--no-verify", "-q"), 1
        )
        theirs = seconds(lambda: command("polygraphy", "surgeon", "prune", source, "-o", folder / "theirs.onnx"), 1)
    print(f"{given.megabytes} MB, {share:.0%} of the eligible weights follow 2:4 afterwards")
    print(f"onnx.load + onnx.save            {plain:8.2f} s")
    print(f"2:4 by magnitude, load to save   {mine:8.2f} s   {mine / plain:.1f} times load + save")
    print(f"onnxprune sparsify, the process  {whole:8.2f} s")
    print(f"polygraphy surgeon prune         {theirs:8.2f} s   {theirs / whole:.0f} and {theirs / mine:.0f} times ours")


if __name__ == "__main__":
    main()
