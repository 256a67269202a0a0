"""Choosing boxes. Not differentiable: gradients flow past it, through the scores and boxes themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from onnxprune.recover.registry import op
from onnxprune.recover.step import Step, floats, ints


@op("NonMaxSuppression", settings=(2, 3, 4))
def non_max_suppression(
    step: Step,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    least: Tensor | None = None,
) -> Tensor:
    """boxes [N, B, 4], scores [N, C, B] -> [chosen, 3] of (image, class, box), best first within a class."""
    limit = ints(most)[0] if most is not None else 0
    threshold = floats(overlap)[0] if overlap is not None else 0.0
    floor = floats(least)[0] if least is not None else None
    corners = _corners(boxes.detach().double(), bool(step.attr("center_point_box", 0)))
    chosen: list[list[int]] = []
    for image in range(scores.shape[0]):
        shared = _overlaps(corners[image])
        for kind in range(scores.shape[1]):
            score = scores[image, kind].detach()
            order = torch.sort(score, dim=0, descending=True, stable=True).indices.tolist()
            kept: list[int] = []
            for box in order:
                if len(kept) >= limit:
                    break
                if floor is not None and float(score[box]) <= floor:
                    break
                if all(float(shared[box, other]) <= threshold for other in kept):
                    kept.append(box)
            chosen += [[image, kind, box] for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _corners(boxes: Tensor, centred: bool) -> Tensor:
    """[..., 4] as (y1, x1, y2, x2), smaller first."""
    if centred:  # x, y, width, height
        x, y, w, h = boxes.unbind(-1)
        return torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    one, two = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(one, two), torch.maximum(one, two)], -1)


def _overlaps(boxes: Tensor) -> Tensor:
    """Intersection over union of each with each."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    union = area[:, None] + area[None, :] - both
    return torch.where(union > 0, both / union, torch.zeros_like(both))
