"""One architecture of the zoo: how it is built, what it takes, what makes its export special."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

EXPORTERS = ("ts", "dynamo")


@dataclass(frozen=True)
class Input:
    """A graph input: its shape in the example, which axes may vary, and what values make sense."""

    name: str
    shape: tuple[int, ...]
    dynamic: Mapping[int, str] = field(default_factory=lambda: {0: "batch"})
    #: "normal", "ids" (integers below `high`) or "mask" (ones, and a padded tail in the last row)
    fill: str = "normal"
    high: int | None = None

    @property
    def dtype(self) -> str:
        return "float32" if self.fill == "normal" else "int64"

    def sample(self, generator: torch.Generator, sizes: Mapping[str, int] | None = None) -> torch.Tensor:
        """A tensor for this input; `sizes` overrides the dynamic axes by name."""
        import torch

        resize = sizes or {}
        shape = [resize.get(self.dynamic.get(i, ""), size) for i, size in enumerate(self.shape)]
        if self.fill == "normal":
            return torch.randn(shape, generator=generator)
        if self.fill == "ids":
            assert self.high is not None, f"{self.name}: ids need an upper bound"
            return torch.randint(3, self.high, shape, generator=generator)
        mask = torch.ones(shape, dtype=torch.int64)
        mask[-1, -3:] = 0
        return mask


def image(size: int = 224, channels: int = 3, batch: int = 2) -> tuple[Input, ...]:
    return (Input("input", (batch, channels, size, size)),)


def tokens(vocab: int = 1000, length: int = 16, mask: bool = True) -> tuple[Input, ...]:
    axes = {0: "batch", 1: "sequence"}
    ids = Input("input_ids", (2, length), axes, "ids", vocab)
    return (ids, Input("attention_mask", (2, length), axes, "mask")) if mask else (ids,)


@dataclass(frozen=True)
class Entry:
    """One architecture; `build` imports its library on use and returns it with stock initial weights."""

    name: str
    source: str
    family: str
    build: Callable[[], Any]
    inputs: tuple[Input, ...]
    #: None takes each exporter's default; a number asks the current exporter for that opset
    opset: int | None = None
    exporters: tuple[str, ...] = EXPORTERS
    #: False exports BatchNormalization nodes as they are, which older files have and new exports fold
    fuse_batch_norm: bool = True
    #: exported on request only, which keeps the ordinary zoo to half an hour
    extended: bool = False

    def files(self) -> dict[str, str]:
        """Exporter -> file name."""
        return {exporter: f"{self.name}.{exporter}.onnx" for exporter in self.exporters}
