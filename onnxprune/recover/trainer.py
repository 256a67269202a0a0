"""The training loop: labels, a teacher or both; through Hugging Face Accelerate; judged by ONNX Runtime."""

from __future__ import annotations

import time
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, set_seed
from torch import Tensor

from onnxprune.errors import SettingError
from onnxprune.recover import checkpoint
from onnxprune.recover.batches import Batches
from onnxprune.recover.blame import broken_weight, first_failure
from onnxprune.recover.checkpoint import BEST, STATE, Progress
from onnxprune.recover.ema import Average
from onnxprune.recover.job import Job, Recovered, Told
from onnxprune.recover.layerwise import reconstruct
from onnxprune.recover.masks import mask_of
from onnxprune.recover.objective import Objective, Student, check_labels
from onnxprune.recover.optim import optimiser_of, rate_at, set_rate, way_of
from onnxprune.recover.renorm import fix_statistics, put_back
from onnxprune.recover.writing import write_back

_SEEDS_APART = 1_000_003  # so that epochs of one seed are not those of the next
_MEASURED = 1024  # samples that the statistics of a normalisation are taken of at first


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
        self.module.to(self.accelerator.device)
        if job.teacher is not None:
            job.teacher.module.to(self.accelerator.device)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.batches = Batches(job.data, settings.batch, settings.accumulate, world, rank)
        if not resume:
            check_labels(job)
            self._reconstruct()
        renormalised = self._renormalise()
        self.way = way_of(self.module, settings, renormalised=renormalised)
        optimiser = optimiser_of(self.module, settings, self.way)
        self.student, self.optimiser = self.accelerator.prepare(Student(self.module), optimiser)
        self.objective = Objective(job, self.student, self.accelerator)
        self.average = Average(self.module, settings.ema) if settings.ema else None
        self.progress = Progress()
        self.steps = settings.steps or settings.epochs * self.batches.steps
        self._started = time.monotonic()
        self._best: dict[str, Tensor] = {}
        if resume:
            self._resume()

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that evaluates, writes and speaks."""
        return bool(self.accelerator.is_main_process)

    # -- the run -----------------------------------------------------------------------------------------------

    def run(self) -> Recovered:
        """Train, and give the best model of all evaluations, the one before training included."""
        progress = self.progress
        if progress.best is None:
            self._judge(epoch=0, loss=None)
        while progress.step < self.steps and not self._waited_enough():
            loss = self._epoch()
            progress.epoch += 1
            self._judge(progress.epoch, loss)
        best = {key: value.to("cpu") for key, value in self._best.items()}
        model = write_back(self.module, self.job.model, values=best)
        before = float(progress.history[0]["metric"])
        return Recovered(model, float(progress.best or 0.0), before, tuple(progress.history))

    def _reconstruct(self) -> None:
        job, settings = self.job, self.job.settings
        if settings.layerwise and job.teacher is not None:
            if not job.teacher.features:
                raise SettingError("layer by layer reconstruction has no values to match", remedy="give the plan")
            reconstruct(
                self.module, job.teacher, job.teacher.features, self.batches.without_end, settings.layerwise,
                settings.layerwise_lr, settings.seed,
            )  # fmt: skip

    def _renormalise(self) -> bool:
        """Put normalisation back where that is wanted; whether there is any now."""
        job, settings = self.job, self.job.settings
        if settings.renorm == "off" or (settings.renorm == "auto" and settings.lasso):  # whose weights' size is to tell
            return False
        batches = islice(self.batches.of(settings.seed, shared=True), max(_MEASURED // settings.batch, 1))
        found = put_back(self.module, (feeds for feeds, _, _ in batches))
        if settings.renorm == "on" and not found:
            raise SettingError(
                f"--renorm on: {job.model.data.origin} has no convolution that could be normalised",
                remedy="they need a trained bias, more than one place, and a batch of 8; or give --renorm auto",
            )
        return bool(found)

    def _epoch(self) -> float:
        """One pass over the data, or what is left of the steps; gives the mean loss.

        All that is drawn follows from seed and epoch.
        """
        progress, settings = self.progress, self.job.settings
        seed = settings.seed * _SEEDS_APART + progress.epoch
        torch.manual_seed(seed + self.batches.rank * _SEEDS_APART**2)
        self.student.train()
        pending, total, count = 0, 0.0, 0
        self.optimiser.zero_grad()
        for feeds, labels, numbers in self.batches.of(seed):
            if progress.step >= self.steps:
                break
            if progress.step >= self.steps * (1 - settings.renorm_fixed):
                fix_statistics(self.module)
            set_rate(self.optimiser, self.way.lr * rate_at(progress.step, self.steps, settings.warmup))
            loss = self.objective(feeds, labels, numbers)
            value = float(loss.detach())
            if not np.isfinite(value):
                self.module.eval()
                raise self._diverged(f"the loss became {value}", first_failure(self.module, feeds))
            self.accelerator.backward(loss / settings.accumulate)
            total, count, pending = total + value, count + 1, pending + 1
            if pending == settings.accumulate:
                self._step()
                pending = 0
                self._tell(loss=value)
        if pending and progress.step < self.steps:
            self._step()
        return total / max(count, 1)

    def _step(self) -> None:
        settings = self.job.settings
        if settings.clip:
            self.accelerator.clip_grad_norm_(self.student.parameters(), settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.progress.step += 1
        for course in self.job.courses:
            course(self.progress.step, self.steps, self.module)
        if self.average is not None:
            self.average.update()

    # -- judging and keeping -----------------------------------------------------------------------------------

    def _judge(self, epoch: int, loss: float | None) -> None:
        """Evaluate the written-back model, keep it if none is better (of equals the later), and write the state."""
        progress, better = self.progress, self.job.judge.metric.loss
        self.student.eval()
        broken = broken_weight(self.module)
        if broken is not None:
            raise self._diverged("training broke off", broken)
        values = self._averaged() if self.average is not None and epoch else self._weights()
        metric = self._measured(values)
        first = progress.best is None
        behind = 0.0 if progress.best is None else better(progress.best, metric)  # negative: it is better
        progress.waited = 0 if first or behind < 0 else progress.waited + 1
        if first or self.job.keep_last or behind <= 0:
            progress.best, progress.best_epoch = metric, epoch
            self._best = {key: value.detach().cpu().clone() for key, value in values.items()}
        row = {"epoch": epoch, "step": progress.step, "metric": metric, "best": progress.best}
        progress.history.append(row if loss is None else row | {"loss": loss})
        if self.told is not None and self.is_main:
            self.told({**progress.history[-1], "steps": self.steps, "seconds": time.monotonic() - self._started})
        self._keep()

    def _measured(self, values: dict[str, Tensor]) -> float:
        """The metric of the written-back model: the main process's, so that all processes decide alike."""
        found = [0.0]
        if self.is_main:
            model = write_back(self.module, self.job.model, values={k: v.detach() for k, v in values.items()})
            found = [self.job.judge.score(model).value]
        return float(broadcast_object_list(found)[0])

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
        """Write the best weights, then the state: a run that is killed in between makes the same best ones again."""
        folder = self.job.folder
        if folder is None or not self.is_main:
            return
        told = {"progress": vars(self.progress), **self._identity()}
        if self.progress.best_epoch == self.progress.epoch:
            checkpoint.write(folder / BEST, self._best, told)
        tensors, numbers = checkpoint.packed(self.module.state_dict(), self.optimiser, self.average)
        for index, course in enumerate(self.job.courses):
            tensors |= {f"course{index}/{key}": value for key, value in course.state().items()}
        if self.accelerator.scaler is not None:
            told["scaler"] = self.accelerator.scaler.state_dict()
        checkpoint.write(folder / STATE, tensors, told | {"numbers": numbers})

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
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(told["scaler"])
        self.progress = Progress(**told["progress"])
        for index, course in enumerate(self.job.courses):
            course.restore(checkpoint.section(tensors, f"course{index}"), self.progress.step, self.steps, self.module)
        self._best, _ = checkpoint.read(self.job.folder / BEST)

    def _diverged(self, what: str, why: str) -> SettingError:
        folder = self.job.folder
        kept = f"The best weights so far are in {folder / BEST}; " if folder is not None else ""
        return SettingError(
            f"{what} at step {self.progress.step + 1}: {why}",
            remedy=f"{kept}start anew with a smaller --lr, or with --clip",
        )
