"""Torch-Pruning on one architecture, from its torch source.

Settings are the defaults of its README: BasePruner, group L2 magnitude, the layers that write the model's
output ignored. A run counts when the pruned model's forward pass works.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from zoo.catalogue import catalogue
from zoo.entry import Entry
from zoo.export import last_line, outputs_of, prepare
from zoo.limits import TimeIsUp, processor_seconds


def ignored_layers(entry: Entry, model: nn.Module, outputs: Sequence[Tensor]) -> list[nn.Module]:
    """What its README calls the final classifier, and its detection examples the head."""
    if entry.family == "detection":
        return [module for name, module in model.named_modules() if name == "head"]
    sizes = {o.shape[-1] for o in outputs} | {o.shape[1] for o in outputs if o.dim() > 2}
    return [
        module
        for module in model.modules()
        if (isinstance(module, nn.Linear) and module.out_features in sizes)
        or (isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.out_channels in sizes)
    ]


def prune(name: str, ratio: float, limit: float) -> dict[str, Any]:
    import torch_pruning

    warnings.filterwarnings("ignore")
    entry = next(e for e in catalogue() if e.name == name)
    model, args = prepare(entry)
    with torch.no_grad():
        dense = outputs_of(model(*args))
    before = sum(p.numel() for p in model.parameters())
    started = time.process_time()
    try:
        with processor_seconds(limit):
            pruner = torch_pruning.pruner.BasePruner(
                model,
                args,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=ignored_layers(entry, model, dense),
            )
            pruner.step()
            spent = time.process_time() - started
            with torch.no_grad():
                pruned = outputs_of(model(*args))
    except TimeIsUp:
        return {"status": "timeout", "seconds": limit}
    # Whatever the peer raises is its result.
    except Exception as error:  # noqa: BLE001
        return {"status": "fail", "why": f"{type(error).__name__}: {last_line(str(error))}"}
    return {
        "status": "run",
        "seconds": round(spent, 2),
        "share": sum(p.numel() for p in model.parameters()) / before,
        "output_shapes_kept": [o.shape for o in pruned] == [o.shape for o in dense],
    }
