"""The options, in the argument groups that commands are composed from (see composing.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


_BUDGET, _REACH, _CHOICE = "Budget", "What may be removed", "Choosing"
_DATA, _ANALYSIS, _OUTPUT, _RUNTIME, _PRINTING = "Data", "Analysis", "Output", "ONNX Runtime", "Printing"

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX file.")]
PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a *.prune.json file.")]
PlanOutput = Annotated[
    Path | None,
    _option(_OUTPUT, "-o", "--output", metavar="PLAN", help="The plan to write.  [default: MODEL's name.prune.json]"),
]
DryRun = Annotated[bool, _option(_OUTPUT, "--dry-run", help="Show the plan and write nothing.")]
Preprocess = Annotated[
    str | None,
    _option(
        _DATA, "--preprocess", metavar="HOW",
        help="How images become numbers: imagenet,size=256,crop=224; unit; a .json or .toml file.",
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Budgets:
    """What the result must meet; several hold at once."""

    pruning_ratio: Annotated[
        float | None, _option(_BUDGET, "--pruning-ratio", metavar="R", help="Share of each group's units to remove.")
    ] = None
    max_macs: Annotated[
        str | None, _option(_BUDGET, "--max-macs", metavar="B", help="MACs to keep: a share (50%) or amount (1.2G).")
    ] = None
    max_params: Annotated[
        str | None,
        _option(_BUDGET, "--max-params", metavar="B", help="Parameters to keep: a share (50%) or amount (10M)."),
    ] = None
    max_bytes: Annotated[
        str | None, _option(_BUDGET, "--max-bytes", metavar="B", help="File size: a share (50%) or amount (5M).")
    ] = None
    max_activations: Annotated[
        str | None,
        _option(_BUDGET, "--max-activations", metavar="B", help="Bytes of activations alive at once: 50%, 2M."),
    ] = None
    max_latency: Annotated[
        str | None,
        _option(
            _BUDGET, "--max-latency", metavar="B", help="Measured time: a share of the dense model's (50%) or 12ms."
        ),
    ] = None
    drop_blocks: Annotated[
        str | None,
        _option(_BUDGET, "--drop-blocks", metavar="N", help="Residual blocks to drop whole, or auto: as budgets need."),
    ] = None
    layer_ratio: Annotated[
        list[str] | None,
        _option(_BUDGET, "--layer-ratio", metavar="GLOB=R", help="Another ratio for matching layers (repeatable)."),
    ] = None


@dataclass(frozen=True)
class Reach:
    """Which units may go."""

    only: Annotated[
        list[str] | None,
        _option(_REACH, "--only", metavar="GLOB", help="Only matching groups, tensors or nodes (repeatable)."),
    ] = None
    ignore: Annotated[
        list[str] | None,
        _option(_REACH, "--ignore", metavar="GLOB", help="No matching groups, tensors or nodes (repeatable)."),
    ] = None
    scope: Annotated[
        list[str] | None,
        _option(_REACH, "--scope", metavar="KIND", help="Only channels, ffn, heads, head_dims, width, or ffn,heads."),
    ] = None
    exact_only: Annotated[
        bool, _option(_REACH, "--exact-only", help="No units over which a statistic (norm, softmax) runs.")
    ] = False
    min_keep: Annotated[
        int, _option(_REACH, "--min-keep", min=1, metavar="N", help="Units that each group keeps at least.")
    ] = 1
    max_ratio: Annotated[
        float | None, _option(_REACH, "--max-ratio", metavar="R", help="Share that no group loses more of.")
    ] = None

    @property
    def groups(self) -> dict[str, Any]:
        """What `groups_in_scope` and `plan` are told of it; kinds may also be listed as `ffn,heads`."""
        listed = None if self.scope is None else [kind.strip() for given in self.scope for kind in given.split(",")]
        return {
            "only": self.only or (), "ignore": self.ignore or (), "scope": listed, "exact_only": self.exact_only
        }  # fmt: skip


@dataclass(frozen=True)
class Choosing:
    """How units are chosen."""

    criterion: Annotated[
        str | None,
        _option(
            _CHOICE,
            "--criterion",
            metavar="NAME",
            help="Importance: l2, l1, wanda, obs, …  [default: obs with --data and a limit, else l2]",
        ),
    ] = None
    ranking: Annotated[
        str | None,
        _option(
            _CHOICE,
            "--ranking",
            metavar="NAME",
            help="local: the same share of each group; global: of all; isomorphic: of all alike; efficient: by cost; "
            "measured: by cost, and what outputs lose.  [default: local; efficient where time is limited; measured "
            "with --data and a limit]",
        ),
    ] = None
    sensitivity: Annotated[
        Path | None,
        _option(
            _CHOICE,
            "--sensitivity",
            metavar="FILE",
            help="Weigh groups by the curves that `onnxprune sensitivity -o FILE` wrote.",
        ),
    ] = None
    balanced: Annotated[
        bool,
        _option(_CHOICE, "--balanced/--no-balanced", help="Each head, or group of a convolution, loses its own units."),
    ] = False
    round_to: Annotated[
        str,
        _option(
            _CHOICE,
            "--round-to",
            metavar="N",
            help="Kept units a multiple of this, or auto: of the runtime's own step.",
        ),
    ] = "8"


@dataclass(frozen=True)
class Analysis:
    """Under which input sizes groups are found, and which borders may move."""

    bind: Annotated[
        list[str] | None,
        _option(_ANALYSIS, "--bind", metavar="DIM=N,…", help="Sizes of dynamic dimensions, as batch=2,seq=16."),
    ] = None
    input_shapes: Annotated[
        list[str] | None,
        _option(_ANALYSIS, "--input-shapes", metavar="INPUT:[N,…]", help="An input's shape, as x:[2,3,224,224]."),
    ] = None
    allow_io_change: Annotated[
        list[str] | None,
        _option(_ANALYSIS, "--allow-io-change", metavar="NAME", help="Input or output that may shrink (repeatable)."),
    ] = None
    specialise_functions: Annotated[
        bool,
        _option(
            _ANALYSIS, "--specialise-functions", help="Copy the model's own functions for each call, to prune it alone."
        ),
    ] = False


@dataclass(frozen=True)
class Writing:
    """Where the smaller model goes."""

    output: Annotated[
        Path | None, _option(_OUTPUT, "-o", "--output", metavar="OUT", help="The model to write; not the input.")
    ] = None
    layout: Annotated[
        str,
        _option(
            _OUTPUT, "--layout", metavar="NAME", help="Where weights go: keep (as they are), embedded, single, many."
        ),
    ] = "keep"
    no_verify: Annotated[bool, _option(_OUTPUT, "--no-verify", help="Do not run the result in ONNX Runtime.")] = False


@dataclass(frozen=True)
class Common:
    """What every command takes."""

    provider: Annotated[
        str, _option(_RUNTIME, "--provider", metavar="NAME", help="cpu, cuda, tensorrt, …, or the full name.")
    ] = "cpu"
    provider_option: Annotated[
        list[str] | None,
        _option(_RUNTIME, "--provider-option", metavar="KEY=VALUE", help="Of the provider (repeatable)."),
    ] = None
    threads: Annotated[
        int,
        _option(_RUNTIME, "--threads", min=0, metavar="N", help="Its threads, and numpy's; 0 leaves them the choice."),
    ] = 0
    custom_op_library: Annotated[
        list[Path] | None,
        _option(_RUNTIME, "--custom-op-library", metavar="FILE", help="Library of custom operators (repeatable)."),
    ] = None
    seed: Annotated[
        int, _option(_RUNTIME, "--seed", metavar="N", help="Of all that is random: criteria, made-up inputs.")
    ] = 0
    as_json: Annotated[bool, _option(_PRINTING, "--json", help="Print one JSON object instead of tables.")] = False
    verbose: Annotated[
        int,
        _option(_PRINTING, "-v", "--verbose", count=True, show_default=False, help="Say more; twice for debugging."),
    ] = 0
    quiet: Annotated[bool, _option(_PRINTING, "-q", "--quiet", help="Print nothing but errors.")] = False
