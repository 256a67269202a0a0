"""What training makes small: the loss of labels, of the teacher's values, and penalties of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from onnxprune.errors import SettingError
from onnxprune.recover.augment import Augment, drawn_share, mixed
from onnxprune.recover.features import feature_loss
from onnxprune.recover.job import Job
from onnxprune.recover.losses import CrossEntropy, as_labels, check_classes, distillation
from onnxprune.recover.module import OnnxModule

_IMAGE_RANK = 4


class Student(nn.Module):
    """The module with what is wanted of it as an argument, so that wrappers for several devices see one forward."""

    def __init__(self, module: OnnxModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, feeds: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
        return self.module.run(feeds, wanted)


class Objective:
    """The loss of a batch: of labels and teacher by their shares, of intermediate values, of the weights."""

    def __init__(self, job: Job, student: nn.Module, accelerator: Accelerator) -> None:
        self.job, self.student, self.accelerator = job, student, accelerator
        self._augment = Augment.of(job.settings)
        self._wanted = list(job.module.output_names)
        if job.teacher is not None:
            self._wanted += [f.name for f in job.teacher.features if f.name not in self._wanted]

    def __call__(self, feeds: dict[str, Any], labels: np.ndarray | None, numbers: np.ndarray | None) -> Tensor:
        """One number for a batch. `numbers` say which samples these are. Raises SettingError where nothing teaches."""
        job, settings = self.job, self.job.settings
        if self._augment is not None:
            feeds, numbers = self._augment(feeds), None
        own = 1.0
        if settings.mixup:
            own = drawn_share(settings.mixup)
            feeds, numbers = mixed(feeds, own), None
        feeds = {name: _laid_out(value) for name, value in feeds.items()}
        with self.accelerator.autocast():
            mine = self.student(feeds, self._wanted)
        mine = {k: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in mine.items()}
        terms = []
        supervised = job.loss is not None and labels is not None
        share = 0.0 if job.teacher is None else settings.distil if supervised else 1.0
        if job.loss is not None and labels is not None and share < 1:
            right = as_labels(labels, self.accelerator.device)
            terms.append((1 - share) * own * job.loss(mine, right))
            if own < 1:
                terms.append((1 - share) * (1 - own) * job.loss(mine, right.flip(0)))
        if job.teacher is not None and share > 0:
            theirs = job.teacher(feeds, numbers)
            outputs = {name: theirs[name] for name in job.module.output_names if name in theirs}
            terms.append(share * distillation(mine, outputs, job.ends, settings.temperature))
            if settings.features and job.teacher.features:
                terms.append(settings.features * feature_loss(job.teacher.features, mine, theirs))
        if not terms:
            raise SettingError("there is nothing to learn from", remedy="give data with labels, or --teacher")
        if job.penalty is not None:
            terms.append(job.penalty(job.module))
        return torch.stack(terms).sum()


def check_labels(job: Job) -> None:
    """Raise SettingError for any label that is no class, before anything is learnt."""
    if not isinstance(job.loss, CrossEntropy) or job.data.labels is None or not len(job.data.labels):
        return
    for batch in job.data.batches(1):
        with torch.no_grad():
            classes = job.module.run(batch.feeds, [job.loss.output])[job.loss.output].shape[-1]
        check_classes(torch.from_numpy(np.array(job.data.labels)), classes, job.loss.output)
        return


def _laid_out(value: Any) -> Any:
    """Images with channels innermost in memory: convolutions then take a fifth to a third less time, on any device."""
    if isinstance(value, np.ndarray) and value.ndim == _IMAGE_RANK and value.dtype == np.float32:
        value = torch.from_numpy(value)
    if isinstance(value, Tensor) and value.ndim == _IMAGE_RANK:
        return value.contiguous(memory_format=torch.channels_last)
    return value
