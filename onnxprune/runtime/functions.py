"""Functions of the user's own scripts, named as `script.py:function`."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnxprune.errors import SettingError

_SCRIPT = re.compile(r"(?P<path>.+\.py)(?::(?P<function>[A-Za-z_]\w*))?")


def split(given: str) -> tuple[Path, str | None] | None:
    """`script.py:function` -> the path and the function's name, None where none is given; None for no script."""
    found = _SCRIPT.fullmatch(given)
    return None if found is None else (Path(found["path"]), found["function"])


def load_function(path: Path, name: str, option: str) -> Callable[..., Any]:
    """The function `name` of a script. Its folder is on the path while it loads, so that it can import its neighbours.

    Raises SettingError, which names the `option` that it was given with, for a script that is not there, raises, or
    has no such function.
    """
    if not path.is_file():
        raise SettingError(f"{option} {path}: there is no such script", remedy="check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SettingError(f"{option} {path}: it is no Python script", remedy="give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SettingError(
            f"{option} {path}: it raised {type(error).__name__}: {error}", remedy="correct the script"
        ) from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    found = getattr(module, name, None)
    if not callable(found):
        raise SettingError(f"{option} {path}: it has no function {name!r}", remedy="give script.py:function")
    function: Callable[..., Any] = found
    return function


def digest(function: Callable[..., Any]) -> str:
    """A hash (hex) of the file that a function is defined in; its name where there is no such file."""
    path = Path(inspect.getsourcefile(function) or "")
    content = path.read_bytes() if path.is_file() else repr(function).encode()
    return hashlib.sha256(content).hexdigest()
