"""The training loop: labels, a teacher or both; through Hugging Face Accelerate; judged by ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, set_seed
from torch import Tensor, nn

from onnxprune.errors import SettingError
from onnxprune.graph.model import Model
from onnxprune.recover import checkpoint
from onnxprune.recover.augment import augmented
from onnxprune.recover.blame import first_failure
from onnxprune.recover.checkpoint import BEST, STATE, Progress
from onnxprune.recover.ema import Average
from onnxprune.recover.evaluate import Metric, outputs_of
from onnxprune.recover.features import feature_loss
from onnxprune.recover.layerwise import reconstruct
from onnxprune.recover.losses import Loss, as_labels, distillation
from onnxprune.recover.masks import mask_of
from onnxprune.recover.module import OnnxModule
from onnxprune.recover.optim import optimiser_of, rate_at, set_rate
from onnxprune.recover.settings import Settings
from onnxprune.recover.teacher import Teacher
from onnxprune.recover.writing import write_back
from onnxprune.runtime.data import Data
from onnxprune.runtime.ort import RunOptions

Told = Callable[[dict[str, Any]], None]
"""Called with what is known after an optimiser step (`step`, `steps`, `loss`, `rate`) or an epoch (`metric` too)."""

Penalty = Callable[[OnnxModule], Tensor]
"""Something that is added to the loss, of the weights alone."""

Hook = Callable[[int, int, OnnxModule], None]
"""Called with the steps done and all that there are: what moves masks."""


@dataclass(frozen=True)
class Recovered:
    """The best model, its metric and the one before training, and a row per epoch."""

    model: Model
    metric: float
    before: float
    history: tuple[dict[str, Any], ...]


@dataclass
class Job:
    """All that one run needs. `ends` is the operator behind each output (losses.ending_of)."""

    model: Model
    module: OnnxModule
    data: Data
    valid: Data
    metric: Metric
    settings: Settings
    loss: Loss | None = None
    teacher: Teacher | None = None
    ends: dict[str, str] = field(default_factory=dict)
    penalty: Penalty | None = None
    hooks: Sequence[Hook] = ()
    options: RunOptions = field(default_factory=lambda: RunOptions(threads=1))
    folder: Path | None = None
    identity: dict[str, str] = field(default_factory=dict)
    cpu: bool = False
    keep_last: bool = False
    """The last model is the one to keep, and not the best: where weights are pushed towards zero, say."""


class _Student(nn.Module):
    """The module with what is wanted of it as an argument, so that wrappers for several devices see one forward."""

    def __init__(self, module: OnnxModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, feeds: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
        return self.module.run(feeds, wanted)


class Trainer:
    """Runs a job; `resume` goes on from the state in the job's folder, to the same result as without the break.

    Raises SettingError for labels and checkpoints that do not fit, and for a loss that is no number.
    """

    def __init__(self, job: Job, *, resume: bool = False, told: Told | None = None) -> None:
        self.job, self.told = job, told
        settings = job.settings
        set_seed(settings.seed)
        self.accelerator = Accelerator(
            mixed_precision=settings.precision,
            cpu=job.cpu,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.module = job.module
        if settings.freeze_batch_norm:
            for step in self.module.program.main:
                step.tracked = False
        optimiser = optimiser_of(self.module, settings)
        self.student, self.optimiser = self.accelerator.prepare(_Student(self.module), optimiser)
        if job.teacher is not None:
            job.teacher.module.to(self.accelerator.device)
        self.average = Average(self.module, settings.ema) if settings.ema else None
        self.progress = Progress(history=[])
        self.steps = settings.steps or settings.epochs * self._steps_per_epoch()
        self.before = 0.0
        self._started = time.monotonic()
        self._best: dict[str, Tensor] | None = None
        if resume:
            self._resume()

    # -- the run -----------------------------------------------------------------------------------------------

    def run(self) -> Recovered:
        """Train, and give the best model of all evaluations, the one before training included."""
        job, progress = self.job, self.progress
        if progress.best is None:
            self._reconstruct()
            self._judge(epoch=0)
        while progress.step < self.steps and not self._waited_enough():
            self._epoch()
            progress.epoch += 1
            self._judge(progress.epoch)
        best = {key: value.to("cpu") for key, value in (self._best or {}).items()}
        history = tuple(progress.history or [])
        return Recovered(
            write_back(self.module, job.model, values=best), float(progress.best or 0.0),
            float(history[0]["metric"]), history,
        )  # fmt: skip

    def _reconstruct(self) -> None:
        job = self.job
        if job.settings.layerwise and job.teacher is not None:
            if not job.teacher.features:
                raise SettingError("layer by layer reconstruction has no values to match", remedy="give the plan")
            reconstruct(
                self.module, job.teacher, job.teacher.features, self._without_end, job.settings.layerwise,
                job.settings.lr, job.settings.seed,
            )  # fmt: skip

    def _without_end(self, seed: int) -> Iterator[tuple[dict[str, Any], Any]]:
        while True:
            for feeds, _, numbers in self._batches(seed, shared=True):
                yield feeds, numbers
            seed += 1

    def _epoch(self) -> None:
        """One pass over the data, or what is left of the steps. All that is drawn follows from seed and epoch."""
        progress, settings = self.progress, self.job.settings
        torch.manual_seed(settings.seed * 1_000_003 + progress.epoch)
        self.student.train()
        pending, total, count = 0, 0.0, 0
        self.optimiser.zero_grad()
        for feeds, labels, numbers in self._batches(settings.seed * 1_000_003 + progress.epoch):
            if progress.step >= self.steps:
                break
            set_rate(self.optimiser, settings.lr * rate_at(progress.step, self.steps, settings.warmup))
            loss = self._loss(feeds, labels, numbers)
            value = float(loss.detach())
            if not np.isfinite(value):
                self._blame(feeds, value)
            self.accelerator.backward(loss / settings.accumulate)
            total, count, pending = total + value, count + 1, pending + 1
            if pending == settings.accumulate:
                self._step()
                pending = 0
                self._tell(loss=value)
        if pending and progress.step < self.steps:
            self._step()
        progress.history = progress.history or []
        self._epoch_loss = total / max(count, 1)

    def _step(self) -> None:
        settings = self.job.settings
        if settings.clip:
            self.accelerator.clip_grad_norm_(self.student.parameters(), settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.progress.step += 1
        for hook in self.job.hooks:
            hook(self.progress.step, self.steps, self.module)
        if self.average is not None:
            self.average.update()

    def _loss(self, feeds: dict[str, Any], labels: np.ndarray | None, numbers: np.ndarray | None) -> Tensor:
        job, settings = self.job, self.job.settings
        if settings.flip or settings.shift:
            feeds, numbers = augmented(feeds, settings.flip, settings.shift), None
        wanted = list(self.module.output_names)
        if job.teacher is not None:
            wanted += [f.name for f in job.teacher.features if f.name not in wanted]
        with self.accelerator.autocast():
            mine = self.student(feeds, wanted)
        mine = {k: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in mine.items()}
        terms = []
        supervised = job.loss is not None and labels is not None
        share = 0.0 if job.teacher is None else settings.distil if supervised else 1.0
        if job.loss is not None and labels is not None and share < 1:
            terms.append((1 - share) * job.loss(mine, as_labels(labels, self.accelerator.device)))  # type: ignore[arg-type]
        if job.teacher is not None and share > 0:
            theirs = job.teacher(feeds, numbers)
            outputs = {name: theirs[name] for name in self.module.output_names if name in theirs}
            terms.append(share * distillation(mine, outputs, job.ends, settings.temperature))
            if settings.features and job.teacher.features:
                terms.append(settings.features * feature_loss(job.teacher.features, mine, theirs))
        if not terms:
            raise SettingError("there is nothing to learn from", remedy="give data with labels, or --teacher")
        if job.penalty is not None:
            terms.append(job.penalty(self.module))
        return torch.stack(terms).sum()

    # -- batches -----------------------------------------------------------------------------------------------

    def _batches(
        self, seed: int, shared: bool = False
    ) -> Iterator[tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]]:
        """Feeds, labels and sample numbers of this process's part of the data, in the order of a seed.

        Where the data is `shared` each process has all of it, so that what no gradient is exchanged for is the same.
        """
        data = self.job.data
        world, rank = (1, 0) if shared else (self.accelerator.num_processes, self.accelerator.process_index)
        if data.samples is None:
            if world > 1:
                raise SettingError(f"{data.origin}: a script's samples cannot be shared among processes")
            for batch in data.batches(self.job.settings.batch):
                yield batch.feeds, None, None
            return
        order = np.random.default_rng(seed).permutation(data.samples)
        mine = order[rank : len(order) // world * world : world]
        part = data.take(mine)
        for batch in part.batches(self.job.settings.batch):
            rows = slice(batch.first, batch.first + batch.size)
            yield batch.feeds, None if part.labels is None else part.labels[rows], mine[rows]

    def _steps_per_epoch(self) -> int:
        samples = self.job.data.samples
        if samples is None:
            raise SettingError("how many steps a script's data makes is not known", remedy="give --steps")
        per_process = samples // self.accelerator.num_processes
        batches = -(-per_process // self.job.settings.batch)
        return max(-(-batches // self.job.settings.accumulate), 1)

    # -- judging and keeping -----------------------------------------------------------------------------------

    def _judge(self, epoch: int) -> None:
        """Evaluate the written-back model, keep it if none is better (of equals the later), and write the state."""
        job, progress = self.job, self.progress
        self.student.eval()
        values = self._averaged() if self.average is not None and epoch else self._weights()
        metric = self._measured(values)
        if job.keep_last or progress.best is None or metric >= progress.best:
            is_better = progress.best is None or metric > progress.best
            progress.best, progress.best_epoch = metric, epoch
            progress.waited = 0 if is_better else progress.waited + 1
            self._best = {key: value.detach().cpu().clone() for key, value in values.items()}
        else:
            progress.waited += 1
        row = {"epoch": epoch, "step": progress.step, "metric": metric, "best": progress.best}
        if epoch:
            row["loss"] = self._epoch_loss
        progress.history = [*(progress.history or []), row]
        if self.told is not None and self.is_main:
            self.told({**row, "steps": self.steps, "seconds": time.monotonic() - self._started})
        self._keep()

    def _measured(self, values: dict[str, Tensor]) -> float:
        """The metric of the written-back model: the main process's, so that all processes decide alike."""
        found = [0.0]
        if self.is_main:
            job = self.job
            model = write_back(self.module, job.model, values={k: v.detach() for k, v in values.items()})
            outputs = outputs_of(model, job.valid, job.settings.batch, job.options)
            labels = job.valid.labels if job.valid.labels is not None else np.zeros(0)
            found = [job.metric(outputs, labels)]
        return float(broadcast_object_list(found)[0])

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that evaluates, writes and speaks."""
        return bool(self.accelerator.is_main_process)

    _epoch_loss = 0.0

    def _weights(self) -> dict[str, Tensor]:
        return {key: self.module.places[key].get() for key in self.module.originals}

    def _averaged(self) -> dict[str, Tensor]:
        """The average, with zeros where a mask has them now."""
        found = dict(self.average.values) if self.average is not None else {}
        for key, value in found.items():
            mask = mask_of(self.module.places[key])
            if mask is not None:
                found[key] = value * mask.keep
        return found

    def _waited_enough(self) -> bool:
        return bool(self.job.settings.patience) and self.progress.waited >= self.job.settings.patience

    def _tell(self, loss: float) -> None:
        if self.told is not None and self.is_main:
            rate = self.optimiser.param_groups[0]["lr"]
            self.told({
                "step": self.progress.step, "steps": self.steps, "loss": loss, "rate": rate,
                "seconds": time.monotonic() - self._started,
            })  # fmt: skip

    def _keep(self) -> None:
        folder = self.job.folder
        if folder is None or not self.is_main:
            return
        tensors, numbers = checkpoint.packed(self.module.state_dict(), self.optimiser, self.average)
        told = {"progress": vars(self.progress), "numbers": numbers, **self._identity()}
        checkpoint.write(folder / STATE, tensors, told)
        if self.progress.best_epoch == self.progress.epoch and self._best is not None:
            checkpoint.write(folder / BEST, self._best, {"progress": vars(self.progress), **self._identity()})

    def _identity(self) -> dict[str, str]:
        return {**self.job.identity, "settings": self.job.settings.digest}

    def _resume(self) -> None:
        if self.job.folder is None:
            raise SettingError("--resume needs a folder of checkpoints", remedy="give --checkpoints DIR")
        path = self.job.folder / STATE
        tensors, told = checkpoint.read(path)
        checkpoint.check_same(path, told, self._identity())
        self.module.load_state_dict(checkpoint.section(tensors, "model"))
        checkpoint.unpack_optimiser(self.optimiser, tensors, told["numbers"])
        if self.average is not None:
            self.average.values = checkpoint.section(tensors, "average")
            self.average.steps = told["numbers"]["average"]
        self.progress = Progress(**told["progress"])
        self._best, _ = checkpoint.read(self.job.folder / BEST)

    def _blame(self, feeds: dict[str, Any], value: float) -> None:
        self.module.eval()
        why = first_failure(self.module, feeds)
        folder = self.job.folder
        kept = f"The best weights so far are in {folder / BEST}; " if folder is not None else ""
        raise SettingError(
            f"the loss became {value} at step {self.progress.step + 1}: {why}",
            remedy=f"{kept}start anew with a smaller --lr, or with --clip",
        )
