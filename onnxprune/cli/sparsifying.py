"""The options of `sparsify`: which zeros, how they are chosen, and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

_PATTERN, _METHOD, _STORE = "Pattern", "Method", "Output"


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


PatternName = Annotated[
    str, _option(_PATTERN, "--pattern", metavar="P", help="N:M such as 2:4, block:RxC such as block:1x4, unstructured.")
]
Share = Annotated[
    float | None, _option(_PATTERN, "--sparsity", metavar="S", help="Share of zeros, for blocks and unstructured.")
]


@dataclass(frozen=True)
class Zeros:
    """Which weights get zeros, and how many."""

    pattern: PatternName = "2:4"
    sparsity: Share = None
    allocation: Annotated[
        str, _option(_PATTERN, "--allocation", metavar="NAME", help="How a share is spread: uniform, global or erk.")
    ] = "uniform"
    layer: Annotated[
        list[str] | None,
        _option(
            _PATTERN, "--layer", metavar="GLOB=V", help="dense, a pattern or a share for matching layers (repeatable)."
        ),
    ] = None
    only: Annotated[
        list[str] | None, _option(_PATTERN, "--only", metavar="GLOB", help="Only matching weights (repeatable).")
    ] = None
    ignore: Annotated[
        list[str] | None, _option(_PATTERN, "--ignore", metavar="GLOB", help="No matching weights (repeatable).")
    ] = None
    dense_ends: Annotated[bool, _option(_PATTERN, "--dense-ends", help="First and last layers stay dense.")] = False
    grouped: Annotated[
        bool, _option(_PATTERN, "--grouped", help="Grouped convolutions too, which TensorRT does not use.")
    ] = False


@dataclass(frozen=True)
class Ways:
    """How zeros are chosen, and what is done about what they cost."""

    method: Annotated[
        str | None,
        _option(
            _METHOD, "--method", metavar="NAME",
            help="magnitude, wanda, sparsegpt or fit.  [default: fit with --data, else magnitude]",
        ),
    ] = None  # fmt: skip
    repair: Annotated[
        bool | None,
        _option(
            _METHOD, "--repair/--no-repair",
            help="Fit what stays to the dense outputs, layer by layer.  [default: with the method fit]",
        ),
    ] = None  # fmt: skip
    together: Annotated[
        bool,
        _option(
            _METHOD, "--together/--no-together",
            help="After that fit the layers of whole blocks together; takes several times as long.",
        ),
    ] = False  # fmt: skip
    permute: Annotated[bool, _option(_METHOD, "--permute", help="First reorder channels so that 2:4 keeps more.")] = (
        False
    )
    permute_seconds: Annotated[
        float, _option(_METHOD, "--permute-seconds", min=0, metavar="T", help="Time for that search.")
    ] = 30.0
    positions: Annotated[
        int, _option(_METHOD, "--positions", min=1, metavar="N", help="Places of each sample that are looked at.")
    ] = 128
    damping: Annotated[
        float | None,
        _option(
            _METHOD, "--damping", min=0, metavar="D",
            help="How much fits hold on to the dense weights.  [default: by samples held back, layer by layer]",
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True)
class Storing:
    """How zeros are stored."""

    store: Annotated[
        str, _option(_STORE, "--store", metavar="NAME", help="dense, or sparse where that is smaller (no TensorRT).")
    ] = "dense"
