"""Losses: of labels, of a teacher's outputs, of its intermediate values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.errors import SettingError
from onnxprune.runtime.functions import load_function, split

Loss = Callable[[dict[str, Tensor], Tensor], Tensor]
"""Of a model's outputs by name and the labels of a batch: one number."""

DEFAULT_FUNCTION = "loss"
_LOG_FLOOR = 1e-8
PROBABILITIES = ("Softmax", "LogSoftmax", "Sigmoid")


class CrossEntropy:
    """Of the first output [N, C] (or [N, ..., C]) and class numbers; `ends` is the operator that makes it.

    Raises SettingError for labels that are no class.
    """

    def __init__(self, output: str, ends: str = "", smoothing: float = 0.0) -> None:
        self.output, self.ends, self.smoothing = output, ends, smoothing

    def __call__(self, outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        y = outputs[self.output]
        flat = y.reshape(-1, y.shape[-1])
        if labels.numel() != flat.shape[0]:
            raise SettingError(
                f"{labels.numel()} labels for an output of shape {list(y.shape)}",
                remedy="cross-entropy takes one class for each row of the first output; give --loss mse or a callable",
            )
        check_classes(labels, y.shape[-1], self.output)
        if self.ends == "Softmax":
            flat = torch.log(flat.clamp_min(_LOG_FLOOR))
        return F.cross_entropy(flat, labels.reshape(-1).to(torch.int64), label_smoothing=self.smoothing)


def check_classes(labels: Tensor, classes: int, output: str) -> None:
    """Raise SettingError unless every label is a class number."""
    wrong = (labels < 0) | (labels >= classes)
    if labels.is_floating_point() or bool(wrong.any()):
        found = labels.reshape(-1)[0] if labels.is_floating_point() else labels[wrong].reshape(-1)[0]
        raise SettingError(
            f"the label {found.item()} is no class: {output!r} has {classes}, numbered from 0",
            remedy="check the data's labels",
        )


class MeanSquare:
    """Of the first output and labels of its shape."""

    def __init__(self, output: str) -> None:
        self.output = output

    def __call__(self, outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        y = outputs[self.output]
        if y.numel() != labels.numel():
            raise SettingError(f"labels of shape {list(labels.shape)} for an output of shape {list(y.shape)}")
        return F.mse_loss(y, labels.reshape(y.shape).to(y.dtype))


def loss_of(name: str, output: str, ends: str, smoothing: float) -> Loss:
    """The loss of that name: "cross_entropy", "mse", or `script.py:function` taking (outputs, labels)."""
    if name == "cross_entropy":
        return CrossEntropy(output, ends, smoothing)
    if name == "mse":
        return MeanSquare(output)
    script = split(name)
    if script is None:
        raise SettingError(f"--loss {name}: unknown", remedy="give cross_entropy, mse or script.py:function")
    return load_function(script[0], script[1] or DEFAULT_FUNCTION, "--loss")


def distillation(
    mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], ends: Mapping[str, str], temperature: float
) -> Tensor:
    """How far outputs are from a teacher's, on average over the float outputs that both have.

    Rows of class scores [N, C] are compared as distributions, softened by the temperature (Hinton et al., "Distilling
    the Knowledge in a Neural Network", 2015, arXiv:1503.02531; the factor T^2 keeps gradients in scale). Anything else
    by its mean square error, in units of the teacher's variance.
    """
    terms = []
    for name, target in theirs.items():
        y = mine[name]
        if not target.is_floating_point() or y.shape != target.shape:
            continue
        if target.ndim == 2 and target.shape[1] > 1 and ends.get(name) not in ("Sigmoid", "LogSoftmax"):
            if ends.get(name) == "Softmax":  # probabilities: their logarithms are scores
                y, target = (torch.log(v.clamp_min(_LOG_FLOOR)) for v in (y, target))
            log_mine = F.log_softmax(y / temperature, 1)
            log_theirs = F.log_softmax(target / temperature, 1)
            terms.append(F.kl_div(log_mine, log_theirs, reduction="batchmean", log_target=True) * temperature**2)
        else:
            terms.append(relative_error(y, target))
    if not terms:
        raise SettingError(
            "no output of the teacher has the shape of the model's",
            remedy="the teacher must be the dense model that the pruned one was made of",
        )
    return torch.stack(terms).mean()


def relative_error(y: Tensor, target: Tensor) -> Tensor:
    """Mean square error over the mean square of the target."""
    return F.mse_loss(y, target) / target.square().mean().clamp_min(1e-12)


def as_labels(labels: np.ndarray, device: torch.device) -> Tensor:
    """Labels as a tensor of their own memory."""
    return torch.from_numpy(np.array(labels)).to(device)


def ending_of(model_view: Any, output: str) -> str:
    """The operator that makes an output, through what only lays it out anew."""
    key = output
    while (node := model_view.producer.get(key)) is not None:
        if node.op not in ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"):
            return str(node.op)
        key = node.inputs[0]
    return ""
