"""`sensitivity`: the table, the file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
