"""Images flipped and shifted at random, alike for the model and its teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_IMAGE_RANK = 4


def augmented(feeds: dict[str, Any], flip: bool, shift: int) -> dict[str, Any]:
    """The feeds with float inputs [N, C, H, W] mirrored with probability a half and moved by up to `shift` places.

    What is moved in at the border is zero. Draws from torch's own generator.
    """
    return {name: _image(value, flip, shift) if _is_image(value) else value for name, value in feeds.items()}


def _is_image(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == _IMAGE_RANK and value.dtype.kind == "f"


def _image(array: np.ndarray, flip: bool, shift: int) -> Tensor:
    x = torch.from_numpy(array)
    n, _, height, width = x.shape
    if flip:
        mirrored = torch.rand(n) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    if shift:
        rows = torch.randint(0, 2 * shift + 1, (n, 1)) + torch.arange(height)
        columns = torch.randint(0, 2 * shift + 1, (n, 1)) + torch.arange(width)
        wide = F.pad(x, (shift, shift, shift, shift))
        sample = torch.arange(n)[:, None, None]
        x = wide.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return x
