"""Recovery: a model as a trainable torch module, and its weights back into the same file.

    from onnxprune.recover import to_torch, write_back

    module = to_torch("pruned.onnx")            # parameters by initializer name
    ...                                         # train it
    onnxprune.save(write_back(module, "pruned.onnx"), "recovered.onnx")

This package alone imports torch; importing it raises RuntimeMissingError where torch is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from onnxprune.errors import RuntimeMissingError

if find_spec("torch") is None:
    raise RuntimeMissingError("torch is not installed", remedy="Install it with `pip install onnxprune[recover]`.")

from onnxprune.recover.module import OnnxModule as OnnxModule
from onnxprune.recover.module import to_torch as to_torch
from onnxprune.recover.writing import write_back as write_back
