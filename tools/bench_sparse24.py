"""What 2:4 gains on an NVIDIA GPU for a model's own layers, without TensorRT: torch's semi-structured kernels.

    python tools/bench_sparse24.py MODEL --positions 3136

Every weight that could be 2:4 (see `onnxprune check-sparsity`) is taken as the matrix that its consumer multiplies by,
[K outputs, C inputs], for a k x k convolution with its k * k times C inputs as one, and multiplied with `--positions`
columns, in half precision: dense by cuBLAS, sparse by cuSPARSELt (or CUTLASS, with --backend). Layers of one shape are
timed once. Needs torch with CUDA and a GPU of compute capability 8.0 or more.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from onnxprune.errors import OnnxPruneError, RuntimeMissingError, SettingError
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.sparsity.check import check
from onnxprune.sparsity.masking import TWO_OF_FOUR
from onnxprune.sparsity.weights import find_weights

STEP = {"float16": 16, "bfloat16": 16, "int8": 32}
"""What torch's kernels want C to be a multiple of, twice over; K by the same."""
AMPERE = (8, 0)
BACKENDS = ("cusparselt", "cutlass")


@dataclass(frozen=True, order=True)
class Shape:
    """A product's outputs K, inputs (times taps) C, and the kernel's taps, 1 for a matrix product."""

    outputs: int
    inputs: int
    taps: int


@dataclass(frozen=True)
class Timed:
    """Medians in milliseconds of a product with a dense and with a 2:4 matrix."""

    dense: float
    sparse: float


def shapes_of(path: Path) -> Counter[Shape]:
    """The shapes of the weights that TensorRT would look at, with how many layers have each.

    Raises SettingError where there are none.
    """
    view = GraphView(load(path))
    weights = find_weights(view)
    eligible = {(row.weight, row.node) for row in check(view, weights, TWO_OF_FOUR).rows if row.eligible}
    found = Counter(
        Shape(use.outputs, use.length * use.taps, use.taps)
        for weight in weights.weights for use in weight.uses if (weight.name, use.title) in eligible
    )  # fmt: skip
    if not found:
        raise SettingError(f"{path} has no weight that 2:4 kernels take", remedy="`onnxprune check-sparsity` says why")
    return found


def why_not(shape: Shape, dtype: str) -> str:
    """Why torch's kernels do not take a shape, "" where they do."""
    step = STEP[dtype]
    if shape.outputs % step or shape.inputs % (2 * step):
        return f"K must be a multiple of {step}, C of {2 * step}"
    return ""


def cuda(backend: str) -> Any:
    """The torch module, set to the backend. Raises RuntimeMissingError where its kernels cannot run."""
    try:
        import torch
    except ImportError as error:
        raise RuntimeMissingError("torch is not installed", remedy="install a build of it with CUDA") from error
    if not torch.cuda.is_available():
        raise RuntimeMissingError(
            f"torch {torch.__version__} finds no CUDA device", remedy="run this on a machine with an NVIDIA GPU"
        )
    if torch.cuda.get_device_capability() < AMPERE:
        raise RuntimeMissingError(
            f"{torch.cuda.get_device_name()} has no sparse kernels", remedy="2:4 came with compute capability 8.0"
        )
    from torch.sparse import SparseSemiStructuredTensor

    SparseSemiStructuredTensor._FORCE_CUTLASS = backend == "cutlass"
    return torch


def timed(torch: Any, shape: Shape, positions: int, dtype: str, rounds: int) -> Timed:
    """Dense and sparse in turn, each the median of `rounds` runs between CUDA events."""
    from torch.sparse import to_sparse_semi_structured

    kind = getattr(torch, dtype)
    torch.manual_seed(0)
    values = torch.randn(shape.outputs, shape.inputs, device="cuda")
    groups = values.view(shape.outputs, -1, 4)
    kept = groups.argsort(dim=-1) >= 2  # some two of four: which ones does not change the time
    x = torch.randn(shape.inputs, positions, device="cuda")
    if dtype == "int8":
        values, x = (values * kept.view_as(values) * 30).clamp(-127, 127), (x * 30).clamp(-127, 127)
    dense, x = (values * kept.view_as(values)).to(kind), x.to(kind)
    sparse = to_sparse_semi_structured(dense)
    product = torch._int_mm if dtype == "int8" else torch.mm
    runs = {"dense": lambda: product(dense, x), "sparse": lambda: torch.mm(sparse, x)}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 3):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            if number >= 3:
                found[name].append(start.elapsed_time(end))
    return Timed(median(found["dense"]), median(found["sparse"]))


def table_of(shapes: Counter[Shape], times: dict[Shape, Timed | str], title: str) -> Table:
    """A row a shape: dense, sparse, and their ratio, or why there is none."""
    table = Table("K", "C x taps", "taps", "layers", "dense, ms", "2:4, ms", "times as fast", title=title)
    for shape in sorted(shapes, reverse=True):
        found = times[shape]
        cells = (found, "", "") if isinstance(found, str) else (
            f"{found.dense:.4f}", f"{found.sparse:.4f}", f"{found.dense / found.sparse:.2f}"
        )  # fmt: skip
        table.add_row(str(shape.outputs), str(shape.inputs), str(shape.taps), str(shapes[shape]), *cells)
    return table


def measured(given: argparse.Namespace) -> Table:
    """Raises SettingError and RuntimeMissingError, before anything is timed."""
    shapes = shapes_of(given.model)
    torch = cuda(given.backend)
    times = {
        shape: why_not(shape, given.dtype) or timed(torch, shape, given.positions, given.dtype, given.rounds)
        for shape in shapes
    }
    title = (
        f"{given.model.name}, {given.positions} positions, {given.dtype}, {given.backend}: "
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    )
    return table_of(shapes, times, title)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or that of the error, which is one line on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--positions", type=int, default=4096, help="columns: pixels or tokens times the batch")
    parser.add_argument("--dtype", choices=STEP, default="float16")
    parser.add_argument("--backend", choices=BACKENDS, default="cusparselt")
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args(arguments)
    try:
        table = measured(given)
    except OnnxPruneError as error:
        print(f"bench_sparse24: {error}", file=sys.stderr)
        return error.exit_code
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
