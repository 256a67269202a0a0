"""Sparse learning: units that are going to be cut are pushed towards zero first, so that cutting them costs little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from onnxprune.recover.module import OnnxModule


class GroupLasso:
    """The norms of all slices of weights that a plan removes, each times the root of its size.

    Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016, arXiv:1608.03665. `kept` is a
    plan's `tensors`: by stored tensor and axis the indices that stay. Calling it gives the penalty times `weight`.
    """

    def __init__(self, kept: Mapping[str, Mapping[int, Sequence[int]]], weight: float) -> None:
        self.kept, self.weight = kept, weight

    def __call__(self, module: OnnxModule) -> Tensor:
        total = torch.zeros((), device=module.device)
        for name, axes in self.kept.items():
            if name not in module.weights:
                continue
            value = module.places[name].get()
            for axis, indices in axes.items():
                gone = np.setdiff1d(np.arange(value.shape[axis]), np.asarray(indices, np.int64))
                if not len(gone):
                    continue
                slices = value.index_select(axis, torch.from_numpy(gone).to(value.device)).movedim(axis, 0)
                slices = slices.reshape(len(gone), -1)
                size = slices.shape[1] ** 0.5
                total = total + size * torch.sqrt(slices.square().sum(1) + 1e-12).sum()
        return self.weight * total
