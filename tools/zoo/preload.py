"""What the fork server imports once, so that an export of a second does not wait eight for its imports."""

from __future__ import annotations

import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401

from zoo.torchvision_shim import import_torchvision

import_torchvision()

import timm  # noqa: E402, F401  after torchvision, which it imports
import transformers  # noqa: E402, F401
