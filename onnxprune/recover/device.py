"""What the rest of the package asks of torch without importing it."""

from __future__ import annotations

from typing import Any

import torch


def use_threads(count: int) -> None:
    """Let torch compute with that many threads; 0 leaves it the choice."""
    if count:
        torch.set_num_threads(count)


def has_gpu() -> bool:
    """Whether torch finds a GPU."""
    return bool(torch.cuda.is_available())


def events_in(folder: str) -> Any:
    """A writer of TensorBoard events. Raises OSError where the folder cannot be made."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)
