"""Which operators ONNX Runtime's CPU build has kernels for, where it can be asked without crashing."""

from __future__ import annotations

import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

# A GPU build loads its providers to list kernels, and dies of a segmentation fault where CUDA's libraries are missing.
CAN_BE_ASKED = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()

asks_for_kernels = pytest.mark.skipif(not CAN_BE_ASKED, reason="only the CPU build can list its kernels anywhere")


def kernels(domain: str) -> set[str]:
    """Operators of a domain that have a kernel; empty where the build cannot be asked."""
    if not CAN_BE_ASKED:
        return set()
    return {kernel.op_name for kernel in runtime.get_all_opkernel_def() if kernel.domain == domain}
