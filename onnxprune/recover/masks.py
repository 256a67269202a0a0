"""Zeros that stay zero: masks as torch parametrisations of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onnxprune.recover.module import OnnxModule
from onnxprune.recover.naming import Place


class Mask(nn.Module):
    """Multiplies a weight by a buffer of zeros and ones; what is masked keeps its value behind it, and no gradient."""

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep.to(torch.bool))

    keep: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.keep

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def masked(module: OnnxModule, key: str, keep: Tensor) -> Mask:
    """Put a mask on the weight of that name, or give its mask new values."""
    place = module.places[key]
    found = mask_of(place)
    if found is not None:
        found.keep.copy_(keep)
        return found
    mask = Mask(keep)
    parametrize.register_parametrization(place.module, place.attribute, mask)
    return mask


def mask_of(place: Place) -> Mask | None:
    """The mask on what is kept at a place, if there is one."""
    if parametrize.is_parametrized(place.module, place.attribute):
        for found in place.module.parametrizations[place.attribute]:  # type: ignore[index]
            if isinstance(found, Mask):
                return found
    return None


def original(place: Place) -> Tensor:
    """The parameter behind a weight, its masked elements included."""
    if parametrize.is_parametrized(place.module, place.attribute):
        found: Tensor = place.module.parametrizations[place.attribute].original  # type: ignore[index, union-attr]
        return found
    return place.get()


def unmasked(place: Place) -> Tensor:
    """A weight as it is computed with, but for its masks."""
    value = original(place)
    if parametrize.is_parametrized(place.module, place.attribute):
        for transform in place.module.parametrizations[place.attribute]:  # type: ignore[index]
            if not isinstance(transform, Mask):
                value = transform(value)
    return value


def zeros_of(value: Tensor) -> Tensor:
    """True where a weight is not zero."""
    return value != 0


def best_n_of_m(score: Tensor, n: int, m: int, axis: int) -> Tensor:
    """True for the n largest of every m neighbours along an axis; a last group that is not full keeps all."""
    moved = score.movedim(axis, -1)
    whole = moved.shape[-1] // m * m
    groups = moved[..., :whole].reshape(*moved.shape[:-1], -1, m)
    keep = torch.zeros_like(groups, dtype=torch.bool)
    keep.scatter_(-1, groups.topk(n, -1).indices, True)
    found = torch.ones_like(moved, dtype=torch.bool)
    found[..., :whole] = keep.reshape(*moved.shape[:-1], whole)
    return found.movedim(-1, axis)


def largest(score: Tensor, count: int) -> Tensor:
    """True for the `count` largest elements."""
    keep = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
    if count:
        keep[score.reshape(-1).topk(count).indices] = True
    return keep.reshape(score.shape)
