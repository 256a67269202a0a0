"""With --json, every command prints exactly one JSON object on standard output, whatever happens."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnxprune.graph.io import load
from tests.support.commandline import DIGITS, Command

COST = {"parameters", "macs"}


def test_inspect(command: Command, net: Path) -> None:
    found = command("inspect", net, "--json").json
    assert found["model"] == str(net)
    assert found["digest"] == load(net).digest
    assert (found["nodes"], found["opsets"]) == (5, {"": 17})
    assert (found["dense"], found["least"]) == ({"parameters": 688, "macs": 44032}, {"parameters": 9, "macs": 576})
    assert found["input_shapes"] == {"x": [1, 3, 8, 8]}
    first = found["groups"][0]
    assert (first["name"], first["size"], first["kind"], first["exact"]) == ("w0:0", 32, "channels", True)
    assert (first["parameters"], first["macs"]) == (3 + 16, 64 * (3 + 16))
    assert first["axes"] == ["c0:1", "r0:1", "w0:0", "w1:1"]
    assert first["nodes"] == ["conv0", "relu0", "conv1"]
    frozen = {(item["tensor"], item["axis"]): item for item in found["refusals"]}
    assert frozen["head", 0]["why"].startswith("an output of the model")
    assert "--allow-io-change" in frozen["head", 0]["help"]


def test_plan(command: Command, net: Path) -> None:
    found = command("plan", net, "--pruning-ratio", "0.5", "--json").json
    assert found["plan"] == str(net.with_name("net.prune.json"))
    assert found["model_digest"] == load(net).digest
    assert found["before"] == {"parameters": 688, "macs": 44032}
    assert found["after"] == {"parameters": 48 + 128 + 40, "macs": 64 * (48 + 128 + 40)}
    assert [(g["name"], g["kind"], g["kept"], g["size"]) for g in found["groups"]] == [
        ("w0:0", "channels", 16, 32),
        ("w1:0", "channels", 8, 16),
    ]
    assert all(0 < group["importance_lost"] < 0.5 for group in found["groups"])  # the least important go


def test_apply_and_prune(command: Command, net: Path) -> None:
    pruned = command("prune", net, "-o", "a.onnx", "--pruning-ratio", "0.5", "--json").json
    applied = command("apply", net, "a.prune.json", "-o", "b.onnx", "--json").json
    assert (pruned["plan"], pruned["output"]) == ("a.prune.json", "a.onnx")
    assert (applied["plan"], applied["output"]) == ("a.prune.json", "b.onnx")
    for found in (pruned, applied):
        assert found["after"] == {"parameters": 216, "macs": 13824}
        assert found["bytes"] == {"before": net.stat().st_size, "after": Path("a.onnx").stat().st_size}
        assert found["nodes"] == {"before": 5, "after": 5, "untouched": 5}
        assert found["verified"] == {
            "providers": ["CPUExecutionProvider"], "ran": True, "outputs": {"y": [1, 5, 8, 8]}, "measured": 0,
        }  # fmt: skip
        assert (found["data_files"], found["notes"]) == ([], [])


def test_dry_run(command: Command, net: Path) -> None:
    found = command("prune", net, "--pruning-ratio", "0.5", "--dry-run", "--json").json
    assert (found["plan"], found["output"]) == (None, None)
    assert set(found["after"]) == COST


def test_doctor(command: Command) -> None:
    found = command("doctor", "--json").json
    versions = {package["name"]: package["version"] for package in found["packages"]}
    assert versions["onnx"] == onnx.__version__
    assert found["providers"]["CPUExecutionProvider"] is None
    assert "AzureExecutionProvider" not in found["providers"]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("inspect", "none.onnx"), 3, "none.onnx"),
        (("plan", "none.onnx", "--pruning-ratio", "0.5"), 3, "none.onnx"),
        (("plan", DIGITS), 2, "no budget"),
        (("plan", DIGITS, "--max-macs", "0.01%", "-o", "a.prune.json"), 4, "remain"),
        (("apply", DIGITS, "none.prune.json", "-o", "a.onnx"), 5, "none.prune.json"),
        (("prune", DIGITS, "-o", DIGITS, "--pruning-ratio", "0.5"), 6, "is the input itself"),
        (("prune", DIGITS, "-o", "a.onnx", "--pruning-ratio", "x"), 2, "--pruning-ratio"),
        (("doctor", "--provider", "none"), 2, "none"),
        (("doctor", "--no-such-option"), 2, "--no-such-option"),
        (("no-such-command",), 2, "no-such-command"),
        ((), 2, "--json"),
    ],
)
def test_errors(command: Command, arguments: tuple[object, ...], code: int, word: str) -> None:
    ran = command(*arguments, "--json")
    assert ran.code == code
    found = ran.json
    assert set(found) == {"error", "remedy", "exit_code"}
    assert found["exit_code"] == code
    assert word in found["error"]
    assert ran.err.startswith("onnxprune: ")
    assert ran.err.count("\n") == 1
