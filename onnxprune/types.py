"""Plain frozen data that the stages hand to each other. No behaviour beyond small conveniences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onnxprune.display import html_table

PLAN_SCHEMA = 4


@dataclass(frozen=True, order=True)
class Axis:
    """One axis of one tensor; spelled `tensor:axis`."""

    tensor: str
    axis: int

    def __str__(self) -> str:
        return f"{self.tensor}:{self.axis}"


@dataclass(frozen=True)
class Refusal:
    """Why an axis stays as it is: the node and operator at fault, the tensor and axis, and what would help."""

    node: str
    op: str
    tensor: str
    axis: int
    why: str
    help: str = ""

    def __str__(self) -> str:
        at = f"{self.tensor}:{self.axis}" if self.axis >= 0 else self.tensor
        return f"{at} at {self.op} {self.node}: {self.why}" + (f" ({self.help})" if self.help else "")


@dataclass(frozen=True)
class Group:
    """Units that can be removed independently of each other, as long as one of them stays.

    `size` units; `axis` is the parameter axis the group is named after; `kind` one of KINDS; `axes` every traced
    (tensor, axis) that removal shortens; `parameters` and `macs` are what one unit carries with all else dense;
    `exact` is False where a statistic runs over the units, `mixes` says which.
    """

    name: str
    index: int
    size: int
    axis: Axis
    kind: str
    axes: tuple[Axis, ...]
    nodes: tuple[str, ...]
    parameters: int
    macs: int
    exact: bool
    mixes: tuple[str, ...] = ()


KINDS = ("channels", "ffn", "heads", "head_dims", "width", "experts")


@dataclass(frozen=True)
class Cost:
    """What a model takes at its bound input sizes; None for what was not asked for.

    Parameters in elements, multiply-accumulates, bytes of its files, bytes of the activations that are alive at once
    at most (see Footprint.activations), and milliseconds.
    """

    parameters: int
    macs: int
    bytes: int | None = None
    activations: int | None = None
    latency: float | None = None

    def known(self) -> dict[str, float]:
        """The quantities that were asked for, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Budget:
    """What the plan must meet; all that is given holds at once.

    `ratio` is the share of units removed per group (0 to 1, exclusive of 1); the limits `max_…`, one for each quantity
    of Cost, are either a share of the dense model to keep (a float of at most 1) or an amount (an int); that of latency
    is always a share. `ratios` overrides `ratio` for groups that match the glob by their name or that of a layer (node,
    weight) that makes their units.
    """

    ratio: float | None = None
    max_macs: float | int | None = None
    max_parameters: float | int | None = None
    max_bytes: float | int | None = None
    max_activations: float | int | None = None
    max_latency: float | None = None
    ratios: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupPlan:
    """Which units of a group stay, as sorted indices into its `size` units.

    Where every block of the group (each head, say) keeps members of its own, `blocks` lists them per block, as many as
    are in `kept`: they take these places.
    """

    name: str
    size: int
    kept: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class RowCut:
    """An axis of a stored tensor that is cut differently along another of its axes, `by`, once that one is cut.

    `indices[i]` are those that stay of the axis at index i of `by`; all of one length.
    """

    by: int
    indices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, repr=False)
class Plan:
    """A choice of units for one model, and all that is needed to carry it out again.

    `tensors` lists per stored tensor and axis the indices that were kept of it, so that others can cut a checkpoint
    the same way; `shared` has, by reader (`NODE:INPUT`), what is kept of a vector that several nodes share and that
    is cut differently for them; `dropped` names the residual blocks that go whole. `analysis` holds the options under
    which the groups were found, `settings` what chose the units.
    """

    model_digest: str
    groups: tuple[GroupPlan, ...]
    tensors: dict[str, dict[int, tuple[int, ...]]]
    shared: dict[str, dict[str, dict[int, tuple[int, ...]]]] = field(default_factory=dict)
    rows: dict[str, dict[int, RowCut]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    analysis: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    before: Cost | None = None
    after: Cost | None = None
    schema: int = PLAN_SCHEMA

    def __repr__(self) -> str:
        changed = sum(len(group.kept) < group.size for group in self.groups)
        cost = ""
        if self.before is not None and self.after is not None:
            cost = (
                f", {self.after.parameters:,} of {self.before.parameters:,} parameters"
                f" and {self.after.macs:,} of {self.before.macs:,} MACs stay"
            )
        return f"Plan({changed} of {len(self.groups)} groups change{cost})"

    def _repr_html_(self) -> str:
        """For notebooks: the groups that change, and what stays of the costs."""
        rows = [(g.name, g.size, len(g.kept)) for g in self.groups if len(g.kept) < g.size]
        return html_table(repr(self), ("group", "units", "kept"), rows)

    @property
    def is_empty(self) -> bool:
        return not self.dropped and all(len(g.kept) == g.size for g in self.groups)
