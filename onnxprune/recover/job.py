"""What one training run needs, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from onnxprune.graph.model import Model
from onnxprune.recover.losses import Loss
from onnxprune.recover.module import OnnxModule
from onnxprune.recover.settings import Settings
from onnxprune.recover.sparse import Course
from onnxprune.recover.teacher import Teacher
from onnxprune.runtime.data import Data
from onnxprune.runtime.metrics import Judge

Told = Callable[[dict[str, Any]], None]
"""Called with what is known after an optimiser step (`step`, `steps`, `loss`, `rate`) or an epoch (`metric` too)."""

Penalty = Callable[[OnnxModule], Tensor]
"""Something that is added to the loss, of the weights alone."""


@dataclass(frozen=True)
class Recovered:
    """The best model, its metric and the one before training, and a row per epoch."""

    model: Model
    metric: float
    before: float
    history: tuple[dict[str, Any], ...]


@dataclass
class Job:
    """All that one run needs. `judge` scores the written-back model; `ends` is the operator behind each output
    (losses.ending_of), `identity` what a checkpoint has to agree with.
    """

    model: Model
    module: OnnxModule
    data: Data
    judge: Judge
    settings: Settings
    loss: Loss | None = None
    teacher: Teacher | None = None
    ends: dict[str, str] = field(default_factory=dict)
    penalty: Penalty | None = None
    courses: Sequence[Course] = ()
    folder: Path | None = None
    identity: dict[str, str] = field(default_factory=dict)
    cpu: bool = False
    keep_last: bool = False
    """The last model is the one to keep, and not the best: where weights are pushed towards zero, say."""
