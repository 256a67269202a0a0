"""Imports torchvision beside a torch build that its compiled part does not fit.

PyPI's torchvision is compiled against the CUDA build of torch. Beside a CPU torch its extension does not
load, and `import torchvision` stops at `operator torchvision::nms does not exist`, because it registers
shape functions for operators that the extension would have defined. Declaring those operators first is
enough: models, and detection heads without their NMS, are plain torch.
"""

from __future__ import annotations

from types import ModuleType

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# A Library takes its definitions with it when it is collected, so it must live as long as the process.
_keep_alive: list[object] = []


def import_torchvision() -> ModuleType:
    """torchvision, with the operators declared that a failed extension leaves undefined."""
    import torch

    if not _keep_alive:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + _NMS)
        _keep_alive.append(library)
    import torchvision

    return torchvision
