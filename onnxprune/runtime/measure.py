"""Shapes that inference leaves open, measured by one run of ONNX Runtime with those values as outputs.

`python -m onnxprune.runtime.measure` is the process in which `measure_apart` has this done, see process.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from onnxprune.errors import ModelError
from onnxprune.graph.bindings import Bindings, bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.runtime.feeds import random_feeds
from onnxprune.runtime.ort import RunOptions, make_session, options_from, run
from onnxprune.runtime.process import BrokeDownError, ask, serve
from onnxprune.runtime.tap import data_folder, exposing


def measure_shapes(
    view: GraphView, bindings: Bindings, names: Iterable[str], options: RunOptions | None = None
) -> dict[str, tuple[int, ...]]:
    """Shapes of the values `names` at the bound input sizes; sequences and other non-tensors are left out.

    Raises ModelError where the model does not run.
    """
    wanted = list(dict.fromkeys(names))
    options = options or RunOptions()
    session = make_session(exposing(view.model, wanted), options, folder=data_folder(view.model), optimise=False)
    values = run(session, wanted, random_feeds(view.inputs, bindings.shapes, options.seed))
    return {name: tuple(v.shape) for name, v in zip(wanted, values, strict=True) if hasattr(v, "shape")}


def measure_apart(
    view: GraphView, bindings: Bindings, names: Iterable[str], options: RunOptions | None = None
) -> dict[str, tuple[int, ...]]:
    """`measure_shapes` in a process of its own, of the file that the model was loaded from.

    Raises ModelError where the model does not run, or ONNX Runtime breaks down on it.
    """
    request = {
        "path": str(view.model.path),
        "input_shapes": {name: list(shape) for name, shape in bindings.shapes.items()},
        "names": list(names),
        "options": asdict(options or RunOptions()),
    }
    try:
        found = ask(__name__, request)["shapes"]
    except BrokeDownError as error:
        raise ModelError(f"ONNX Runtime broke down on {view.model.path}: {error}") from error
    return {name: tuple(shape) for name, shape in found.items()}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    view = GraphView(load(request["path"]))
    bindings = bind_inputs(view, input_shapes=request["input_shapes"])
    return {"shapes": measure_shapes(view, bindings, request["names"], options_from(request["options"]))}


if __name__ == "__main__":
    serve(_answer)
