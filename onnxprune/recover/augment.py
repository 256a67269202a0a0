"""Images changed at random, alike for the model and its teacher: mirrored, moved, enlarged, mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onnxprune.errors import SettingError
from onnxprune.recover.settings import Settings

_IMAGE_RANK = 4


@dataclass(frozen=True)
class Augment:
    """What happens to float inputs [N, C, H, W], all draws from torch's own generator.

    `flip` mirrors half of them. `zoom` cuts a part out of each, whose sides are a share of its sides from `zoom` to 1,
    and enlarges it to the whole size, bilinearly. `shift` moves by up to so many places; what is moved in is zero.
    """

    flip: bool = False
    shift: int = 0
    zoom: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> Augment | None:
        """As set; None where images stay as they are."""
        found = cls(settings.flip, settings.shift, settings.zoom)
        return None if found == cls() else found

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The feeds with changed images."""
        return {name: self._image(torch.as_tensor(x)) if _is_image(x) else x for name, x in feeds.items()}

    def _image(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        if self.flip:
            mirrored = torch.rand(n) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        if self.zoom < 1:
            share = self.zoom + (1 - self.zoom) * torch.rand(n)
            middle = (torch.rand(n, 2) * 2 - 1) * (1 - share[:, None])  # the whole image is from -1 to 1
            turn = torch.zeros(n, 2, 3)
            turn[:, 0, 0], turn[:, 1, 1], turn[:, :, 2] = share, share, middle
            grid = F.affine_grid(turn, list(x.shape), align_corners=False)
            x = F.grid_sample(x.float(), grid, padding_mode="border", align_corners=False).to(x.dtype)
        if self.shift:
            rows = torch.randint(0, 2 * self.shift + 1, (n, 1)) + torch.arange(height)
            columns = torch.randint(0, 2 * self.shift + 1, (n, 1)) + torch.arange(width)
            wide = F.pad(x, (self.shift,) * 4)
            sample = torch.arange(n)[:, None, None]
            x = wide.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        return x


def _is_image(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == _IMAGE_RANK and value.dtype.kind == "f"


def drawn_share(alpha: float) -> float:
    """How much of itself each sample keeps in a mixture: from Beta(alpha, alpha)."""
    return float(torch.distributions.Beta(alpha, alpha).sample())


def mixed(feeds: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Every sample with that share of itself, the rest of its counterpart from the batch's other end.

    Zhang et al., "mixup", ICLR 2018, arXiv:1710.09412; that a teacher teaches between its images, too: Beyer et al.,
    "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022, arXiv:2106.05237. Raises SettingError
    for inputs that are no floats.
    """
    found = {}
    for name, value in feeds.items():
        x = torch.as_tensor(value)
        if not x.is_floating_point() or not x.ndim:
            raise SettingError(f"--mixup: the input {name!r} has no numbers that could be mixed", remedy="leave it out")
        found[name] = share * x + (1 - share) * x.flip(0)
    return found
