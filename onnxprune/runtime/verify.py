"""Does a written file load and run in ONNX Runtime, with the shapes that were predicted? In a process of its own.

`python -m onnxprune.runtime.verify` is that process, see process.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnxprune.errors import ModelError, RuntimeMissingError, VerificationError
from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.runtime.feeds import random_feeds
from onnxprune.runtime.measure import measure_shapes
from onnxprune.runtime.ort import RunOptions, first_line, make_session, options_from, run
from onnxprune.runtime.process import BrokeDownError, ask, serve

_REMEDY = "Nothing was written; please report this model"


def verify_file(
    path: Path,
    dense: Path | None,
    input_shapes: Mapping[str, Sequence[int]],
    expected: Mapping[str, Sequence[int]],
    options: RunOptions,
) -> dict[str, Any]:
    """Load `path`, run it on made-up inputs of `input_shapes`, compare the shapes of the values in `expected`.

    Where the `dense` model does not run on made-up inputs either, that the file loads is all that can be said.
    Gives the providers, `ran` (with `why` if not), the output shapes and how many values were compared.
    Raises VerificationError where the file does not do what the dense model does, ModelError where ONNX Runtime
    does not load the dense model either, SettingError and RuntimeMissingError as `make_session` does.
    """
    request = {
        "path": str(path),
        "dense": None if dense is None else str(dense),
        "input_shapes": {k: list(v) for k, v in input_shapes.items()},
        "expected": {k: list(v) for k, v in expected.items()},
        "options": asdict(options),
    }
    try:
        return ask(__name__, request)
    except BrokeDownError as error:
        raise VerificationError(f"ONNX Runtime broke down on the pruned model: {error}", remedy=_REMEDY) from error


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    options = options_from(request["options"])
    view = GraphView(load(request["path"]))
    bindings = bind_inputs(view, input_shapes=request["input_shapes"])
    session = _session(request["path"], request["dense"], options)
    feeds = random_feeds(view.inputs, bindings.shapes, options.seed)
    try:
        outputs = run(session, None, feeds)
    except ModelError as error:
        if request["dense"] is None or _runs(request["dense"], feeds, options):
            raise VerificationError(f"the pruned model fails: {error.message}", remedy=_REMEDY) from error
        return {"providers": session.get_providers(), "ran": False, "why": error.message, "outputs": {}, "measured": 0}
    expected = {name: tuple(shape) for name, shape in request["expected"].items()}
    found = measure_shapes(view, bindings, expected, options) if expected else {}
    for name, shape in found.items():
        if shape != expected[name]:
            raise VerificationError(
                f"in the pruned model {name!r} has the shape {list(shape)}, predicted was {list(expected[name])}",
                remedy=_REMEDY,
            )
    return {
        "providers": session.get_providers(),
        "ran": True,
        "outputs": {o.name: list(getattr(v, "shape", ())) for o, v in zip(session.get_outputs(), outputs, strict=True)},
        "measured": len(found),
    }


def _session(path: str, dense: str | None, options: RunOptions) -> Any:
    try:
        return make_session(path, options)
    except RuntimeMissingError as error:
        raise RuntimeMissingError(error.message, remedy=f"{error.remedy}; or pass --no-verify") from error
    except ModelError as error:
        why = first_line(error.__cause__ or error)
        if dense is not None and not _loads(dense, options):
            raise ModelError(
                f"ONNX Runtime does not load this model, pruned or not: {why}",
                remedy="Custom operators need --custom-op-library; --no-verify writes the result without running it",
            ) from error
        raise VerificationError(f"ONNX Runtime does not load the pruned model: {why}", remedy=_REMEDY) from error


def _loads(path: str, options: RunOptions) -> bool:
    try:
        make_session(path, options)
    except ModelError:
        return False
    return True


def _runs(path: str, feeds: dict[str, Any], options: RunOptions) -> bool:
    try:
        run(make_session(path, options), None, feeds)
    except ModelError:
        return False
    return True


if __name__ == "__main__":
    serve(_answer)
