"""Where a module keeps a tensor of a given ONNX name: in nested modules, so that `state_dict` has the name itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Place:
    """A tensor's module and the attribute it has there; `path` is its key in the state dict."""

    module: nn.Module
    attribute: str
    path: str

    def get(self) -> torch.Tensor:
        """The tensor as it is computed with: through its parametrisations, if it has any."""
        found = self.module._parameters.get(self.attribute)
        return found if found is not None else getattr(self.module, self.attribute)


def put(root: nn.Module, name: str, tensor: torch.Tensor, *, persistent: bool = True) -> Place:
    """Keep a Parameter or buffer under its ONNX name, dots being levels.

    A level that torch cannot have (an empty one, or the name of one of a module's own attributes) gets an underscore
    behind it.
    """
    *levels, leaf = name.split(".")
    module, path = root, []
    for level in levels:
        level = _free(module, level, wanted=module._modules)
        if level not in module._modules:
            module.add_module(level, nn.Module())
        module = module._modules[level] or module
        path.append(level)
    leaf = _free(module, leaf, wanted={})
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(leaf, tensor)
    else:
        module.register_buffer(leaf, tensor, persistent=persistent)
    return Place(module, leaf, ".".join([*path, leaf]))


def _free(module: nn.Module, level: str, wanted: object) -> str:
    """`level` if torch can have it here, else with underscores."""
    taken = level in wanted if isinstance(wanted, dict) else False
    while not taken and (not level or hasattr(module, level) or hasattr(nn.ModuleDict, level)):
        level += "_"
        taken = level in wanted if isinstance(wanted, dict) else False
    return level
