"""The course of masks over training: at once, gradually, dropping and growing, or rewound.

Courses are called after every optimiser step with the steps done, all steps, and the module.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from onnxprune.errors import SettingError
from onnxprune.recover.masks import best_n_of_m, largest, mask_of, masked, original, unmasked, zeros_of
from onnxprune.recover.module import OnnxModule

COURSES = ("oneshot", "gradual", "rigl", "rewind")
_PATTERN = re.compile(r"(?P<n>\d+):(?P<m>\d+)")
_LEAST_ZEROS = 0.05  # share of exact zeros from which on a weight was made sparse, and did not become so by chance
_UPDATES = 20  # how often masks are looked at anew
_END = 0.75  # share of the steps after which masks stay
_REWIND_AT = 0.1  # share of the steps whose weights a rewound run goes back to
_DROPPED = 0.3  # share of what is kept that RigL exchanges at first
_INNER_AXIS = {"Conv": 1, "ConvTranspose": 0, "FusedConv": 1}


@dataclass(frozen=True)
class Pattern:
    """Either n of every m neighbours along the summed axis stay (`m` > 0), or a share `1 - zeros` of all elements."""

    n: int = 0
    m: int = 0
    zeros: float = 0.0

    def keep(self, module: OnnxModule, key: str, score: Tensor, part: float = 1.0) -> Tensor:
        """The mask of a weight; `part` of the zeros that there shall be in the end (N:M: none before all)."""
        if self.m:
            return best_n_of_m(score, self.n, self.m, inner_axis(module, key)) if part >= 1 else torch.ones_like(
                score, dtype=torch.bool
            )  # fmt: skip
        return largest(score, score.numel() - round(score.numel() * self.zeros * part))


@dataclass
class Course(ABC):
    """What moves the masks of the weights `keys` while training goes on."""

    pattern: Pattern
    keys: list[str]

    @abstractmethod
    def __call__(self, step: int, steps: int, module: OnnxModule) -> None:
        """`step` of `steps` steps are done."""

    def state(self) -> dict[str, Tensor]:
        """What it takes to go on beside the module's own state, by name."""
        return {}

    def restore(self, state: Mapping[str, Tensor], step: int, steps: int, module: OnnxModule) -> None:
        """Go on after `step` steps with what `state` gave then."""
        return


def inner_axis(module: OnnxModule, key: str) -> int:
    """The axis of a weight that is summed over, along which groups of N:M run: C of a kernel, K of a product."""
    for step in module.program.main:
        if key in step.inputs:
            place = step.inputs.index(key)
            if step.op in _INNER_AXIS:
                return _INNER_AXIS[step.op]
            if step.op in ("Gemm", "FusedGemm"):
                transposed = step.attr("transB" if place == 1 else "transA", 0)
                return (1 if transposed else 0) if place == 1 else (0 if transposed else 1)
            if step.op in ("MatMul", "FusedMatMul"):
                return -2 if place == 1 else -1
    return -1


def read_pattern(text: str) -> Pattern | None:
    """ "2:4", "1:8" or a share as "0.8"; None for "keep" and "free". Raises SettingError for anything else."""
    if text in ("keep", "free"):
        return None
    match = _PATTERN.fullmatch(text)
    if match is not None and 0 < int(match["n"]) < int(match["m"]):
        return Pattern(int(match["n"]), int(match["m"]))
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if match is not None or not 0 < share < 1:
        raise SettingError(f"--zeros {text}: unknown", remedy="give keep, free, N:M with N below M, or a share as 0.8")
    return Pattern(zeros=share)


def courses_of(module: OnnxModule, zeros: str, course: str) -> list[Course]:
    """Put the masks on that are asked for, and give what moves them. Raises SettingError for unknown names."""
    pattern = read_pattern(zeros)
    if course not in COURSES:
        raise SettingError(f"--zeros-course {course}: unknown", remedy=f"give one of {', '.join(COURSES)}")
    if pattern is None:
        if zeros == "keep":
            keep_zeros(module)
        return []
    keys = [key for key in module.weights if _may_be_sparse(module, key, pattern)]
    if not keys:
        raise SettingError(f"--zeros {zeros}: no weight is a matrix or kernel large enough")
    for key in keys:
        score = unmasked(module.places[key]).detach().abs()
        masked(module, key, torch.ones_like(score) if course in _DENSE_AT_FIRST else pattern.keep(module, key, score))
    return [_COURSES[course](pattern, keys)] if course in _COURSES else []


def keep_zeros(module: OnnxModule) -> list[str]:
    """Mask every matrix or kernel with a share of exact zeros that training did not make; gives their names."""
    found = []
    for key in module.weights:
        value = module.places[key].get().detach()
        if value.ndim > 1 and float((value == 0).float().mean()) >= _LEAST_ZEROS:
            masked(module, key, zeros_of(value))
            found.append(key)
    return found


def _may_be_sparse(module: OnnxModule, key: str, pattern: Pattern) -> bool:
    value = module.places[key].get()
    if value.ndim < 2 or not value.requires_grad:
        return False
    readers = {step.op for step in module.program.main if key in step.inputs}
    if not readers & {"Conv", "ConvTranspose", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}:
        return False
    return not pattern.m or value.shape[inner_axis(module, key)] % pattern.m == 0


@dataclass
class Gradual(Course):
    """Zeros grow along a cubic over three quarters of the steps (Zhu and Gupta, "To prune, or not to prune", 2017,
    arXiv:1710.01878). N:M patterns, which have no halves, grow weight by weight, the ones that lose least first.
    """

    def __call__(self, step: int, steps: int, module: OnnxModule) -> None:
        end = max(round(steps * _END), 1)
        if step > end or (step < end and step % max(end // _UPDATES, 1)):
            return
        part = 1 - (1 - step / end) ** 3
        scores = {key: unmasked(module.places[key]).detach().abs() for key in self.keys}
        if self.pattern.m:
            done = round(part * len(self.keys))
            order = sorted(self.keys, key=lambda key: self._loss(module, key, scores[key]))
            for key in order[:done]:
                masked(module, key, self.pattern.keep(module, key, scores[key]))
        else:
            for key, score in scores.items():
                masked(module, key, self.pattern.keep(module, key, score, part))

    def _loss(self, module: OnnxModule, key: str, score: Tensor) -> float:
        keep = self.pattern.keep(module, key, score)
        return float(score[~keep].sum() / score.sum().clamp_min(1e-12))


@dataclass
class RigL(Course):
    """Of what is kept the smallest go, of what is not those with the largest gradient come, ever fewer of them (Evci et
    al., "Rigging the Lottery", ICML 2020, arXiv:1911.11134). The gradient of a masked element is that of the last step
    as it would be without the mask.
    """

    def __post_init__(self) -> None:
        self._gradients: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __call__(self, step: int, steps: int, module: OnnxModule) -> None:
        end = max(round(steps * _END), 1)
        every = max(end // _UPDATES, 1)
        if step >= end:
            return
        if step % every == 0 and self._gradients:
            share = _DROPPED / 2 * (1 + torch.cos(torch.tensor(torch.pi * step / end)).item())
            for key, gradient in self._gradients.items():
                if torch.distributed.is_available() and torch.distributed.is_initialized():
                    torch.distributed.all_reduce(gradient)  # masks must be the same in all processes
                self._exchange(module, key, gradient, share)
            self._gradients.clear()
            for handle in self._handles:
                handle.remove()
            self._handles.clear()
        if (step + 1) % every == 0:
            self._listen(module)

    def restore(self, state: Mapping[str, Tensor], step: int, steps: int, module: OnnxModule) -> None:
        """Listen, where the next step's gradients are wanted."""
        end = max(round(steps * _END), 1)
        if step < end and (step + 1) % max(end // _UPDATES, 1) == 0:
            self._listen(module)

    def _listen(self, module: OnnxModule) -> None:
        """Take the next step's gradients of weights before their masks."""
        for key in self.keys:
            mask = mask_of(module.places[key])
            if mask is not None:
                self._handles.append(mask.register_forward_hook(self._catcher(key)))

    def _catcher(self, key: str) -> Callable[..., None]:
        def hook(_mask: object, _inputs: object, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda gradient: self._gradients.__setitem__(key, gradient.detach().abs()))

        return hook

    def _exchange(self, module: OnnxModule, key: str, gradient: Tensor, share: float) -> None:
        place = module.places[key]
        mask = mask_of(place)
        if mask is None:
            return
        weight = unmasked(place).detach()
        keep = mask.keep
        if self.pattern.m:  # within each group what counts is the weight, or the gradient of what is masked
            scale = weight.abs()[keep].mean() / gradient.mean().clamp_min(1e-12)
            score = torch.where(keep, weight.abs(), share * scale * gradient)
            new = self.pattern.keep(module, key, score)
        else:
            count = round(float(keep.sum()) * share)
            stay = largest(torch.where(keep, weight.abs(), -torch.ones_like(weight)), int(keep.sum()) - count)
            grown = largest(torch.where(keep, -torch.ones_like(weight), gradient), count)
            new = stay | grown
        with torch.no_grad():
            original(place)[new & ~keep] = 0  # what comes begins at zero
        mask.keep.copy_(new)


@dataclass
class Rewind(Course):
    """Once half of the steps are done the mask is made of the weights as trained, which then go back to what they were
    early on (Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020,
    arXiv:1912.05671).
    """

    def __post_init__(self) -> None:
        self._early: dict[str, Tensor] = {}

    def __call__(self, step: int, steps: int, module: OnnxModule) -> None:
        if step == max(round(steps * _REWIND_AT), 1):
            self._early = {key: original(module.places[key]).detach().clone() for key in module.weights}
        if step == max(round(steps / 2), 2) and self._early:
            for key in self.keys:
                score = unmasked(module.places[key]).detach().abs()
                masked(module, key, self.pattern.keep(module, key, score))
            with torch.no_grad():
                for key, value in self._early.items():
                    original(module.places[key]).copy_(value)

    def state(self) -> dict[str, Tensor]:
        """The early weights, by their names."""
        return self._early

    def restore(self, state: Mapping[str, Tensor], step: int, steps: int, module: OnnxModule) -> None:
        """Take the early weights back."""
        self._early = dict(state)


_COURSES: dict[str, type[Course]] = {"gradual": Gradual, "rigl": RigL, "rewind": Rewind}
_DENSE_AT_FIRST = ("gradual", "rewind")
