"""One file quantised by ONNX Runtime: `python -m zoo.quantise FILE OUT KIND...`, in a process of its own.

Writes OUT/NAME.KIND.onnx for each kind and prints one JSON object, the outcome by kind ("written", or why not).
Calibration is with random inputs: the ranges are of the right size, which is all that pruning needs. Weights have 7
bits (`reduce_range`): sums of 8-bit products saturate on CPUs without VNNI, and then depend on which terms are there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.calibrate import load_tensors_data
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.runtime.feeds import random_feeds
from onnxprune.runtime.ort import RunOptions, make_session

KINDS = ("qdq", "qdq_tensor", "qop", "dynamic", "blocks")
SAMPLES = 2
BLOCK = 32
TOKENS = 8
Feeds = dict[str, np.ndarray]
LIMIT = 1e6
"""Activations are smaller; a mask's minus infinity is larger."""


class RandomReader(CalibrationDataReader):
    """A few random inputs at the sizes that analysis would bind.

    Token 0 is left out where other integers will do: its row is all zeros in many tables, and the norm that divides
    by its size would have a range that leaves no steps for any other token.
    """

    def __init__(self, path: Path) -> None:
        view = GraphView(load(path))
        shapes = bind_inputs(view).shapes
        session = make_session(path, RunOptions(threads=1))
        feeds = []
        for seed in range(SAMPLES):
            usual = random_feeds(view.inputs, shapes, seed)
            feeds.append(_first_that_runs(session, [_with_tokens(usual, seed), usual]))
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def _with_tokens(feeds: Feeds, seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(1, TOKENS, a.shape).astype(a.dtype) if a.dtype.kind in "iu" and "mask" not in name else a
        for name, a in feeds.items()
    }


def _first_that_runs(session: Any, choices: list[Feeds]) -> Feeds:
    for feeds in choices[:-1]:
        try:
            session.run(None, feeds)
        except Exception as error:  # noqa: BLE001 - an index that the model does not have
            print(f"other inputs: {error}", file=sys.stderr)
        else:
            return feeds
    return choices[-1]


def prepared(path: Path, folder: Path) -> Path:
    """The file after ONNX Runtime's own preparation, without symbolic shapes where these fail; else as it is.

    Exporters state the shapes of weights, too; the quantiser transposes some weights in place, and then stumbles over
    what is stated.
    """
    for symbolic in (True, False):
        target = folder / f"prepared{int(symbolic)}.onnx"
        try:
            quant_pre_process(path, target, skip_symbolic_shape=not symbolic)
        except Exception as error:  # noqa: BLE001 - whatever it raises, there is another way
            print(f"preparation (symbolic={symbolic}): {error}", file=sys.stderr)
        else:
            proto = onnx.load(target)
            stored = {tensor.name for tensor in proto.graph.initializer}
            stated = [info for info in proto.graph.value_info if info.name not in stored]
            del proto.graph.value_info[:]
            proto.graph.value_info.extend(stated)
            onnx.save(proto, target)
            return target
    return path


def quantise(kind: str, source: Path, original: Path, target: Path, ranges: Path) -> None:
    """Write `source`, quantised, to `target`. `ranges` keeps what calibration found for the other static kinds."""
    if kind == "dynamic":
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, reduce_range=True)
    elif kind == "blocks":
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source), block_size=BLOCK, is_symmetric=False, op_types_to_quantize=("MatMul", "Gather")
        )
        quantizer.process()
        proto = quantizer.model.model
        if not any(node.op_type in ("MatMulNBits", "GatherBlockQuantized") for node in proto.graph.node):
            raise ValueError("no product with a stored matrix, and no table")
        onnx.save(proto, target)
    else:
        as_operators = kind == "qop"
        write = partial(
            quantize_static,
            source,
            target,
            RandomReader(original),
            quant_format=QuantFormat.QOperator if as_operators else QuantFormat.QDQ,
            per_channel=kind != "qdq_tensor",
            activation_type=QuantType.QUInt8 if as_operators else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            calibration_cache_path=ranges,
        )
        write()
        if masking := masking_nodes(onnx.load(source), ranges):
            write(nodes_to_exclude=masking)


def masking_nodes(proto: onnx.ModelProto, ranges: Path) -> list[str]:
    """Nodes that touch numbers which stand for minus infinity: with these, 8 bits have room for nothing else."""
    found = load_tensors_data(ranges).data.items()
    extreme = {name for name, data in found if np.abs(np.stack(data.range_value)).max(initial=0) > LIMIT}
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor)
            if array.size and np.abs(array).max() > LIMIT:
                extreme.add(tensor.name)
    return [node.name for node in proto.graph.node if extreme.intersection([*node.input, *node.output])]


def probe(path: Path) -> None:
    """Raises ValueError where ONNX Runtime does not run its own product, or where that says the same of any input."""
    view = GraphView(load(path))
    feeds = random_feeds(view.inputs, bind_inputs(view).shapes)
    try:
        outputs = make_session(path, RunOptions(threads=1)).run(None, feeds)
    except Exception as error:
        raise ValueError(f"it does not run: {error}") from error
    floats = [y for y in outputs if y.dtype.kind == "f" and y.size > 1]
    if floats and max(float(y.max() - y.min()) for y in floats) == 0:
        raise ValueError("its output is one number")


def main() -> None:
    path, out, *kinds = sys.argv[1:]
    outcome = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = prepared(Path(path), folder)
        for kind in kinds:
            unfinished = folder / "quantised.onnx"
            target = Path(out) / f"{Path(path).name.removesuffix('.onnx')}.{kind}.onnx"
            try:
                quantise(kind, source, Path(path), unfinished, folder / "ranges.json")
                probe(unfinished)
                staged = target.with_name(f".{target.name}.partial")
                staged.write_bytes(unfinished.read_bytes())
                os.replace(staged, target)
                outcome[kind] = "written"
            except Exception as error:  # noqa: BLE001 - a kind that fails is recorded, the others go on
                outcome[kind] = f"{type(error).__name__}: {error}"[:400]
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
