"""One file optimised by ONNX Runtime: `python -m zoo.optimise FILE OUT KIND...`, in a process of its own.

Writes OUT/NAME.KIND.onnx for each kind and prints one JSON object, the outcome by kind ("written", or why not).
What comes out is loaded once more: the transformer optimiser does write files that ONNX Runtime then refuses.
"""

from __future__ import annotations

import json
import os
import sys
from fnmatch import fnmatch
from pathlib import Path

import onnxruntime
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

KINDS = ("basic", "extended", "attention", "mha")
LEVELS = {
    "basic": GraphOptimizationLevel.ORT_ENABLE_BASIC,
    # EXTENDED is before the layout transforms of ALL, which are for the machine that does them
    "extended": GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}
MODEL_TYPES = {
    "*bert*": "bert", "electra*": "bert", "mpnet*": "bert", "wav2vec2*": "bert", "hubert*": "bert", "ast*": "vit",
    "gpt_neox*": "gpt_neox", "gpt2*": "gpt2", "opt*": "gpt2", "bloom*": "gpt2", "llama*": "gpt2", "mistral*": "gpt2",
    "qwen*": "gpt2", "gemma*": "gpt2", "phi3*": "gpt2", "t5*": "t5", "whisper*": "bart", "clip*": "clip",
    "swin*": "swin", "*vit_*": "vit", "deit*": "vit", "beit*": "vit", "*transformer*": "bert", "segformer*": "vit",
}  # fmt: skip
"""By file name, the first that fits: what the transformer optimiser calls its kind. Others have nothing to fuse."""


def model_type(path: Path) -> str | None:
    return next((kind for pattern, kind in MODEL_TYPES.items() if fnmatch(path.name, pattern)), None)


def options(level: GraphOptimizationLevel) -> SessionOptions:
    found = SessionOptions()
    found.graph_optimization_level = level
    found.intra_op_num_threads = 1
    found.log_severity_level = 4
    return found


def optimise(path: Path, target: Path, kind: str) -> None:
    """Write `path` as `kind` makes it to `target`."""
    if kind in LEVELS:
        settings = options(LEVELS[kind])
        settings.optimized_model_filepath = str(target)
        InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        return
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    named = model_type(path) or "bert"
    fusion = FusionOptions(named)
    fusion.use_multi_head_attention = kind == "mha"
    optimize_model(str(path), named, 0, 0, fusion).save_model_to_file(str(target))
    InferenceSession(target, options(GraphOptimizationLevel.ORT_DISABLE_ALL), providers=["CPUExecutionProvider"])


def main() -> None:
    path, out = Path(sys.argv[1]), Path(sys.argv[2])
    onnxruntime.set_default_logger_severity(4)
    outcome = {}
    for kind in sys.argv[3:]:
        target = out / f"{path.name.removesuffix('.onnx')}.{kind}.onnx"
        unfinished = target.with_name(f".{target.name}")
        try:
            optimise(path, unfinished, kind)
            os.replace(unfinished, target)
            outcome[kind] = "written"
        except Exception as error:  # noqa: BLE001 - whatever the optimiser raises is the outcome
            unfinished.unlink(missing_ok=True)
            outcome[kind] = f"{type(error).__name__}: {error}"[:400]
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
