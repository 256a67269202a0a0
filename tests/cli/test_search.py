"""`search`: candidates are runs; serial and on a cluster the same front; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.commandline import Command, contents
from tests.support.extras import needs

needs("yaml", "filelock", "pydantic", "optuna", "distributed")

RECIPE = """\
model: net.onnx
defaults: {no-verify: true, threads: 1}
steps:
  - prune: {pruning-ratio: 0.25, round-to: 1}
  - validate: {data: data.npz, metric: agreement, max-drop: 0.35}
"""


@pytest.fixture
def folder(net: Path) -> Path:
    """`net.onnx`, data for it, and a recipe."""
    x = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    np.savez(net.with_name("data.npz"), **{onnx.load(net).graph.input[0].name: x})
    (net.parent / "net.yaml").write_text(RECIPE)
    return net.parent


def tried(ran: Any) -> list[tuple[dict[str, str], int]]:
    """Values and exit codes."""
    return [(trial["values"], trial["code"]) for trial in ran.json["trials"]]


def test_bisection(command: Command, folder: Path) -> None:
    search = ("search", "net.yaml", "--tune", "prune.pruning-ratio=0.1:0.9", "--minimise", "parameters", "--json")
    ran = command(*search, "--trials", "4")
    assert (ran.code, ran.err) == (0, "")
    assert [code for _, code in tried(ran)[:2]] == [0, 9]
    best = ran.json["best"]
    passed = [float(values["prune.pruning-ratio"]) for values, code in tried(ran) if code == 0]
    assert float(best["values"]["prune.pruning-ratio"]) == max(passed)
    place = folder / "net.search"
    assert (place / "model.onnx").read_bytes() == (Path(best["folder"]) / "model.onnx").read_bytes()
    assert json.loads((place / "search.json").read_text())["trials"] == ran.json["trials"]
    steps = {name: content for name, content in contents(place).items() if name.endswith("step.json")}
    again = command(*search, "--trials", "4")
    assert tried(again) == tried(ran)
    assert {n: c for n, c in contents(place).items() if n.endswith("step.json")} == steps  # nothing was done twice


def test_a_cluster_takes_the_same_way(command: Command, folder: Path) -> None:
    from distributed import LocalCluster

    search = (
        "search", "net.yaml", "--tune", "prune.pruning-ratio=0.05:0.3", "--tune", "prune.criterion=l1|l2",
        "--minimise", "macs", "--trials", "4", "--json",
    )  # fmt: skip
    serial = command(*search, "--folder", "serial")
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        spread = command(*search, "--folder", "spread", "--scheduler", cluster.scheduler_address)
    assert serial.code == spread.code == 0
    assert tried(serial) == tried(spread)
    assert [trial["values"] for trial in serial.json["front"]] == [trial["values"] for trial in spread.json["front"]]


def test_a_candidate_that_goes_wrong_is_one_trial(command: Command, folder: Path) -> None:
    ran = command(
        "search", "net.yaml", "--tune", "prune.criterion=l2|none", "--minimise", "macs", "--trials", "4", "--json"
    )
    assert ran.code == 0
    codes = {trial["values"]["prune.criterion"]: trial["code"] for trial in ran.json["trials"]}
    assert codes == {"l2": 0, "none": 2}
    assert any("none" in trial["error"] for trial in ran.json["trials"] if trial["code"])


def test_depth_zeros_and_precision_under_a_screen(command: Command, folder: Path) -> None:
    """What a step makes under the screen is not made again for the whole run."""
    (folder / "net.yaml").write_text(
        "model: net.onnx\ndefaults: {no-verify: true, threads: 1}\nsteps:\n"
        "  - prune: {pruning-ratio: 0.25, round-to: 1}\n"
        "  - sparsify: {pattern: '2:4'}\n"
        "  - quantize: {data: data.npz}\n"
        "  - validate: {data: data.npz, metric: agreement}\n"
    )
    ran = command(
        "search", "net.yaml", "--tune", "prune.pruning-ratio=0.1:0.5", "--tune", "sparsify.enabled=true|false",
        "--tune", "quantize.enabled=true|false", "--tune", "prune.drop-blocks=0|1", "--screen", "validate.samples=4",
        "--minimise", "bytes", "--trials", "3", "--json",
    )  # fmt: skip
    assert ran.code == 0
    trials = ran.json["trials"]
    assert all("no residual blocks" in t["error"] for t in trials if t["values"]["prune.drop-blocks"] == "1")
    whole = [trial for trial in trials if not trial["screened"]]
    assert whole
    for trial in whole:
        steps = json.loads((Path(trial["folder"]) / "result.json").read_text())["steps"]
        kinds = [step["kind"] for step in steps]
        assert ("sparsify" in kinds) == (trial["values"]["sparsify.enabled"] == "true")
        assert ("quantize" in kinds) == (trial["values"]["quantize.enabled"] == "true")
        assert trial["shares"]["bytes"] < 1.2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "there is nothing to search over"),
        (("--tune", "prune.max-macs=half"), "neither a range nor several choices"),
        (("--tune", "prune.max-mac=90%:20%"), "there is no setting of prune 'max-mac'"),
        (("--tune", "prune.max-macs=90%:20%", "--minimise", "size"), "--minimise size: unknown"),
        (("--tune", "prune.max-macs=90%:20%", "--scheduler", "tcp://127.0.0.1:1"), "no scheduler answers there"),
        (("--tune", "prune.max-macs=90%:20%", "--screen", "validate.samples=4"), "--screen is of use where several"),
        (("--tune", "prune.criterion=l1|l2", "--screen", "validate.sample=4"), "no setting of validate 'sample'"),
    ],
)
def test_bad_settings(command: Command, folder: Path, options: tuple[str, ...], said: str) -> None:
    ran = command("search", "net.yaml", *options)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_a_recipe_without_validation(command: Command, folder: Path) -> None:
    (folder / "net.yaml").write_text("model: net.onnx\nsteps: [prune]\n")
    assert "no validate step" in command("search", "net.yaml", "--tune", "prune.max-macs=90%:20%").err


def test_another_search_in_the_folder(command: Command, folder: Path) -> None:
    common = ("search", "net.yaml", "--minimise", "macs", "--trials", "2")
    assert command(*common, "--tune", "prune.pruning-ratio=0.1:0.2").code == 0
    ran = command(*common, "--tune", "prune.pruning-ratio=0.15:0.2")
    assert ran.code == 2
    assert "is the folder of another" in ran.err
