"""`sensitivity`: the table, the file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxprune.analyse import analyse
from onnxprune.graph.io import load
from onnxprune.loop.recorded import recorded
from tests.support.commandline import DIGITS, Command, contents

TEST = DIGITS.with_name("digits_test.npz")
COMMON = ("sensitivity", DIGITS, "--data", TEST, "--samples", "100", "--ratios", "0.5", "--no-cache")


def test_curves_of_a_metric(command: Command, tmp_path: Path) -> None:
    ran = command(*COMMON, "--scope", "channels", "-o", tmp_path / "curves.json", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = ran.json
    assert json.loads((tmp_path / "curves.json").read_text()) == found
    assert (found["metric"], found["dense"], found["samples"]) == ("top1", 1.0, 100)
    assert {group["kind"] for group in found["groups"]} == {"channels"}
    assert all(group["kept"] == [group["size"] // 2] for group in found["groups"])
    assert all(0 <= value <= 1 for group in found["groups"] for value in group["values"])


def test_without_labels_and_by_activations(command: Command) -> None:
    data = DIGITS.with_name("digits_calib.npz")
    ran = command(
        "sensitivity", DIGITS, "--data", data, "--samples", "32", "--ratios", "0.25,0.5", "--metric", "snr",
        "--criterion", "wanda", "--scope", "channels", "--no-cache",
    )  # fmt: skip
    assert ran.code == 0
    assert "snr by units kept of one group; inf whole, on 32 samples" in ran.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ratios", "half"), "--ratios half: not numbers"),
        (("--ratios", "1.5"), "1.5 is no share to remove"),
        (("--criterion", "none"), "none"),
        (("--only", "nothing*"), "nothing*"),
        (("-o", DIGITS), "is the input itself"),
    ],
)
def test_bad_settings(command: Command, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    ran = command(*COMMON, *options)
    assert ran.code in (2, 6)
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert contents(tmp_path) == {}


def test_repaired_curves_feed_the_planner(command: Command, tmp_path: Path) -> None:
    calibration = ("--calibration", DIGITS.with_name("digits_calib.npz"))
    measure = ("sensitivity", DIGITS, "--data", TEST, "--samples", "200", "--scope", "channels", "--no-cache")
    shares = ("--ratios", "0.25,0.5,0.75", "--metric", "kl")
    plain, repaired = (
        command(*measure, *shares, *calibration, *more, "-o", name, "--json").json
        for name, more in (("plain.json", ()), ("repaired.json", ("--repair",)))
    )
    worst = [[group["values"][-1] for group in found["groups"]] for found in (plain, repaired)]
    assert sum(after < before for before, after in zip(*worst, strict=True)) >= len(worst[0]) - 1
    assert (plain["repaired"], repaired["repaired"]) == (False, True)
    coupling = analyse(DIGITS)
    losses = recorded(tmp_path / "repaired.json", coupling, [])
    lost = []
    for by in (("--sensitivity", "repaired.json"), ("--ranking", "efficient"), ("--ranking", "local")):
        ran = command("plan", DIGITS, "--max-macs", "75%", "--scope", "channels", *by, "--json")
        assert (ran.code, ran.err) == (0, "")
        kept = {group["name"]: group["kept"] for group in ran.json["groups"]}
        lost.append(sum(losses[g.index][kept[g.name]] for g in coupling.groups if g.index in losses))
        assert ran.json["after"]["macs"] <= 0.75 * ran.json["before"]["macs"]
    assert lost[0] < min(lost[1:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pruning-ratio", "0.5"), "--sensitivity spends a limit, and there is none"),
        (("--max-macs", "75%", "--ranking", "global"), "--ranking global does not look at --sensitivity"),
        (("--max-macs", "75%", "--drop-blocks", "auto"), "--drop-blocks does not go with --sensitivity"),
        (("--max-macs", "75%", "--balanced"), "--balanced does not go with --sensitivity"),
        (("--max-macs", "75%"), "curves.json has no curve for "),
        (("--max-macs", "75%", "--sensitivity", "nowhere.json"), "nowhere.json cannot be read"),
        (("--max-macs", "75%", "--sensitivity", DIGITS), "cannot be read: it is no JSON"),
        (("--max-macs", "75%", "--sensitivity", "other.json"), "has the curves of another model"),
        (("--max-macs", "75%", "--sensitivity", "empty.json"), "holds no curves of schema 1"),
    ],
)
def test_curves_that_do_not_fit(command: Command, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    group = {"name": "blocks.0.conv1.weight:0", "kind": "channels", "size": 32, "kept": [16], "values": [0.5]}
    curves = {
        "schema": 1, "dense": 1.0, "higher_is_better": True, "criterion": "l2", "groups": [],
        "model_digest": load(DIGITS).digest,
    }  # fmt: skip
    (tmp_path / "curves.json").write_text(json.dumps(curves))
    (tmp_path / "other.json").write_text(json.dumps({**curves, "model_digest": "0", "groups": [group]}))
    (tmp_path / "empty.json").write_text("{}")
    ran = command("plan", DIGITS, "--sensitivity", "curves.json", *options)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert said in ran.err
