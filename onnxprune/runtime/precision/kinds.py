"""The two types of 16 bits, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import TensorProto


@dataclass(frozen=True)
class Kind:
    """An element type: its name on the command line, ONNX's number and name for it, and numpy's."""

    name: str
    number: int
    spelled: str
    dtype: np.dtype

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return float(ml_dtypes.finfo(self.dtype).max)  # type: ignore[no-untyped-call]


FLOAT16 = Kind("fp16", TensorProto.FLOAT16, "float16", np.dtype(np.float16))
BFLOAT16 = Kind("bf16", TensorProto.BFLOAT16, "bfloat16", np.dtype(ml_dtypes.bfloat16))
KINDS = {kind.name: kind for kind in (FLOAT16, BFLOAT16)}
"""By the name on the command line."""
