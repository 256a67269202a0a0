"""Which machine and runtime a measurement is of."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from onnxprune.runtime.ort import RunOptions, onnxruntime, provider_name


def identity(options: RunOptions) -> dict[str, str]:
    """The processor, system, runtime, provider and threads: what times depend on beside the model."""
    module = onnxruntime()
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "runtime": f"ONNX Runtime {module.__version__}",
        "provider": provider_name(options.provider),
        "threads": str(options.threads),
    }


def _processor() -> str:
    """The processor's name and, on Linux, the widest vectors it has: virtual machines hide the model."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in info.read_text(errors="replace").splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(known.get("flags", known.get("Features", "")).split())
    widest = next(
        (name for name in ("avx512_vnni", "avx512f", "avx_vnni", "avx2", "sve", "asimd") if name in flags), ""
    )
    return f"{known.get('model name', platform.machine())} {widest}".strip()
