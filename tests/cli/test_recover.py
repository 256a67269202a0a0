"""`onnxprune recover`: prune, train, write; and what is wrong with what it is given."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest

from onnxprune.cli import training
from onnxprune.cli.app import run
from onnxprune.recover.settings import OPTIMISERS, PRECISIONS, RENORMS
from onnxprune.recover.sparse import COURSES
from tests.support.commandline import Command, Ran
from tests.support.learning import classifier, write_points

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model that knows the points, and beside it the data and a pruned model that does not any more."""
    folder = tmp_path_factory.mktemp("models")
    onnx.save(classifier(), folder / "raw.onnx")
    write_points(folder / "data.npz")
    write_points(folder / "free.npz", labelled=False)
    raw, dense, data = (str(folder / name) for name in ("raw.onnx", "dense.onnx", "data.npz"))
    assert run(["recover", raw, "-o", dense, "--data", data, "--lr", "0.02", "--batch", "24", "-q"]) == 0
    small = str(folder / "small.onnx")
    assert run(["prune", dense, "-o", small, "--pruning-ratio", "0.75", "--round-to", "1", "-q"]) == 0
    return folder


@pytest.fixture
def trained(models: Path, tmp_path: Path) -> Path:
    """Copies of these, where commands run."""
    for path in models.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def recover(command: Command, *more: object) -> Ran:
    return command("recover", "small.onnx", "-o", "out.onnx", "--lr", 0.02, "--batch", 24, *more)


def test_labels_and_teacher(command: Command, trained: Path) -> None:
    ran = recover(
        command, "--data", "data.npz", "--teacher", "dense.onnx", "--features", 0.1, "--layerwise", 5, "--log",
        "log.csv", "--tensorboard", "events", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["metric"] >= ran.json["before"]
    assert ran.json["settings"]["features"] == 0.1
    assert ran.json["settings"]["optimiser"] == "adamw"  # chosen, as there are no convolutions
    assert not (trained / "out.onnx.recover").exists()
    rows = list(csv.DictReader((trained / "log.csv").open()))
    assert [row["epoch"] for row in rows if row["epoch"]] == ["0", "1", "2", "3"]
    assert list((trained / "events").iterdir())
    small, out = (onnx.load(trained / name) for name in ("small.onnx", "out.onnx"))
    assert [n.SerializeToString() for n in small.graph.node] == [n.SerializeToString() for n in out.graph.node]


def test_without_labels(command: Command, trained: Path) -> None:
    ran = recover(command, "--data", "free.npz", "--teacher", "dense.onnx", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["metric"] >= max(ran.json["before"], 0.85)  # agreement with the teacher, on 24 points
    assert ran.json["history"][-1]["loss"] < ran.json["history"][1]["loss"]


def test_any_metric_judges(command: Command, trained: Path) -> None:
    (trained / "mine.py").write_text(
        "import numpy as np\n\n\ndef wrong(outputs, labels):\n    return (outputs.argmax(1) != labels).astype(float)\n"
    )
    script = ("--metric", "mine.py:wrong", "--lower-is-better")
    found = {}
    for name, chosen in {"top1": (), "f1": ("--metric", "f1"), "mine.py:wrong": script}.items():
        ran = recover(command, "--data", "data.npz", "--teacher", "dense.onnx", *chosen, "--json")
        assert ran.code == 0, ran.err
        assert ran.json["judged_by"] == name
        found[name] = ran.json
    best = found["mine.py:wrong"]["metric"]
    assert best == min(row["metric"] for row in found["mine.py:wrong"]["history"])
    assert best == pytest.approx(1 - found["top1"]["metric"])


def test_a_run_goes_on_only_as_it_began(command: Command, trained: Path) -> None:
    kept = ("--data", "data.npz", "--checkpoints", "state", "--epochs", 1)
    assert recover(command, *kept, "--zeros", "2:4").code == 0
    assert recover(command, *kept, "--zeros", "2:4", "--resume").code == 0
    for what, changed in {"zeros": (), "metric": ("--zeros", "2:4", "--metric", "f1")}.items():
        ran = recover(command, *kept, *changed, "--resume")
        assert ran.code == 2
        assert f"state.safetensors is of another {what}. resume with what it was started with" in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_full_disk(command: Command, trained: Path) -> None:
    ran = recover(command, "--data", "data.npz", "--log", "/dev/full")
    assert ran.code == 6
    assert ran.err == "onnxprune: cannot write /dev/full: No space left on device. free some space\n"


def test_iterative_pruning_is_prune_and_recover_in_turn(command: Command, trained: Path) -> None:
    source = "dense.onnx"
    for step, ratio in enumerate((0.3, 0.3)):
        smaller, better = f"step{step}.onnx", f"better{step}.onnx"
        prune = ("--pruning-ratio", ratio, "--round-to", 1, "--criterion", "taylor", "--data", "data.npz")
        ran = command("prune", source, "-o", smaller, *prune)
        assert ran.code == 0, ran.err
        assert "gradients computed on 240 samples of data.npz, with their labels" in ran.out
        ran = command("recover", smaller, "-o", better, "--data", "data.npz", "--teacher", "dense.onnx", "--lr", 0.02)
        assert ran.code == 0, ran.err
        source = better
    widths = [t.dims[1] for t in onnx.load(trained / source).graph.initializer if t.name == "w0"]
    assert widths == [8]


def test_sparse_learning_shrinks_what_goes(command: Command, trained: Path) -> None:
    assert command("plan", "dense.onnx", "-o", "half.prune.json", "--pruning-ratio", 0.5, "--round-to", 1).code == 0
    ran = command(
        "recover", "dense.onnx", "-o", "pushed.onnx", "--data", "data.npz", "--lasso", 0.2, "--lasso-plan",
        "half.prune.json", "--lr", 0.02, "--epochs", 4, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    applied = []
    for name in ("dense", "pushed"):
        weight = next(t for t in onnx.load(trained / f"{name}.onnx").graph.initializer if t.name == "w1")
        applied.append(np.sort(np.linalg.norm(onnx.numpy_helper.to_array(weight), axis=0))[:8].sum())
    assert applied[1] < applied[0]


@pytest.mark.parametrize(("keep", "row"), [("best", 0), ("last", -1)])
def test_which_weights_are_written(command: Command, trained: Path, keep: str, row: int) -> None:
    rates = ("--lr", 30, "--optimiser", "sgd", "--clip", 0)  # from which no model comes back
    ran = command("recover", "dense.onnx", "-o", "out.onnx", "--data", "data.npz", *rates, "--keep", keep, "--json")
    assert ran.code == 0, ran.err
    metrics = [epoch["metric"] for epoch in ran.json["history"]]
    assert metrics[-1] < metrics[0]
    assert ran.json["metric"] == metrics[row]
    is_same = [
        np.array_equal(*map(onnx.numpy_helper.to_array, pair))
        for pair in zip(
            *(onnx.load(trained / f"{name}.onnx").graph.initializer for name in ("dense", "out")), strict=True
        )
    ]
    assert all(is_same) == (keep == "best")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ((), 2, "no data is given. give --data DATA"),
        (("--data", "free.npz"), 2, "there is nothing to learn from: no labels, no teacher. give --teacher DENSE"),
        (("--data", "data.npz", "--optimiser", "lion"), 2, "'lion' is not one of 'adamw', 'adam'"),
        (("--data", "data.npz", "--renorm", "on"), 2, "--renorm on: small.onnx has no convolution"),
        (("--data", "data.npz", "--loss", "hinge"), 2, "--loss hinge: unknown. give cross_entropy, mse or script.py"),
        (("--data", "data.npz", "--zeros", "5:4"), 2, "--zeros 5:4: unknown"),
        (("--data", "data.npz", "--zeros-course", "fast"), 2, "'fast' is not one of 'oneshot'"),
        (("--data", "data.npz", "--features", 1), 2, "--features and --layerwise need a teacher"),
        (("--data", "data.npz", "--valid-share", 1), 2, "--valid-share is 1.0. it is between 0 and 1"),
        (("--data", "data.npz", "--keep", "first"), 2, "'first' is not one of 'best', 'last'"),
        (("--data", "data.npz", "--lasso", 1), 2, "--lasso needs to know which units"),
        (("--data", "data.npz", "--metric", "top2"), 2, "--metric top2: there is no such metric"),
        (("--data", "data.npz", "--metric", "snr"), 2, "--metric snr compares with the dense model. give --teacher"),
        (("--data", "data.npz", "--checkpoints", "data.npz"), 6, "cannot make the folder data.npz of checkpoints"),
        (("--data", "data.npz", "--layerwise-lr", 0), 2, "--layerwise-lr is 0.0. it is more than 0"),
        (("--data", "data.npz", "--freeze", "z*"), 2, "--freeze z*: no weight is called so"),
        (("--data", "data.npz", "--resume"), 2, "--resume: there is no out.onnx.recover/state.safetensors"),
        (("--data", "data.npz", "--teacher", "none.onnx"), 3, "cannot read none.onnx"),
        (("--data", "wrong.npz",), 2, "the label 7 is no class: 'y' has 3, numbered from 0"),
    ],
)  # fmt: skip
def test_bad_input(command: Command, tmp_path: Path, arguments: tuple[object, ...], code: int, line: str) -> None:
    onnx.save(classifier(), tmp_path / "small.onnx")
    write_points(tmp_path / "data.npz")
    write_points(tmp_path / "free.npz", labelled=False)
    np.savez(tmp_path / "wrong.npz", x=np.zeros((30, 6), np.float32), labels=np.full(30, 7))
    ran = recover(command, *arguments)
    assert (ran.code, ran.out) == (code, "" if "7" not in line else ran.out)
    assert line in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_without_an_output(command: Command, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "small.onnx")
    assert (
        command("recover", "small.onnx", "--data", "x.npz").err == "onnxprune: no output is given. give -o OUT.onnx\n"
    )


def test_the_command_line_offers_what_training_knows() -> None:
    assert get_args(training.Optimiser) == OPTIMISERS
    assert get_args(training.Renorm) == RENORMS
    assert get_args(training.Precision) == PRECISIONS
    assert get_args(training.ZerosCourse) == COURSES
