"""Block influence: how far a residual block turns what passes it, 1 minus the cosine of its input and its output.

Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024, arXiv:2403.03853, take
it of transformer layers, per token; here it is of any residual block, per position of its channels.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.residual import ResidualBlock
from onnxprune.runtime.data import Batch, Data
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.rows import Named, Tokens
from onnxprune.runtime.stream import Progress, batch_for, stream
from onnxprune.runtime.synthetic import SyntheticData


def block_influence(
    coupling: Coupling,
    data: Data | None = None,
    *,
    seed: int = 0,
    mask: str | None = None,
    batch: int | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """The influence (0 to 2) of every residual block of the coupling, by name.

    The mean over all positions of all samples; those of padding, where `mask` (an input [samples, sequence]) is 0, do
    not count. Without `data`, of made-up inputs. Raises as `stream` does.
    """
    if not coupling.blocks:
        return {}
    turns = [_Turn(block) for block in coupling.blocks]
    names = sorted({name for block in coupling.blocks for name in (block.entry, block.exit)})
    stream(
        {"": coupling.view},
        turns,
        SyntheticData(coupling.view, coupling.bindings, seed=seed) if data is None else data,
        batch=batch or batch_for(coupling.view, coupling.shapes.shape, names),
        options=options,
        mask=mask,
        dtypes=coupling.shapes.dtype,
        progress=progress,
    )
    return {turn.block.name: turn.influence for turn in turns}


class _Turn:
    """The sum of cosines of one block's input and output, and of how many positions it is."""

    def __init__(self, block: ResidualBlock) -> None:
        self.block = block
        self._sum, self._count = 0.0, 0

    @property
    def reads(self) -> Collection[tuple[str, str]]:
        """See Accumulator."""
        return [("", self.block.entry), ("", self.block.exit)]

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return 16

    @property
    def influence(self) -> float:
        """0 where the block changes no direction."""
        return 1 - self._sum / self._count if self._count else 0.0

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator. A position where either side is zero has no direction, and does not count."""
        before, after = (np.asarray(values[""][name], np.float64) for name in (self.block.entry, self.block.exit))
        axis = self.block.channels
        dot = (before * after).sum(axis=axis)
        size = np.sqrt((before**2).sum(axis=axis) * (after**2).sum(axis=axis))
        counts = size > 0
        real = None if tokens is None else tokens.over(before.shape, axis)
        if real is not None:
            counts &= real
        self._sum += float((dot[counts] / size[counts]).sum())
        self._count += int(counts.sum())
