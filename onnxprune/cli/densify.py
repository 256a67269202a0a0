"""`onnxprune densify`: sparse initializers back into dense ones."""

from __future__ import annotations

from typing import cast

from onnxprune.cli.options import Common, ModelPath, Writing


def densify(model: ModelPath, writing: Writing, common: Common) -> None:
    """Turn sparse initializers back into dense ones.

    For consumers that do not know them, such as TensorRT. Values stay as they are.
    """
    from pathlib import Path

    from onnxprune.check import new_complaints
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import check_settings, check_targets
    from onnxprune.errors import SettingError
    from onnxprune.graph.io import load, save
    from onnxprune.graph.layout import Layout
    from onnxprune.graph.sparse import store_dense
    from onnxprune.runtime.ort import make_session

    here = Session(common)
    if writing.output is None:
        raise SettingError("no output is given", remedy="give -o OUT.onnx")
    check_settings(writing)
    loaded = load(model)
    check_targets(loaded, [writing.output])
    dense = loaded.copy()
    names = store_dense(dense)
    if not names:
        here.warn(f"{model} has no sparse initializers")

    def check(path: Path) -> None:
        new_complaints(loaded, path)
        make_session(path, here.options)

    saved = save(
        dense, writing.output, layout=cast("Layout", writing.layout), check=None if writing.no_verify else check
    )
    here.say_plain(f"{len(names)} initializers made dense")
    here.say_plain(f"wrote {saved.path}")
    here.answer({"output": str(saved.path), "densified": names})
