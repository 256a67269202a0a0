"""The runner, with a command that stands for one that trains: killed in the middle, it goes on from its state."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest

from onnxprune.loop.folder import RunFolder
from onnxprune.loop.recipe import Recipe, Step
from onnxprune.loop.runner import Answer, Runner
from tests.support.extras import needs
from tests.support.planning import conv_chain

needs("filelock")


class Training:
    """Writes its state, and is cut short the first time; then goes on if told to."""

    def __init__(self, dense: Path) -> None:
        self.dense, self.calls = dense, 0
        self.resumed: list[bool] = []

    def __call__(self, arguments: Sequence[str], log: Path) -> Answer:
        self.calls += 1
        self.resumed.append("--resume" in arguments)
        (state,) = (Path(a.removeprefix("--checkpoints=")) for a in arguments if a.startswith("--checkpoints="))
        if self.calls == 1:
            state.mkdir()
            (state / "state.safetensors").write_bytes(b"half way")
            raise KeyboardInterrupt
        assert (state / "state.safetensors").read_bytes() == b"half way"
        shutil.copy(self.dense, arguments[arguments.index("-o") + 1])
        return Answer(0, {"output": arguments[arguments.index("-o") + 1]})


def test_a_step_that_keeps_its_state_goes_on(tmp_path: Path) -> None:
    dense = tmp_path / "net.onnx"
    onnx.save(conv_chain(), dense)
    recipe = Recipe(str(dense), (Step("recover", "makes", ("--epochs=2",), goes_on=True),))
    execute, folder = Training(dense), RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), folder.locked():
        Runner(folder, recipe, execute).run()
    assert [p.suffix for p in folder.path.glob("*recover*")] == [".state"]
    with folder.locked():
        outcome = Runner(folder, recipe, execute).run()
    assert execute.resumed == [False, True]
    assert outcome.model == folder.path / "01-recover" / "model.onnx"
    assert list(folder.path.glob(".*.state")) == []
    found = outcome.steps[0].step
    assert found["found"]["output"] == str(folder.path / "01-recover" / "model.onnx")
    assert not any("checkpoints" in part for part in found["command"])
