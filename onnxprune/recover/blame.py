"""Which layer first gave what is no number, once a loss did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from onnxprune.recover.module import OnnxModule


@torch.no_grad()
def first_failure(module: OnnxModule, feeds: Mapping[str, Any]) -> str:
    """A person's name for it: a weight that training broke, or the first node with such an output."""
    broken = broken_weight(module)
    if broken is not None:
        return broken
    names = [name for step in module.program.main for name in step.outputs if name]
    values = module.run(feeds, names)
    for step in module.program.main:
        for name in step.outputs:
            found = values.get(name)
            if isinstance(found, Tensor) and found.is_floating_point() and not bool(torch.isfinite(found).all()):
                return f"{step.title} gives what is no number first, in {name!r}"
    return "all layers are finite, so the loss itself is to blame"


def broken_weight(module: OnnxModule) -> str | None:
    """The first weight that is infinite or no number, and who reads it; None where all are finite."""
    for key, value in module.named_weights().items():
        if not bool(torch.isfinite(value).all()):
            readers = [step for step in module.program.main if key in step.inputs]
            at = f" of {readers[0].title}" if readers else ""
            return f"the weight {key!r}{at} is no longer finite"
    return None
