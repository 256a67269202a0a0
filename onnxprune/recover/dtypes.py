"""Element types: ONNX's numbers, torch's dtypes, and arrays of either in and out of the other."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto, helper

TORCH: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BOOL: torch.bool,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    # what has fewer bits than a byte, or no arithmetic in torch, is held in a type that has all its values
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
}
RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(1 << 15), (1 << 15) - 1),
    TensorProto.UINT16: (0, (1 << 16) - 1),
    TensorProto.INT32: (-(1 << 31), (1 << 31) - 1),
}
"""Least and largest value of the types that tensors are quantised to."""

FLOAT8 = frozenset(kind for kind, dtype in TORCH.items() if "float8" in str(dtype))
UNTOLD = frozenset({TensorProto.INT4, TensorProto.UINT4})
"""Types that a tensor's dtype does not tell, since torch holds them in a wider one."""

HALF = (torch.float16, torch.bfloat16)
_SAME_BITS = {  # ml_dtypes' arrays that torch does not take -> a view of the same bits, and what they are
    "bfloat16": (np.int16, torch.bfloat16),
    "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn),
    "float8_e4m3fnuz": (np.uint8, torch.float8_e4m3fnuz),
    "float8_e5m2": (np.uint8, torch.float8_e5m2),
    "float8_e5m2fnuz": (np.uint8, torch.float8_e5m2fnuz),
}
_WIDER = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8, "float4_e2m1fn": np.float32}


def torch_dtype(kind: int, widen: bool = False) -> torch.dtype:
    """The dtype for an ONNX element type, float32 for half precision with `widen`. KeyError where torch has none."""
    found = TORCH[kind]
    return torch.float32 if widen and found in HALF else found


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor that owns a copy of the array. Raises TypeError for strings and types that torch does not have."""
    name = array.dtype.name
    if name in _SAME_BITS:
        bits, dtype = _SAME_BITS[name]
        return torch.from_numpy(np.array(array).view(bits)).view(dtype)
    if name in _WIDER:
        array = array.astype(_WIDER[name])
    return torch.from_numpy(np.array(array, order="C"))


def to_array(tensor: torch.Tensor, kind: int) -> np.ndarray:
    """The tensor as an array of an ONNX element type, rounded where that is narrower."""
    target = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16 or "float8" in str(tensor.dtype):
        tensor = tensor.float()
    return np.asarray(tensor.numpy()).astype(target)


def is_unsigned(dtype: torch.dtype) -> bool:
    """Whether it is one of the unsigned types that torch hardly computes in."""
    return dtype in (torch.uint16, torch.uint32, torch.uint64)
