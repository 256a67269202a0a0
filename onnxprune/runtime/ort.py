"""ONNX Runtime sessions, made the same way everywhere: provider, threads, custom operators, external data."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from onnxprune.errors import ModelError, RuntimeMissingError, SettingError

CPU = "CPUExecutionProvider"
_PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "dml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class RunOptions:
    """How to run: `provider` as "cpu", "cuda" or ONNX Runtime's full name; `threads` 0 for its own choice.

    `seed` is that of made-up inputs. `provider_options` are the provider's own, by name, such as the TensorRT
    provider's trt_sparsity_enable.
    """

    provider: str = "cpu"
    threads: int = 0
    custom_op_libraries: tuple[str, ...] = field(default=())
    seed: int = 0
    provider_options: tuple[tuple[str, str], ...] = field(default=())


def options_from(fields: Mapping[str, Any]) -> RunOptions:
    """RunOptions from what `dataclasses.asdict` and JSON make of them."""
    listed = {
        "custom_op_libraries": tuple(fields["custom_op_libraries"]),
        "provider_options": tuple((key, value) for key, value in fields["provider_options"]),
    }
    return RunOptions(**{**fields, **listed})


INSTALL = "install one extra: `pip install onnxprune[cpu]`, or `onnxprune[gpu]` on Linux x86-64 and Windows"


def onnxruntime() -> ModuleType:
    """The onnxruntime module. Raises RuntimeMissingError naming the extra to install."""
    try:
        import onnxruntime as module
    except ImportError as error:
        is_there = not (isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime")
        why = f"is installed, but cannot be imported ({first_line(error)})" if is_there else "is not installed"
        raise RuntimeMissingError(f"ONNX Runtime {why}", remedy=INSTALL) from error
    found: ModuleType = module
    return found


def is_installed() -> bool:
    """Whether ONNX Runtime can be imported."""
    try:
        onnxruntime()
    except RuntimeMissingError:
        return False
    return True


def check_provider_name(spelled: str) -> None:
    """Raise SettingError for what is no provider of any ONNX Runtime. Loads nothing."""
    if spelled.lower() not in _PROVIDERS and not spelled.endswith("ExecutionProvider"):
        raise SettingError(
            f"--provider {spelled}: there is no such provider",
            remedy=f"give {', '.join(_PROVIDERS)}, or ONNX Runtime's full name, such as CUDAExecutionProvider",
        )


def provider_name(spelled: str) -> str:
    """ONNX Runtime's name of a provider. Raises SettingError for one that this installation does not have."""
    name = _PROVIDERS.get(spelled.lower(), spelled)
    available = onnxruntime().get_available_providers()
    if name not in available:
        raise SettingError(
            f"--provider {spelled}: not in this ONNX Runtime",
            remedy=f"it has {', '.join(available)}; `onnxprune doctor` tells which of them load",
        )
    return name


def make_session(
    model: bytes | str | os.PathLike[str],
    options: RunOptions = RunOptions(),
    *,
    folder: str | os.PathLike[str] | None = None,
    optimise: bool = True,
    settings: Mapping[str, str] | None = None,
    profile: Path | None = None,
) -> Any:
    """An InferenceSession of a file, or of a serialized model whose external data lies in `folder`.

    `settings` are entries of the session's configuration (onnxruntime_session_options_config_keys.h). With `profile` it
    writes what each node took to a file whose name begins so, once it is asked to `end_profiling`.

    Raises SettingError where the provider does not really load (ONNX Runtime would fall back to the CPU with a
    warning) or has not the options, and ModelError where ONNX Runtime refuses the model.
    """
    module = onnxruntime()
    session_options = module.SessionOptions()
    session_options.log_severity_level = 4  # what goes wrong is raised, and told once
    session_options.intra_op_num_threads = options.threads
    if not optimise:
        session_options.graph_optimization_level = module.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        session_options.enable_profiling = True
        session_options.profile_file_prefix = str(profile)
    folders = {} if folder is None else {_EXTERNAL_FOLDER: str(folder)}
    for key, value in {**folders, **(settings or {})}.items():
        session_options.add_session_config_entry(key, value)
    for library in options.custom_op_libraries:
        try:
            session_options.register_custom_ops_library(library)
        except Exception as error:
            raise SettingError(
                f"--custom-op-library {library}: {first_line(error)}", remedy="check the file"
            ) from error
    name = provider_name(options.provider)
    source = model if isinstance(model, bytes) else os.fspath(model)
    origin = "the model" if isinstance(source, bytes) else source
    no_provider = f"--provider {options.provider} does not load on this machine"
    remedy = "run `onnxprune doctor`, or use --provider cpu"
    try:
        # without fallback: it prints to standard output, and runs on what was not asked for
        session = module.InferenceSession(
            source, session_options, providers=[(name, dict(options.provider_options))], enable_fallback=0
        )
    except Exception as error:
        if name != CPU and why_not(name) is not None:
            raise SettingError(f"{no_provider}: {first_line(error)}", remedy=remedy) from error
        raise ModelError(
            f"ONNX Runtime does not load {origin}: {first_line(error)}",
            remedy="custom operators need --custom-op-library",
        ) from error
    if name not in session.get_providers():
        raise SettingError(f"{no_provider}, only {', '.join(session.get_providers())} does", remedy=remedy)
    known = session.get_provider_options().get(name, {})
    for key, _ in options.provider_options:
        if key not in known:  # some providers pass over what they do not know
            raise SettingError(
                f"--provider-option {key}: {name} has no such option",
                remedy=f"it has {', '.join(sorted(known))}" if known else "leave it out",
            )
    return session


def why_not(provider: str) -> str | None:
    """Why a provider that ONNX Runtime lists does not load; None if a session on it really uses it."""
    module = onnxruntime()
    settings = module.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = module.InferenceSession(_tiny(), settings, providers=[provider], enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises bare Exceptions of several kinds
        return first_line(error)
    return None if provider in session.get_providers() else "its libraries or device are missing"


def _tiny() -> bytes:
    """A model that every provider can run."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = proto.SerializeToString()
    return content


def run(session: Any, outputs: Sequence[str] | None, feeds: dict[str, Any]) -> list[Any]:
    """`session.run`, with what ONNX Runtime says of a failure as a ModelError."""
    try:
        found: list[Any] = session.run(outputs, feeds)
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime does not run the model: {first_line(error)}",
            remedy="bind its dynamic dimensions with --bind or --input-shapes",
        ) from error
    return found


# "/onnxruntime_src/…/onnxruntime_pybind_state.cc:729 void onnxruntime::…(…) Please install …"
_SOURCE = re.compile(r"^\S+\.(?:cc|h):\d+ \S[^()]*\([^()]*\) ")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without where in ONNX Runtime's sources it arose."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    return _SOURCE.sub("", line)
