"""Which layers TensorRT found eligible for sparse kernels, and which it picked, from the log of a build.

`trtexec --verbose` and the builder's logger say it in two lines, which a terminal may have broken. TensorRT 8 names the
layers, by the nodes that were fused into them, joined by ` + `; later versions count them, and name them if verbose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnxprune.errors import SettingError

_LINES = {
    "eligible": re.compile(
        r"[(\[]Sparsity[)\]] (?:Found (?P<count>\d+) layer\(s\) eligible to use sparse tactics:?"
        r"|Layers eligible for sparse math:)"
    ),
    "picked": re.compile(
        r"[(\[]Sparsity[)\]] (?:Chose (?P<count>\d+) layer\(s\) using sparse tactics:?"
        r"|TRT inference plan picked sparse implementation for layers:)"
    ),
}
_STARTS = re.compile(r"[(\[]|&&&&|===")


@dataclass(frozen=True)
class BuildLog:
    """Layers as the log names them, in its order, and how many there are, named or not."""

    eligible: tuple[str, ...]
    picked: tuple[str, ...]
    eligible_count: int
    picked_count: int

    def says(self, node: str) -> str:
        """What became of a node's weight: "picked", "eligible" or "" where the log does not name it."""
        for word, layers in (("picked", self.picked), ("eligible", self.eligible)):
            if any(node in layer.split(" + ") for layer in layers):
                return word
        return ""


def read_build_log(path: Path) -> BuildLog:
    """Raises SettingError where the file cannot be read, or says nothing about sparsity."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SettingError(f"--build-log {path}: {error.strerror}", remedy="check the path") from error
    found = parse_build_log(text)
    if found is None:
        raise SettingError(
            f"--build-log {path}: it says nothing of sparsity",
            remedy="build with sparse weights enabled, and log verbosely (trtexec --sparsity=enable --verbose)",
        )
    return found


def parse_build_log(text: str) -> BuildLog | None:
    """None where the log says nothing about sparsity. The last build counts where there are several."""
    lists: dict[str, tuple[str, ...]] = {}
    counts: dict[str, int] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        for what, opening in _LINES.items():
            match = opening.search(line)
            if match:
                names = line[match.end() :] + "".join(_broken(lines[number + 1 :]))
                lists[what] = tuple(name.strip() for name in names.split(", ") if name.strip())
                counts[what] = int(match["count"] or len(lists[what]))
    if not lists:
        return None
    return BuildLog(
        lists.get("eligible", ()), lists.get("picked", ()), counts.get("eligible", 0), counts.get("picked", 0)
    )


def _broken(lines: list[str]) -> Iterator[str]:
    """The rest of a line that a terminal broke: up to the next that begins like a message, or is empty."""
    for line in lines:
        if not line.strip() or _STARTS.match(line.strip()):
            break
        yield line
