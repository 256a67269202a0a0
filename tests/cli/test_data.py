"""Criteria that look at activations, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from tests.support.commandline import DIGITS, Command, contents, script
from tests.support.models import make_model

CALIBRATION = DIGITS.with_name("digits_calib.npz")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXPRUNE_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def prune(command: Command, *options: object, model: Path = DIGITS):
    return command("prune", model, "-o", "out.onnx", "--pruning-ratio", "0.5", "--round-to", 1, "--no-verify", *options)


@pytest.mark.parametrize("criterion", ["apoz", "mean_abs", "wanda", "flap"])
def test_a_trained_model_is_pruned_by_its_activations(command: Command, tmp_path: Path, criterion: str) -> None:
    ran = prune(command, "--criterion", criterion, "--data", CALIBRATION, "--samples", 100)
    assert (ran.code, ran.err) == (0, "")
    assert f"activations measured on 100 samples of {CALIBRATION}" in ran.out
    settings = json.loads((tmp_path / "out.prune.json").read_text())["settings"]
    assert settings["criterion"] == criterion
    statistics = settings["data"]["statistics"]
    assert (statistics["samples"], statistics["synthetic"], statistics["seed"]) == (100, False, 0)
    assert len(statistics["data_sha256"]) == 64


def test_the_same_again_is_the_same_file_with_and_without_the_cache(
    command: Command, tmp_path: Path, cache: Path
) -> None:
    options = ("--criterion", "wanda", "--data", CALIBRATION, "--samples", 64, "--seed", 5)
    found = []
    for more in ((), (), ("--no-cache",)):
        assert prune(command, *options, *more).code == 0
        found.append((tmp_path / "out.onnx").read_bytes() + (tmp_path / "out.prune.json").read_bytes())
        (tmp_path / "out.onnx").unlink()
    assert found[0] == found[1] == found[2]
    assert len(contents(cache)) == 1


def test_the_cache_may_lie_elsewhere_or_nowhere(command: Command, tmp_path: Path, cache: Path) -> None:
    options = ("--criterion", "wanda", "--data", CALIBRATION, "--samples", 8)
    assert prune(command, *options, "--no-cache").code == 0
    assert not cache.exists()
    (tmp_path / "out.onnx").unlink()
    assert prune(command, *options, "--cache-dir", tmp_path / "mine").code == 0
    assert not cache.exists()
    assert len(contents(tmp_path / "mine")) == 1


def test_without_data_made_up_inputs_are_said(command: Command) -> None:
    ran = command("plan", DIGITS, "--pruning-ratio", "0.5", "--criterion", "wanda")
    assert ran.code == 0
    assert "no data is given: statistics are those of made-up inputs" in ran.err
    assert "activations measured on 32 samples of made-up inputs, as no --data was given" in ran.out


def test_json_tells_of_the_data(command: Command) -> None:
    options = ("--pruning-ratio", "0.5", "--criterion", "flap", "--data", CALIBRATION, "--samples", 50, "--json")
    ran = command("plan", DIGITS, *options)
    assert ran.json["data"]["statistics"]["samples"] == 50
    assert ran.json["data"]["statistics"]["origin"] == str(CALIBRATION)
    assert "data" not in command("plan", DIGITS, "--pruning-ratio", "0.5", "--json").json


def test_data_that_is_not_needed_is_said_and_checked(command: Command, tmp_path: Path) -> None:
    ran = command("plan", DIGITS, "--pruning-ratio", "0.5", "--data", CALIBRATION)
    assert ran.code == 0
    assert "--data is not used to choose: the criterion l2 looks at the weights alone" in ran.err
    assert command("plan", DIGITS, "--pruning-ratio", "0.5", "--data", "missing.npz").code == 2


def test_a_folder_of_images(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "digits" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 30), np.uint8)).save(folder / f"{number}.png")
    how = "unit,color=L,size=8,crop=8"
    ran = prune(command, "--criterion", "apoz", "--data", tmp_path / "digits", "--preprocess", how)
    assert ran.code == 0, ran.err
    assert "activations measured on 8 samples" in ran.out


def test_a_script(command: Command, tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    for k in range(4):\n"
        "        yield {'image': np.full((3, 1, 8, 8), k / 4, np.float32)}\n"
    )
    ran = prune(command, "--criterion", "mean_abs", "--data", "loader.py:batches", "--samples", 10)
    assert (ran.code, ran.err) == (0, "")
    assert "activations measured on 10 samples of loader.py:batches" in ran.out


def test_ranking_and_aggregation(command: Command, tmp_path: Path) -> None:
    options = ("--ranking", "isomorphic", "--aggregate", "max", "--normalise", "none", "--criterion", "l1")
    assert command("plan", DIGITS, "--pruning-ratio", "0.5", "-o", "a.prune.json", *options).code == 0
    settings = json.loads((tmp_path / "a.prune.json").read_text())["settings"]
    names = ("criterion", "ranking", "aggregate", "normalise")
    assert [settings[name] for name in names] == ["l1", "isomorphic", "max", "none"]


def test_batch_norm_scales_of_the_quickstart(command: Command) -> None:
    ran = command("plan", DIGITS, "--pruning-ratio", "0.5", "--criterion", "bn_scale")
    assert ran.code == 0
    assert "bn_scale leaves groups whole" in ran.err
    assert "no BatchNormalization scales its units" in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--criterion", "wanda", "--data", "none.npz"), "--data none.npz: there is no such file"),
        (("--criterion", "wanda", "--data", "wrong.npz"), "nothing for the input 'image' (it has 'x')"),
        (("--criterion", "wanda", "--data", "nan.npz"), "give NaN in the tensor 'image'"),
        (("--criterion", "wanda", "--data", "right.npz", "--preprocess", "unit"), "--preprocess is for images"),
        (("--criterion", "wanda", "--preprocess", "unit"), "--preprocess says how images are read, and there are none"),
        (("--criterion", "wanda", "--data", "right.npz", "--mask-input", "m"), "--mask-input: there is no input 'm'"),
        (("--criterion", "wanda", "--data", "right.npz", "--samples", "0"), "--samples"),
        (("--aggregate", "median"), "there is no aggregation 'median'"),
        (("--normalise", "max"), "there is no normalisation 'max'"),
        (("--ranking", "alike"), "there is no ranking 'alike'"),
    ],
)
def test_bad_input(command: Command, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    images = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    np.savez(tmp_path / "right.npz", image=images)
    np.savez(tmp_path / "wrong.npz", x=images)
    np.savez(tmp_path / "nan.npz", image=np.where(images > 0.9, np.nan, images))
    ran = prune(command, *options)
    assert ran.code in (2, 3)
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "out.onnx").exists()


def test_infinite_activations_name_the_tensor(command: Command, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Exp", ["hidden"], ["grown"]),
        helper.make_node("MatMul", ["grown", "v"], ["y"]),
    ]
    onnx.save(make_model(nodes, {"x": ("n", 4)}, ["y"], {"w": np.ones((4, 4), np.float32), "v": (4, 2)}), "exp.onnx")
    np.savez("large.npz", x=np.full((3, 4), 100, np.float32))
    ran = prune(command, "--criterion", "wanda", "--data", "large.npz", model=Path("exp.onnx"))
    assert ran.code == 3
    assert "samples 0 to 2 of large.npz make infinity in the tensor 'grown'" in ran.err


def test_no_bar_where_no_terminal_is(tmp_path: Path) -> None:
    options = ("--pruning-ratio", "0.5", "--criterion", "wanda", "--data", CALIBRATION, "-o", "a.prune.json")
    ran = script("plan", DIGITS, *options, folder=tmp_path, ONNXPRUNE_CACHE_DIR=str(tmp_path / "kept"))
    assert (ran.code, ran.err) == (0, "")
