"""Recovery in one call, for Python.

recovered = onnxprune.recover(pruned, data, teacher="dense.onnx")
recovered.metric, recovered.before, recovered.history
onnxprune.save(recovered.model, "better.onnx")
"""

from __future__ import annotations

import os

from onnx import ModelProto

from onnxprune.errors import SettingError
from onnxprune.graph.io import load
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.recover.device import has_gpu, use_threads
from onnxprune.recover.job import Job, Recovered, Told
from onnxprune.recover.judging import default_metric
from onnxprune.recover.losses import ending_of, loss_of
from onnxprune.recover.module import to_torch
from onnxprune.recover.settings import Settings
from onnxprune.recover.sparse import courses_of
from onnxprune.recover.teacher import Teacher
from onnxprune.recover.trainer import Trainer
from onnxprune.runtime.data import Data
from onnxprune.runtime.metrics import Judge, find_metric
from onnxprune.runtime.ort import RunOptions

VALID_SHARE = 0.1
Source = str | os.PathLike[str] | ModelProto | Model


def recover(
    model: Source,
    data: Data,
    *,
    teacher: Source | None = None,
    valid: Data | None = None,
    loss: str | None = "cross_entropy",
    metric: str | None = None,
    settings: Settings | None = None,
    keep_last: bool = False,
    options: RunOptions | None = None,
    told: Told | None = None,
) -> Recovered:
    """Train a pruned model: with the labels of `data`, with the dense model as `teacher`, or with both.

    `loss` is of the labels: cross_entropy or mse, None leaves them unread. `valid` judges each epoch, a tenth of `data`
    unless given, by `metric`; unless that is given, by top1 or mse with labels, else by the agreement with the classes
    that the teacher names, or the ratio of its outputs to the error (snr).
    The best model is given, or with `keep_last` the last one, whatever judges it. Sparse weights keep their zeros.
    Nothing is written to disk. The command `recover` has more: intermediate values of the teacher, masks, checkpoints.

    Raises SettingError where there is nothing to learn from or to judge by, and what `to_torch` raises.
    """
    settings, options = settings or Settings(), options or RunOptions(threads=1)
    model = load(model)
    use_threads(options.threads)
    view = GraphView(model)
    module = to_torch(model, freeze=settings.freeze)
    is_labelled = loss is not None and data.labels is not None
    if not is_labelled and teacher is None:
        raise SettingError("there is nothing to learn from: no labels, no teacher", remedy="give teacher=DENSE")
    if valid is None:
        if data.samples is None or data.samples < 2:
            raise SettingError(f"{data.origin} cannot be divided", remedy="give valid=DATA")
        held = max(round(data.samples * VALID_SHARE), 1)
        data, valid = data.part(held), data.part(0, held)
    ends = {name: ending_of(view, name) for name in view.outputs}
    first = next(iter(view.outputs))
    taught = loss_of(loss or "", first, ends[first], settings.label_smoothing) if is_labelled else None
    dense = None if teacher is None else load(teacher)
    with_labels = is_labelled and valid.labels is not None
    metric = metric or default_metric(view, loss or "", labels=with_labels, teacher=dense is not None)
    if metric is None:
        raise SettingError("nothing says which epoch is the best", remedy="give metric=NAME, teacher=DENSE, or labels")
    judged_by = find_metric(metric)
    if judged_by.needs == "dense" and dense is None:
        raise SettingError(f"the metric {metric} compares with the dense model", remedy="give teacher=DENSE")
    judge = Judge(dense or model, valid, judged_by, options=options, batch=settings.batch)
    job = Job(
        model, module, data, judge, settings, taught,
        None if dense is None else Teacher(to_torch(dense), repeats=not settings.changes_samples), ends,
        courses=courses_of(module, "keep", "oneshot"), cpu=not has_gpu(), keep_last=keep_last,
    )  # fmt: skip
    return Trainer(job, told=told).run()
