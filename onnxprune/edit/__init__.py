"""Apply a plan to a model."""

from onnxprune.edit.apply import Edited, apply, carry, edit
from onnxprune.edit.rearrange import rearrange

__all__ = ["Edited", "apply", "carry", "edit", "rearrange"]
