"""What the hardware can use of a model's zeros: per weight whether it complies, could be used, and is likely to pay.

These are three things. Compliant: its nonzeros follow the pattern, group by group along the axis that the consumer sums
over. Eligible: TensorRT would look at it (element type, alignment, no grouped convolution). Likely to pay: large enough
that its sparse kernels win; which layers it picks in the end, only its build log says (runtime/buildlog.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxprune.errors import VerificationError
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.masking import follows
from onnxprune.sparsity.patterns import Pattern
from onnxprune.sparsity.stored import nonzero
from onnxprune.sparsity.weights import Passed, Use, Weight, Weights

LARGE = 256
"""Inputs (times taps) and outputs from which on sparse kernels tend to pay: NVIDIA's own rule of thumb."""

_PRECISIONS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "INT8", "FLOAT8E4M3FN"})
_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})
STRONGLY_TYPED = 11
"""The version of TensorRT from which on an engine keeps the types of the graph."""


@dataclass(frozen=True)
class Row:
    """One use of one weight.

    `fit` is the share of whole groups (blocks, elements) that follow the pattern, `zeros` that of all elements.
    `why_not_eligible` and `why_not_paying` are "" where it is and does.
    """

    weight: str
    node: str
    op: str
    shape: tuple[int, ...]
    axis: int
    dtype: str
    size: int
    zeros: float
    fit: float
    compliant: bool
    why_not_eligible: str
    why_not_paying: str

    @property
    def eligible(self) -> bool:
        return not self.why_not_eligible

    @property
    def pays(self) -> bool:
        return not self.why_not_eligible and not self.why_not_paying


@dataclass(frozen=True)
class Checked:
    """All weights, and what is read by consumers that is none (see Weights)."""

    rows: tuple[Row, ...]
    passed: tuple[Passed, ...]

    @property
    def share(self) -> float:
        """Of the eligible weights' elements, those in weights that comply; 0 where nothing is eligible."""
        eligible = sum(row.size for row in self.rows if row.eligible)
        return sum(row.size for row in self.rows if row.eligible and row.compliant) / eligible if eligible else 0.0

    def require(self, share: float, pattern: Pattern) -> None:
        """Raise VerificationError where less than `share` of what is eligible complies."""
        if self.share < share:
            short = [row.weight for row in self.rows if row.eligible and not row.compliant]
            named = ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
            raise VerificationError(
                f"{100 * self.share:.1f} % of the eligible weights follow {pattern}, {100 * share:g} % are required"
                + (f"; not: {named}" if short else "; none is eligible"),
                remedy="`onnxprune sparsify` makes them",
            )


def check(
    view: GraphView, weights: Weights, pattern: Pattern, share: float = 0.0, tensorrt: int = STRONGLY_TYPED
) -> Checked:
    """Look at every weight; `share` of blocks or elements must be zero where the pattern does not say it itself."""
    rows = []
    for weight in weights.weights:
        kept = {name: nonzero(view.model.array(view.constants[name]), leaf) for name, leaf in weight.leaves.items()}
        for use in weight.uses:
            rows.append(_row(weight, use, pattern, share, kept, tensorrt))
    return Checked(tuple(rows), weights.passed)


def _row(
    weight: Weight, use: Use, pattern: Pattern, share: float, kept: Mapping[str, np.ndarray], tensorrt: int
) -> Row:
    mine = [kept[leaf.name] for leaf in use.operand.leaves]
    compliant, fit = follows(use, pattern, share, mine)
    zeros = 1 - float(use.operand.arrange(mine).mean())
    dtype = _type(leaf.dtype for leaf in use.operand.leaves)
    return Row(
        weight.name, use.title, use.op, use.shape, use.axis, dtype, _size(use), zeros, fit, compliant,
        _not_eligible(use, pattern, dtype), _not_paying(use, dtype, tensorrt),
    )  # fmt: skip


def _size(use: Use) -> int:
    return use.outputs * use.length * use.taps


def _type(dtypes: Iterable[int]) -> str:
    return "/".join(dict.fromkeys(str(TensorProto.DataType.Name(dtype)) for dtype in dtypes))


def _not_eligible(use: Use, pattern: Pattern, dtype: str) -> str:
    if (pattern.n, pattern.m) != (2, 4):
        return "only 2:4 has kernels"
    if use.op not in _OPERATORS:
        return f"{use.op} has no sparse kernels"
    if dtype not in _PRECISIONS:
        return f"no sparse kernels for {dtype.lower()}"
    if use.groups > 1:
        return "grouped"
    if use.length % pattern.m:
        return f"{use.length} inputs are no multiple of {pattern.m}"
    return ""


def _not_paying(use: Use, dtype: str, tensorrt: int) -> str:
    if use.length * use.taps < LARGE or use.outputs < LARGE:
        return f"small ({use.length * use.taps} x {use.outputs})"
    if dtype == "FLOAT" and tensorrt >= STRONGLY_TYPED:
        return "float32, which TensorRT 11 keeps"
    return ""
