"""`onnxprune sparsify`: zeros in a pattern, by magnitude or fitted to data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxprune.cli.calibration import Calibrating
from onnxprune.cli.options import Analysis, Common, ModelPath, Writing
from onnxprune.cli.sparsifying import Storing, Ways, Zeros

if TYPE_CHECKING:
    from onnxprune.sparsity.wanted import Request


def sparsify(
    model: ModelPath,
    zeros: Zeros,
    ways: Ways,
    calibrating: Calibrating,
    analysis: Analysis,
    writing: Writing,
    storing: Storing,
    common: Common,
) -> None:
    """Set weights to zero in a pattern: 2:4 and other N:M, blocks, or single ones.

    Writes the model with the same graph. With --data the zeros are chosen, and what stays is fitted, so that each layer
    gives what it gave before; without, the smallest weights go.
    """
    from onnxprune.cli.session import Session
    from onnxprune.cli.sparse_run import run
    from onnxprune.cli.sparse_writing import write
    from onnxprune.cli.writing import check_settings, check_targets
    from onnxprune.errors import SettingError
    from onnxprune.graph.io import load

    here = Session(common)
    request = read_request(zeros)
    if writing.output is None:
        raise SettingError("no output is given", remedy="give -o OUT.onnx")
    if storing.store not in ("dense", "sparse"):
        raise SettingError(f"--store {storing.store}: unknown", remedy="give dense or sparse")
    check_settings(writing)
    loaded = load(model)
    check_targets(loaded, [writing.output])
    made = run(here, loaded, request, ways, calibrating, analysis)
    here.answer({**made.as_json(), **write(here, made, writing, storing.store)})


def read_request(given: Zeros) -> Request:
    """What is asked for. Raises SettingError."""
    from onnxprune.errors import SettingError
    from onnxprune.sparsity.patterns import check_share, parse_pattern
    from onnxprune.sparsity.wanted import Request

    layers: dict[str, Any] = {}
    for text in given.layer or ():
        glob, sign, value = text.rpartition("=")
        if not sign or not glob or not value:
            raise SettingError(f"--layer {text}: not of the form GLOB=V", remedy="for example --layer 'head.*=dense'")
        layers[glob] = value
    pattern = parse_pattern(given.pattern)
    check_share(given.sparsity, pattern)
    return Request(
        pattern, given.sparsity, given.allocation, layers, given.only or (), given.ignore or (), given.dense_ends,
        given.grouped,
    )  # fmt: skip
