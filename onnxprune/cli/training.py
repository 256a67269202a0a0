"""Options of `recover`: what to learn from, how, and what is kept of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from onnxprune.cli.options import Preprocess

Keep = Literal["best", "last"]
# as recover/settings.py and recover/sparse.py have them, which cannot be read without torch
Optimiser = Literal["adamw", "adam", "sgd", "muon"]
Renorm = Literal["auto", "on", "off"]
Precision = Literal["no", "bf16", "fp16"]
ZerosCourse = Literal["oneshot", "gradual", "rigl", "rewind"]

_LEARNING, _TEACHER, _COURSE, _ZEROS, _RUN = "Data", "Teacher", "Training", "Zeros", "Run"


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


@dataclass(frozen=True)
class Lessons:
    """What is learnt from, and what judges it."""

    data: Annotated[
        str | None,
        _option(_LEARNING, "--data", metavar="DATA", help="Samples, with labels or without: a .npz, a folder or zip."),
    ] = None
    preprocess: Preprocess = None
    samples: Annotated[
        int | None, _option(_LEARNING, "--samples", min=1, metavar="N", help="Samples to use.  [default: all]")
    ] = None
    valid: Annotated[
        str | None, _option(_LEARNING, "--valid", metavar="DATA", help="Samples that judge; else some of --data do.")
    ] = None
    valid_share: Annotated[
        float,
        _option(_LEARNING, "--valid-share", metavar="R", help="Share of --data that is held back to judge by."),
    ] = 0.1
    keep: Annotated[
        Keep,
        _option(_LEARNING, "--keep", metavar="WHICH", help="What is written: best by the metric, or the last."),
    ] = "best"
    loss: Annotated[
        str | None,
        _option(
            _LEARNING, "--loss", metavar="NAME", help="cross_entropy, mse, script.py:function; none: leave labels be."
        ),
    ] = None
    flip: Annotated[bool, _option(_LEARNING, "--flip", help="Mirror images at random.")] = False
    shift: Annotated[
        int, _option(_LEARNING, "--shift", min=0, metavar="N", help="Move images by up to N places at random.")
    ] = 0
    zoom: Annotated[
        float,
        _option(
            _LEARNING, "--zoom", metavar="R", help="Enlarge parts of images, with sides from this share of theirs on."
        ),
    ] = 1.0
    mixup: Annotated[
        float,
        _option(
            _LEARNING, "--mixup", min=0, metavar="A", help="Mix samples in pairs, by shares from Beta(A, A); 0: none."
        ),
    ] = 0.0


@dataclass(frozen=True)
class Teaching:
    """The dense model, as far as it teaches."""

    teacher: Annotated[
        Path | None, _option(_TEACHER, "--teacher", metavar="DENSE", help="The dense model to learn from.")
    ] = None
    distil: Annotated[
        float, _option(_TEACHER, "--distil", metavar="R", help="Its share beside labels; without labels it is all.")
    ] = 0.5
    temperature: Annotated[
        float, _option(_TEACHER, "--temperature", metavar="T", help="By which class scores are softened.")
    ] = 2.0
    features: Annotated[
        float, _option(_TEACHER, "--features", metavar="W", help="Weight of its intermediate values.")
    ] = 0.0
    layerwise: Annotated[
        int, _option(_TEACHER, "--layerwise", min=0, metavar="N", help="Steps of reconstruction per layer, before.")
    ] = 0
    layerwise_lr: Annotated[
        float, _option(_TEACHER, "--layerwise-lr", metavar="R", help="The learning rate of these steps, by Adam.")
    ] = 1e-3
    plan: Annotated[
        Path | None,
        _option(_TEACHER, "--plan", metavar="PLAN", help="What was pruned.  [default: MODEL's name.prune.json]"),
    ] = None


@dataclass(frozen=True)
class Course:
    """How weights are moved."""

    epochs: Annotated[int, _option(_COURSE, "--epochs", min=1, metavar="N", help="Passes over the data.")] = 3
    steps: Annotated[
        int | None, _option(_COURSE, "--steps", min=1, metavar="N", help="Steps in all, instead of --epochs.")
    ] = None
    batch: Annotated[int, _option(_COURSE, "--batch", min=1, metavar="N", help="Samples of a step.")] = 64
    accumulate: Annotated[
        int, _option(_COURSE, "--accumulate", min=1, metavar="N", help="Batches whose gradients make one step.")
    ] = 1
    lr: Annotated[
        float | None,
        _option(_COURSE, "--lr", metavar="R", help="The highest learning rate.  [default: what suits the model]"),
    ] = None
    optimiser: Annotated[
        Optimiser | None,
        _option(
            _COURSE, "--optimiser", metavar="NAME", help="adamw, adam, sgd or muon.  [default: what suits the model]"
        ),
    ] = None
    renorm: Annotated[
        Renorm,
        _option(_COURSE, "--renorm", metavar="HOW", help="Normalisation put back while training: auto, on or off."),
    ] = "auto"
    renorm_fixed: Annotated[
        float,
        _option(_COURSE, "--renorm-fixed", metavar="R", help="Share of the steps, at the end, by its fixed values."),
    ] = 0.0
    momentum: Annotated[
        float, _option(_COURSE, "--momentum", metavar="R", help="Of sgd; the first beta of the others.")
    ] = 0.9
    weight_decay: Annotated[
        float, _option(_COURSE, "--weight-decay", metavar="R", help="Of matrices and kernels; never of vectors.")
    ] = 1e-4
    warmup: Annotated[
        float, _option(_COURSE, "--warmup", metavar="R", help="Share of the steps in which the rate rises.")
    ] = 0.05
    clip: Annotated[
        float, _option(_COURSE, "--clip", metavar="R", help="Largest norm of the gradient; 0 for none.")
    ] = 1.0
    label_smoothing: Annotated[float, _option(_COURSE, "--label-smoothing", metavar="R", help="Of cross-entropy.")] = (
        0.0
    )
    ema: Annotated[
        float, _option(_COURSE, "--ema", metavar="R", help="Decay of an average of the weights; 0 for none.")
    ] = 0.0
    precision: Annotated[
        Precision, _option(_COURSE, "--precision", metavar="NAME", help="no, bf16 or fp16: mixed precision.")
    ] = "no"
    freeze: Annotated[
        list[str] | None, _option(_COURSE, "--freeze", metavar="GLOB", help="Weights that stay (repeatable).")
    ] = None
    freeze_batch_norm: Annotated[
        bool, _option(_COURSE, "--freeze-batch-norm", help="Running statistics stay, and normalise.")
    ] = False
    patience: Annotated[
        int, _option(_COURSE, "--patience", min=0, metavar="N", help="Epochs without a better metric; 0: all run.")
    ] = 0


@dataclass(frozen=True)
class Zeros:
    """What of the weights is zero, and stays so."""

    zeros: Annotated[
        str,
        _option(_ZEROS, "--zeros", metavar="HOW", help="keep those there are; free; 2:4 or N:M; a share, as 0.8."),
    ] = "keep"
    zeros_course: Annotated[
        ZerosCourse,
        _option(_ZEROS, "--zeros-course", metavar="NAME", help="oneshot, gradual, rigl (drop and grow) or rewind."),
    ] = "oneshot"


@dataclass(frozen=True)
class Lasso:
    """Units that a plan is going to remove, pushed towards zero."""

    lasso: Annotated[
        float,
        _option(_ZEROS, "--lasso", metavar="W", help="Weight of the norms of units that --lasso-plan removes."),
    ] = 0.0
    lasso_plan: Annotated[
        Path | None, _option(_ZEROS, "--lasso-plan", metavar="PLAN", help="A plan for this model, not yet applied.")
    ] = None


@dataclass(frozen=True)
class Keeping:
    """What is written while it runs."""

    checkpoints: Annotated[
        Path | None,
        _option(
            _RUN, "--checkpoints", metavar="DIR", help="Where the state is kept.  [default: OUT.recover, until done]"
        ),
    ] = None
    resume: Annotated[bool, _option(_RUN, "--resume", help="Go on from the state in that folder.")] = False
    log: Annotated[
        Path | None, _option(_RUN, "--log", metavar="FILE", help="A CSV file with a row per step and epoch.")
    ] = None
    tensorboard: Annotated[
        Path | None, _option(_RUN, "--tensorboard", metavar="DIR", help="A folder of TensorBoard events.")
    ] = None
    cpu: Annotated[bool, _option(_RUN, "--cpu", help="Train on the CPU also where there is a GPU.")] = False
