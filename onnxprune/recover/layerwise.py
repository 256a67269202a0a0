"""Reconstruction before training: one stretch of the graph after the other learns to give the teacher's values.

What lies between two intermediate values is trained alone, on what the pruned model feeds it, so that errors of earlier
stretches are made good by later ones (Li et al., "BRECQ", ICLR 2021, arXiv:2102.05426, does the same for quantisation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from onnxprune.recover.features import Feature, feature_loss
from onnxprune.recover.masks import original
from onnxprune.recover.module import OnnxModule
from onnxprune.recover.teacher import Teacher

Samples = Callable[[int], Iterator[tuple[dict[str, Any], Any]]]
"""Batches of feeds and sample numbers without end, in an order that follows from a seed."""


def reconstruct(
    module: OnnxModule, teacher: Teacher, features: Sequence[Feature], samples: Samples, steps: int, rate: float,
    seed: int = 0, told: Callable[[int, int], None] | None = None,
) -> list[float]:  # fmt: skip
    """Train stretch by stretch for `steps` steps each; gives the last relative error at each value.

    Running statistics stay: the module is in evaluation mode meanwhile.
    """
    module.eval()
    done: set[str] = set()
    errors = []
    for number, feature in enumerate(features):
        reached = _weights_before(module, feature.name)
        own = [key for key in module.weights if key in reached - done and module.places[key].get().requires_grad]
        done |= reached
        if not own:
            continue
        optimiser = torch.optim.Adam([original(module.places[key]) for key in own], rate)
        loss = torch.zeros(())
        for step, (feeds, _) in enumerate(samples(seed + number)):
            if step >= steps:
                break
            with torch.no_grad():
                theirs = teacher.module.run(feeds, [feature.name])
            mine = module.run(feeds, [feature.name])
            loss = feature_loss([feature], mine, theirs)
            if not loss.requires_grad:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        module.zero_grad()
        errors.append(float(loss.detach()))
        if told is not None:
            told(number + 1, len(features))
    return errors


def _weights_before(module: OnnxModule, name: str) -> set[str]:
    """Weights that a value follows from."""
    makers = {output: step for step in module.program.main for output in step.outputs if output}
    found: set[str] = set()
    seen: set[str] = set()
    stack = [name]
    while stack:
        key = stack.pop()
        if key in seen:
            continue
        seen.add(key)
        if key in module.weights:
            found.add(key)
        if key in makers:
            stack += [value for value in makers[key].inputs if value]
    return found
