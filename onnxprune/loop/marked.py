"""YAML with the line of each value, so that messages can point at it."""

from __future__ import annotations

from typing import Any

from onnxprune.errors import RuntimeMissingError, SettingError

Path = tuple[str | int, ...]


class Marked:
    """Plain data read from YAML, and the line (from 1) of everything in it by its path of keys and indices."""

    def __init__(self, data: Any, lines: dict[Path, int], origin: str) -> None:
        self.data, self.lines, self.origin = data, lines, origin

    def where(self, path: Path) -> str:
        """`file:line` of what lies at `path`, or of the nearest thing that it would lie in."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.origin}:{self.lines.get(path, 1)}"


def read_marked(text: str, origin: str) -> Marked:
    """Read YAML 1.1 without tags of Python's. Raises SettingError with file and line for what is none."""
    yaml = _yaml()
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        data = None if node is None else _construct(loader, node, (), lines, origin)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{origin}:{mark.line + 1}" if mark is not None else origin
        what = getattr(error, "problem", None) or str(error)
        raise SettingError(f"{at}: this is no YAML: {what}", remedy="check indentation, colons and brackets") from error
    return Marked(data, lines, origin)


def read_value(text: str) -> Any:
    """One value as YAML has it: `0.5` a number, `50%` text. Raises SettingError."""
    return read_marked(text, "--set").data


def _construct(loader: Any, node: Any, path: Path, lines: dict[Path, int], origin: str) -> Any:
    lines[path] = node.start_mark.line + 1
    kind = type(node).__name__
    if kind == "SequenceNode":
        return [_construct(loader, item, (*path, k), lines, origin) for k, item in enumerate(node.value)]
    if kind == "MappingNode":
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node))
            if key in found:
                raise SettingError(
                    f"{origin}:{key_node.start_mark.line + 1}: {key!r} is given twice", remedy="give it once"
                )
            found[key] = _construct(loader, value_node, (*path, key), lines, origin)
            lines[*path, key] = key_node.start_mark.line + 1
        return found
    return loader.construct_object(node)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise RuntimeMissingError(
            "recipes need PyYAML, which is not installed", remedy="`pip install onnxprune[loop]`"
        ) from error
    return yaml
