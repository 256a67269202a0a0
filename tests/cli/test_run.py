"""`init` and `run`: recipes read, steps taken, resumed, taken back, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.commandline import Command, contents
from tests.support.extras import needs

needs("yaml", "filelock", "pydantic")

import yaml  # noqa: E402
from filelock import FileLock  # noqa: E402

from onnxprune.cli.run import told  # noqa: E402
from onnxprune.cli.settings import KINDS, schema, settings_of  # noqa: E402

KINDS_OF_A_ROUND = ("prune", "recover", "validate")
NET = """\
schema: 1
model: net.onnx
defaults: {no-verify: true}
steps:
  - prune: {pruning-ratio: 0.25, round-to: 1}
  - validate: {data: data.npz, metric: snr, floor: -20}
"""


@pytest.fixture
def folder(net: Path) -> Path:
    """`net.onnx`, data for it, and a recipe."""
    x = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    name = onnx.load(net).graph.input[0].name
    np.savez(net.with_name("data.npz"), **{name: x})
    (net.parent / "net.yaml").write_text(NET)
    return net.parent


def taken(ran: Any) -> list[tuple[str, bool]]:
    """Names of steps, and whether they had been taken before."""
    return [(step["name"], step["resumed"]) for step in ran.json["steps"]]


def test_steps_in_order(command: Command, folder: Path) -> None:
    ran = command("run", "net.yaml", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert taken(ran) == [("01-prune", False), ("02-validate", False)]
    run = folder / "net.run"
    assert sorted(p.name for p in (run / "01-prune").iterdir()) == [
        "log.txt", "model.onnx", "model.prune.json", "step.json",
    ]  # fmt: skip
    made = {t.name: list(t.dims) for t in onnx.load(run / "model.onnx").graph.initializer}
    assert made["w0"] == [24, 3, 1, 1]
    assert (run / "model.onnx").read_bytes() == (run / "01-prune" / "model.onnx").read_bytes()
    provenance = json.loads((run / "model.provenance.json").read_text())
    assert [step["kind"] for step in provenance["steps"]] == ["prune", "validate"]
    assert provenance["steps"][0]["command"][:2] == ["onnxprune", "prune"]
    assert provenance["steps"][0]["found"]["output"] == str(run / "01-prune" / "model.onnx")
    assert provenance["model_from"] == "01-prune"
    assert provenance["versions"]["numpy"] == np.__version__
    assert "$ onnxprune prune" in (run / "01-prune" / "log.txt").read_text()


def test_the_command_of_a_step_makes_the_same_model(command: Command, folder: Path) -> None:
    command("run", "net.yaml")
    command("prune", "net.onnx", "-o", "other.onnx", "--pruning-ratio", "0.25", "--round-to", "1")
    assert (folder / "other.onnx").read_bytes() == (folder / "net.run" / "model.onnx").read_bytes()


def test_a_second_run_has_nothing_to_do(command: Command, folder: Path) -> None:
    first = command("run", "net.yaml", "--json")
    before = {name: content for name, content in contents(folder).items() if "step.json" in name}
    second = command("run", "net.yaml", "--json")
    assert taken(second) == [("01-prune", True), ("02-validate", True)]
    assert {name: content for name, content in contents(folder).items() if "step.json" in name} == before
    assert first.json["steps"][1]["found"] == second.json["steps"][1]["found"]


@pytest.mark.parametrize("lost", ["01-prune", "01-prune/model.onnx", "01-prune/step.json", "02-validate", "model.onnx"])
def test_what_was_lost_is_made_again(command: Command, folder: Path, lost: str) -> None:
    whole = command("run", "net.yaml", "--json").json["steps"][1]["found"]
    path = folder / "net.run" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "net.run" / ".01-prune.1-aa.attempt").mkdir()
    ran = command("run", "net.yaml", "--json")
    assert ran.code == 0
    assert ran.json["steps"][1]["found"] == whole
    assert path.exists()
    assert not (folder / "net.run" / ".01-prune.1-aa.attempt").exists()


def test_other_data_is_judged_again(command: Command, folder: Path) -> None:
    command("run", "net.yaml")
    with np.load(folder / "data.npz") as file:
        arrays = {name: file[name] * 2 for name in file.files}
    np.savez(folder / "data.npz", **arrays)
    assert taken(command("run", "net.yaml", "--json")) == [("01-prune", True), ("02-validate", False)]


def test_rounds_until_one_breaks_the_limit(command: Command, folder: Path) -> None:
    (folder / "r.yaml").write_text(
        "model: net.onnx\ndefaults: {no-verify: true}\noutput: out/best.onnx\n"
        "steps:\n- iterate:\n    times: 9\n    steps:\n"
        "    - prune: {pruning-ratio: 0.25, round-to: 1}\n"
        "    - validate: {data: data.npz, metric: agreement, max-drop: 0.35}\n"
    )
    (folder / "out").mkdir()
    ran = command("run", "r.yaml", "--json")
    assert ran.code == 0
    assert [step["code"] for step in ran.json["steps"]] == [0, 0, 0, 9]
    assert ran.json["rolled_back"] == ["01-iterate.2.01-prune", "01-iterate.2.02-validate"]
    last = folder / "r.run" / "01-iterate.1.01-prune" / "model.onnx"
    assert (folder / "r.run" / "model.onnx").read_bytes() == last.read_bytes()
    assert (folder / "out" / "best.onnx").read_bytes() == last.read_bytes()
    assert (folder / "out" / "best.provenance.json").is_file()


def test_steps_that_are_switched_off(command: Command, folder: Path) -> None:
    text = NET.replace("round-to: 1}", "round-to: 1, enabled: true}")
    rounds = "  - iterate: {enabled: false, steps: [{prune: {pruning-ratio: 0.5}}]}\n"
    (folder / "net.yaml").write_text(text + rounds)
    off = ("run", "net.yaml", "--json", "--folder", "off.run", "--set", "prune.enabled=false")
    assert taken(command(*off)) == [("01-validate", False)]
    assert taken(command("run", "net.yaml", "--json")) == [("01-prune", False), ("02-validate", False)]
    (folder / "net.yaml").write_text(NET.replace("round-to: 1}", "enabled: maybe}"))
    assert "net.yaml:5: enabled is 'maybe'. it is true or false" in command("run", "net.yaml").err


def test_curves_of_an_earlier_step(command: Command, folder: Path) -> None:
    """$RUN is the run's folder, wherever it is: a copy of it has nothing to do."""
    (folder / "r.yaml").write_text(
        "model: net.onnx\ndefaults: {no-verify: true, no-cache: true}\nsteps:\n"
        "  - sensitivity: {data: data.npz, metric: snr}\n"
        "  - prune: {max-macs: 80%, round-to: 1, sensitivity: $RUN/01-sensitivity/found.json}\n"
        "  - validate: {data: data.npz, metric: snr}\n"
    )
    ran = command("run", "r.yaml", "--json")
    assert (ran.code, ran.err) == (0, "")
    prune = ran.json["steps"][1]
    assert f"--sensitivity={folder / 'r.run' / '01-sensitivity' / 'found.json'}" in prune["command"]
    assert "--sensitivity=$RUN/01-sensitivity/found.json" in prune["inputs"]
    shutil.copytree(folder / "r.run", folder / "copy.run")
    assert [done for _, done in taken(command("run", "r.yaml", "--folder", "copy.run", "--json"))] == [True] * 3


def test_steps_of_another_run(command: Command, folder: Path) -> None:
    command("run", "net.yaml")
    other = ("run", "net.yaml", "--folder", "other.run", "--set", "validate.samples=4", "--reuse", "net.run", "--json")
    ran = command(*other)
    assert taken(ran) == [("01-prune", True), ("02-validate", False)]
    made = folder / "other.run" / "01-prune"
    assert (made / "model.onnx").read_bytes() == (folder / "net.run" / "01-prune" / "model.onnx").read_bytes()
    assert ran.json["steps"][0]["found"]["output"] == str(made / "model.onnx")
    shutil.rmtree(folder / "net.run")
    assert [done for _, done in taken(command(*other))] == [True, True]


def test_what_is_said_of_a_step() -> None:
    """A plan that keeps to --max-latency tells its time in another form than a validation."""
    found = {"before": {"macs": 200, "parameters": 50}, "after": {"macs": 100, "parameters": 40}}
    assert told(found) == "  macs 50.0%, parameters 80.0%"
    assert told({"latency": {"before": 2.0, "after": 1.0, "share": 0.5, "low": 0.4}}) == "  latency 50.0%"
    validated = {"metric": "snr", "dense": None, "pruned": 12.3456789, "latency": {"ratio": {"median": 0.25}}}
    assert told(validated) == "  snr 12.3457 (dense infinite), latency 25.0%"
    assert told({"before": 0.5, "metric": 0.75}) == ""


def test_rounds_of_repair_and_recovery(command: Command, folder: Path) -> None:
    """Each round prunes, re-fits and trains what the last one made; the one that breaks the floor goes whole."""
    needs("torch", "accelerate")
    (folder / "r.yaml").write_text(
        "model: net.onnx\ndefaults: {no-verify: true, data: data.npz, no-cache: true}\nsteps:\n"
        "- iterate:\n    times: 2\n    steps:\n"
        "    - prune: {max-macs: 80%, round-to: 1}\n"
        "    - recover: {teacher: $DENSE, epochs: 2, valid-share: 0.25}\n"
        "    - validate: {metric: snr}\n"
    )
    free = command("run", "r.yaml", "--folder", "free.run", "--json")
    assert (free.code, free.json["rolled_back"]) == (0, [])
    steps = {step["name"].removeprefix("01-iterate."): step["found"] for step in free.json["steps"]}
    assert any(layer["changed"] for layer in steps["2.01-prune"]["repair"])
    assert len(steps["2.02-recover"]["history"]) >= 2
    assert steps["2.01-prune"]["before"]["macs"] == steps["1.01-prune"]["after"]["macs"]
    first, second = (steps[f"{round}.03-validate"]["pruned"] for round in (1, 2))
    assert first > second
    floor = (first + second) / 2
    kept = command("run", "r.yaml", "--set", f"validate.floor={floor}", "--reuse", "free.run", "--json")
    assert kept.code == 0
    assert kept.json["rolled_back"] == [f"01-iterate.2.0{k}-{kind}" for k, kind in enumerate(KINDS_OF_A_ROUND, 1)]
    trained = folder / "r.run" / "01-iterate.1.02-recover" / "model.onnx"
    assert (folder / "r.run" / "model.onnx").read_bytes() == trained.read_bytes()


def test_a_round_that_cannot_meet_its_budget_is_taken_back(command: Command, folder: Path) -> None:
    (folder / "r.yaml").write_text(
        "model: net.onnx\ndefaults: {no-verify: true}\nsteps:\n"
        "- iterate: {times: 9, steps: [{prune: {max-macs: 40%, min-keep: 8, round-to: 1}}]}\n"
    )
    ran = command("run", "r.yaml", "--json")
    assert ran.code == 0
    assert [step["code"] for step in ran.json["steps"]] == [0, 4]
    assert ran.json["rolled_back"] == ["01-iterate.2.01-prune"]


def test_a_broken_limit_ends_the_run(command: Command, folder: Path) -> None:
    (folder / "net.yaml").write_text(NET.replace("floor: -20", "floor: 200") + "  - prune: {pruning-ratio: 0.5}\n")
    ran = command("run", "net.yaml", "--json")
    assert ran.code == 9
    assert taken(ran) == [("01-prune", False), ("02-validate", False)]
    assert ran.json["failed"] == "02-validate"
    ran = command("run", "net.yaml")
    assert ran.code == 9
    assert "failed: 02-validate: snr is" in ran.out


def test_overrides(command: Command, folder: Path) -> None:
    ran = command(
        "run", "net.yaml", "--json", "--set", "prune.pruning-ratio=0.5", "--set", "2.samples=4",
        "--set", "defaults.threads=1",
    )  # fmt: skip
    assert ran.code == 0
    assert "--pruning-ratio=0.5" in ran.json["steps"][0]["command"]
    assert ran.json["steps"][1]["found"]["samples"] == 4
    assert all("--threads=1" in step["command"] for step in ran.json["steps"])


def test_zeros_and_their_check(command: Command, folder: Path) -> None:
    (folder / "z.yaml").write_text(
        "model: net.onnx\ndefaults: {no-verify: true}\n"
        "steps: [sparsify: {pattern: '2:4'}, check-sparsity: {pattern: '2:4'}]\n"
    )
    ran = command("run", "z.yaml", "--json")
    assert (ran.code, taken(ran)) == (0, [("01-sparsify", False), ("02-check-sparsity", False)])
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(folder / "z.run" / "model.onnx").graph.initializer}
    assert (weights["w1"] == 0).mean() == 0.5


def test_options_of_the_run_are_those_of_its_steps(command: Command, folder: Path) -> None:
    ran = command("run", "net.yaml", "--json", "--threads", "1", "--seed", "5")
    for step in ran.json["steps"]:
        assert {"--threads=1", "--seed=5"} <= set(step["command"])


def test_a_report_at_the_end(command: Command, folder: Path) -> None:
    needs("jinja2", "plotly")
    assert command("run", "net.yaml", "--report").code == 0
    assert "Before and after" in (folder / "net.run" / "report.html").read_text(encoding="utf-8")


def test_settings_are_the_options_of_the_command() -> None:
    for kind in KINDS:
        names = set(settings_of(kind))
        assert {"seed", "threads", "provider", "provider-option", "custom-op-library"} <= names
        assert not names & {"json", "verbose", "quiet", "output", "dry-run", "model"}
    assert settings_of("prune")["balanced"].off == "--no-balanced"
    assert settings_of("apply")["plan"].positional


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: []", "net.yaml:1: 'model' is no path"),
        ("model: net.onnx", "net.yaml:1: 'steps' is no list of steps"),
        ("model: net.onnx\nstep: []", "net.yaml:2: there is no setting of a recipe 'step'. did you mean steps?"),
        ("schema: 9\nmodel: net.onnx", "net.yaml:1: it is of schema 9. this onnxprune reads schema 1"),
        ("model: net.onnx\nsteps:\n- purne: {}", "net.yaml:3: there is no step 'purne'. did you mean prune?"),
        (
            "model: net.onnx\nsteps:\n- prune:\n    max-mac: 50%",
            "net.yaml:4: there is no setting of prune 'max-mac'. did you mean max-macs?",
        ),
        ("model: net.onnx\nsteps:\n- prune: {min-keep: few}", "net.yaml:3: min-keep is 'few'"),
        ("model: net.onnx\nsteps:\n- prune: {min-keep: 0}", "net.yaml:3: min-keep is 0"),
        ("model: net.onnx\nsteps:\n- apply: {seed: 1}", "net.yaml:3: apply needs the setting 'plan'"),
        (
            "model: net.onnx\nsteps:\n- prune: {}\n- validate:\n    data: x.npz\n    metric: topp1",
            "net.yaml:6: there is no metric 'topp1'. did you mean top1?",
        ),
        (
            "model: net.onnx\ndefaults: {metric: f2}\nsteps:\n- validate: {data: x.npz}",
            "net.yaml:2: there is no metric 'f2'",
        ),
        (
            "model: net.onnx\nsteps:\n- prune: {max-macs: 50%}\n- recover:\n    data: x.npz\n    optimiser: adamm",
            "net.yaml:6: optimiser is 'adamm'. Input should be 'adamw', 'adam'",
        ),
        (
            "model: net.onnx\nsteps:\n- prune:\n    criterion: l3",
            "net.yaml:4: there is no criterion 'l3'. did you mean l",
        ),
        ("model: net.onnx\nsteps:\n- prune: {ranking: locale}", "there is no ranking 'locale'. did you mean local?"),
        ("model: net.onnx\nsteps:\n- sparsify: {method: fits}", "there is no method 'fits'. did you mean fit?"),
        ("model: net.onnx\ndefaults:\n  sede: 1\nsteps: [prune]", "net.yaml:3: there is no setting of defaults 'sede'"),
        ("model: net.onnx\nsteps:\n- prune: 3", "net.yaml:3: prune is no list of settings"),
        ("model: net.onnx\nsteps:\n- iterate: {times: 0, steps: [prune]}", "net.yaml:3: times is 0"),
        ("model: net.onnx\nmodel: net.onnx", "net.yaml:2: 'model' is given twice"),
        ("model: [net.onnx\nsteps: 1", "net.yaml:2: this is no YAML"),
        ("model: none.onnx\nsteps: [prune]", "net.yaml: the model none.onnx is not there"),
        ("", "net.yaml:1: a recipe is no list of settings"),
    ],
)
def test_bad_recipes(command: Command, folder: Path, text: str, said: str) -> None:
    (folder / "net.yaml").write_text(text)
    before = contents(folder)
    ran = command("run", "net.yaml")
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "prune.max-macs"), "not of the form KEY=VALUE"),
        (("--set", "recover.epochs=1"), "the recipe has no step 'recover'"),
        (("--set", "7.samples=1"), "the recipe has no step '7'"),
        (("--set", "prune.max-mac=50%"), "there is no setting of prune 'max-mac'"),
    ],
)
def test_bad_overrides(command: Command, folder: Path, options: tuple[str, ...], said: str) -> None:
    ran = command("run", "net.yaml", *options)
    assert ran.code == 2
    assert said in ran.err


def test_a_step_that_goes_wrong(command: Command, folder: Path) -> None:
    (folder / "net.yaml").write_text(NET.replace("metric: snr, floor: -20", "metric: top1"))
    ran = command("run", "net.yaml")
    assert ran.code == 2
    assert "step validate: --metric top1 needs labels" in ran.err
    assert not (folder / "net.run" / "02-validate").exists()


def test_folders_that_are_refused(command: Command, folder: Path) -> None:
    assert command("run", "net.yaml").code == 0
    ran = command("run", "net.yaml", "--set", "prune.pruning-ratio=0.5")
    assert ran.code == 2
    assert "is the folder of another recipe, or other --set. give another --folder, or --anew" in ran.err
    assert command("run", "net.yaml", "--set", "prune.pruning-ratio=0.5", "--anew").code == 0
    (folder / "other").mkdir()
    (folder / "other" / "file").write_text("mine")
    ran = command("run", "net.yaml", "--folder", "other", "--anew")
    assert ran.code == 2
    assert "is no run's folder, and not empty" in ran.err
    assert (folder / "other" / "file").read_text() == "mine"
    manifest = folder / "net.run" / "run.json"
    manifest.write_text(manifest.read_text().replace('"onnxprune": "', '"onnxprune": "0.0.'))
    assert "another version of onnxprune" in command("run", "net.yaml", "--set", "prune.pruning-ratio=0.5").err
    manifest.write_text("{")
    assert "cannot be read" in command("run", "net.yaml").err


def test_two_runs_at_once(command: Command, folder: Path) -> None:
    (folder / "net.run").mkdir()
    with FileLock(folder / "net.run" / ".lock"):
        ran = command("run", "net.yaml")
    assert ran.code == 2
    assert "another run is at work in this folder" in ran.err


def test_init(command: Command, folder: Path) -> None:
    ran = command("init", "net.onnx", "-o", "new.yaml", "--data", "data.npz", "--json")
    assert ran.code == 0
    text = (folder / "new.yaml").read_text()
    found = yaml.safe_load(text)
    assert found["steps"][1]["validate"] == {"data": "data.npz", "metric": "cosine", "max-drop": 0.01, "latency": True}
    assert "# 2 of channels. Those with the most MACs:" in text
    jsonschema.validate(found, json.loads((folder / "recipe.schema.json").read_text()))
    assert command("run", "new.yaml", "--set", "validate.max-drop=2", "--set", "validate.rounds=5").code == 0
    ran = command("init", "net.onnx", "-o", "new.yaml")
    assert ran.code == 6
    assert "new.yaml is there already" in ran.err
    assert command("init", "net.onnx", "-o", "new.yaml", "--force").code == 0
    assert [list(step) for step in yaml.safe_load((folder / "new.yaml").read_text())["steps"]] == [["prune"]]


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    good = yaml.safe_load(NET)
    jsonschema.validate(good, schema())
    for bad in (
        {**good, "step": []},
        {"steps": good["steps"]},
        {**good, "steps": [{"prune": {"max-mac": "50%"}}]},
        {**good, "steps": [{"prune": {}, "validate": {}}]},
        {**good, "defaults": {"model": "x"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema())
