"""What is installed, and whether it works: for `onnxprune doctor`.

`python -m onnxprune.runtime.environment` is the process that tries ONNX Runtime, see process.py.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from onnxprune.errors import RuntimeMissingError
from onnxprune.runtime.ort import CPU, onnxruntime, why_not
from onnxprune.runtime.process import BrokeDownError, ask, serve

_PACKAGES = (
    ("onnxprune", "this tool"),
    ("onnx", "reading and writing models"),
    ("numpy", "arithmetic"),
    ("onnxruntime", "running models on the CPU: extra [cpu]"),
    ("onnxruntime-gpu", "running models on a GPU, and on the CPU: extra [gpu]"),
    ("torch", "recovery by fine-tuning: extra [recover]"),
    ("pillow", "reading calibration images: extra [images]"),
    ("onnx-graphsurgeon", "handing graphs in and out: extra [graphsurgeon]"),
)
# All of these own the folder `onnxruntime`: of two that are installed, each has overwritten files of the other.
_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)
# Listed by every CPU build, and loads everywhere: it sends nodes that ask for it to a web service, and runs none here.
_NO_PROVIDERS = frozenset({"AzureExecutionProvider"})


@dataclass(frozen=True)
class Package:
    """An installed package; `version` is None where it is not installed."""

    name: str
    version: str | None
    purpose: str


@dataclass(frozen=True)
class Environment:
    """`providers` maps what ONNX Runtime lists to why it does not load, None where it does.

    `imported` is the version of the ONNX Runtime that Python finds, which packages of other versions may have
    overwritten.
    """

    python: str
    platform: str
    packages: tuple[Package, ...]
    imported: str | None
    providers: dict[str, str | None]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> Environment:
    """Look at this process's environment. Never raises for what is missing."""
    runtimes = [name for name in _RUNTIMES if _version(name) is not None]
    named = [name for name, _ in _PACKAGES]
    others = [(name, "running models: another build") for name in runtimes if name not in named]
    packages = tuple(Package(name, _version(name), purpose) for name, purpose in (*_PACKAGES, *others))
    problems = []
    if len(runtimes) > 1:
        problems.append(
            f"{' and '.join(runtimes)} are installed and break each other: uninstall all of them, "
            "then install the one you want"
        )
    found: dict[str, Any] = {"version": None, "providers": {}}
    try:
        found = ask(__name__, {})
    except RuntimeMissingError as error:
        problems.append(
            f"{error.message}: reinstall it" if runtimes
            else f"{error.message}, and results cannot be verified: {error.remedy}"
        )  # fmt: skip
    except BrokeDownError as error:
        problems.append(f"ONNX Runtime breaks down: {error}: reinstall it")
    else:
        if found["providers"].get(CPU, "missing") is not None:
            problems.append("ONNX Runtime does not run on the CPU: reinstall it")
    return Environment(
        platform.python_version(), platform.platform(), packages, found["version"], found["providers"], tuple(problems)
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _look(request: dict[str, Any]) -> dict[str, Any]:
    """Of the ONNX Runtime that Python finds: its version, and its providers with why they do not load."""
    module = onnxruntime()
    return {
        "version": getattr(module, "__version__", None),
        "providers": {name: why_not(name) for name in module.get_available_providers() if name not in _NO_PROVIDERS},
    }


if __name__ == "__main__":
    serve(_look)
