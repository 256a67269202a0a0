"""How a model is trained: plain frozen data, checked once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from onnxprune.errors import SettingError

OPTIMISERS = ("adamw", "adam", "sgd", "muon")
PRECISIONS = ("no", "bf16", "fp16")
RENORMS = ("auto", "on", "off")
_CHOICES = {"optimiser": OPTIMISERS, "precision": PRECISIONS, "renorm": RENORMS}
_POSITIVE = ("epochs", "batch", "lr", "accumulate", "temperature", "layerwise_lr", "zoom")
_NOT_NEGATIVE = ("shift", "mixup", "features", "layerwise", "lasso", "weight_decay", "clip", "patience")
_SHARES = ("zoom", "renorm_fixed", "distil", "warmup", "ema", "label_smoothing")


@dataclass(frozen=True)
class Settings:
    """What `recover` does.

    `epochs` passes over the data, or `steps` optimiser steps where given. `optimiser` and `lr`, the highest learning
    rate, follow from what the model is made of unless they are given (optim.way_of). `warmup` is the share of all steps
    in which the rate rises to `lr`; a cosine then takes it to zero. Weight decay is kept off norms, biases and other
    vectors. `renorm` puts normalisation back into convolutions while they are trained: auto does where it can, on
    refuses where it cannot; `renorm_fixed` is the share of the steps, at the end, in which its statistics stay as they
    are. `distil` is the weight of the teacher's outputs beside the labels' loss (1 where there are
    no labels), `features` that of its intermediate values. `layerwise` is the number of steps of reconstruction before
    training, with Adam at the rate `layerwise_lr`.
    `flip`, `shift` and `zoom` change images at random (augment.py), and with `mixup` above 0 each sample of a batch is
    mixed with another, by shares from Beta(mixup, mixup).
    `ema` is the decay of an average of the weights, 0 for none. `patience` is how many evaluations without a better
    metric end the run, 0 for none. `lasso` weighs the norms of units that a plan is going to remove.
    """

    epochs: int = 3
    steps: int | None = None
    batch: int = 64
    lr: float | None = None
    optimiser: str | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip: float = 1.0
    accumulate: int = 1
    precision: str = "no"
    label_smoothing: float = 0.0
    distil: float = 0.5
    temperature: float = 2.0
    features: float = 0.0
    layerwise: int = 0
    layerwise_lr: float = 1e-3
    ema: float = 0.0
    patience: int = 0
    flip: bool = False
    shift: int = 0
    zoom: float = 1.0
    mixup: float = 0.0
    freeze: tuple[str, ...] = ()
    freeze_batch_norm: bool = False
    renorm: str = "auto"
    renorm_fixed: float = 0.0
    lasso: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known and (name != "optimiser" or value is not None):
                raise SettingError(f"--{name} {value}: unknown", remedy=f"give one of {', '.join(known)}")
        for name in _POSITIVE:
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "it is more than 0")
        for name in _NOT_NEGATIVE:
            self._check(name, getattr(self, name) >= 0, "it is 0 or more")
        for name in _SHARES:
            self._check(name, 0 <= getattr(self, name) <= 1, "it is from 0 to 1")
        self._check("momentum", 0 <= self.momentum < 1, "it is from 0 up to, not including, 1")

    def _check(self, name: str, holds: bool, remedy: str) -> None:
        if not holds:
            raise SettingError(f"--{name.replace('_', '-')} is {getattr(self, name)}", remedy=remedy)

    @property
    def changes_samples(self) -> bool:
        """Whether a sample is another one each time that it comes."""
        return self.flip or self.shift > 0 or self.zoom < 1 or self.mixup > 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def digest(self) -> str:
        """A hash (hex) of what decides the result; how long one waits for a better metric does not."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "patience"}
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=list).encode()).hexdigest()
