"""Static INT8 quantisation with Q/DQ nodes by ONNX Runtime, on the calibration data that everything else uses.

Weights are symmetric, per channel and int8, so that zeros stay zeros (zero point 0) and 2:4 survives. What else suits
depends on what runs it. TensorRT demands symmetric activations and takes no quantised biases. The CPU kernels of ONNX
Runtime multiply unsigned activations by signed weights, and stay in integers where all between two layers is quantised;
on x86 without VNNI their 8-bit products saturate in 16 bits, which weights of 7 bits prevent
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.io import load, save
from onnxprune.graph.model import Model
from onnxprune.runtime.data import Data
from onnxprune.runtime.ort import first_line, onnxruntime

PER_CHANNEL_SINCE = 13
"""The opset in which DequantizeLinear took a scale for each channel."""

RANGES = ("minmax", "entropy", "percentile")
TARGETS = {"tensorrt": 8, "cpu": 7}
"""What is to run the model, and the bits of weights that suit it."""


def quantise(
    model: Model,
    data: Data,
    *,
    batch: int = 16,
    ranges: str = "minmax",
    keep: tuple[str, ...] = (),
    target: str = "tensorrt",
    weight_bits: int | None = None,
) -> Model:
    """The model in INT8: Conv, Gemm and MatMul for TensorRT, all that can be for a CPU; but for nodes named in `keep`.

    `weight_bits` is 7 or 8, unless given what suits the target.

    Raises SettingError for a setting that there is not and an opset that cannot hold scales per channel, ModelError
    where ONNX Runtime's quantiser fails.
    """
    if ranges not in RANGES:
        raise SettingError(f"--ranges {ranges}: unknown", remedy=f"give one of {', '.join(RANGES)}")
    if target not in TARGETS:
        raise SettingError(f"--target {target}: unknown", remedy=f"give one of {', '.join(TARGETS)}")
    bits = weight_bits or TARGETS[target]
    if bits not in TARGETS.values():
        raise SettingError(f"--weight-bits is {bits}", remedy="it is 7 or 8")
    opset = next((o.version for o in model.proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < PER_CHANNEL_SINCE:
        raise SettingError(
            f"the model has opset {opset}, and a scale per channel came with {PER_CHANNEL_SINCE}",
            remedy="convert it with onnx.version_converter first",
        )
    onnxruntime()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    kinds = {
        "minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }  # fmt: skip
    how: dict[str, Any] = {
        "tensorrt": {
            "op_types_to_quantize": ["Conv", "Gemm", "MatMul"], "activation_type": QuantType.QInt8,
            "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        },
        "cpu": {"activation_type": QuantType.QUInt8, "extra_options": {"WeightSymmetric": True}},
    }[target]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        source, written = Path(folder) / "real.onnx", Path(folder) / "int8.onnx"
        save(model, source)
        root = logging.getLogger()
        level = root.level
        try:
            root.setLevel(logging.ERROR)  # the quantiser warns on the root logger, of preprocessing that is no must
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                quantize_static(
                    str(source), str(written), _Reader(data, batch), quant_format=QuantFormat.QDQ, per_channel=True,
                    reduce_range=bits < 8, weight_type=QuantType.QInt8, calibrate_method=kinds[ranges],
                    nodes_to_exclude=list(keep), use_external_data_format=_is_external(model), **how,
                )  # fmt: skip
        except Exception as error:
            raise ModelError(
                f"ONNX Runtime does not quantise the model: {first_line(error)}",
                remedy="check the data, or leave nodes out with --ignore",
            ) from error
        finally:
            root.setLevel(level)
        return load(load(written).to_proto(external=True))


def _is_external(model: Model) -> bool:
    return bool(model.data.files)


class _Reader:
    """What the quantiser asks for feeds, batch by batch."""

    def __init__(self, data: Data, batch: int) -> None:
        self._data, self._batch = data, batch
        self._feeds = self._read()

    def _read(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in self._data.batches(self._batch):
            yield batch.feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch's feeds, None at the end."""
        return next(self._feeds, None)

    def rewind(self) -> None:
        """Begin again."""
        self._feeds = self._read()

    def set_range(self, start_index: int, end_index: int) -> None:
        """Ranges are not served: a batch is small enough."""

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found
