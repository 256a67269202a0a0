"""Whatever is wrong ends with one line that names it and says what to do, its exit code, and no file changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.cli.app import COMMANDS
from onnxprune.types import PLAN_SCHEMA
from tests.support.commandline import Command, Ran, contents
from tests.support.models import make_model
from tests.support.planning import conv_chain

PRUNE = ("prune", "net.onnx", "-o", "out.onnx", "--pruning-ratio", "0.5")


def refused(ran: Ran, code: int, *words: str) -> None:
    """One line on standard error, with these words in order; nothing on standard output."""
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("onnxprune: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    assert "Traceback" not in ran.err
    at = 0
    for word in words:
        assert word in ran.err[at:], ran.err
        at = ran.err.index(word, at) + len(word)


def external(path: Path) -> Path:
    """A model with its weights in `net.onnx.data`."""
    onnx.save(conv_chain(), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    return path


def point_at(path: Path, location: str) -> None:
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(proto.SerializeToString())


def no_file(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("# Model card\n\nThis is not the model.\n")


def git_lfs(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")


def checkpoint(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1500])


def without_its_data(path: Path) -> None:
    external(path)
    path.with_name("net.onnx.data").unlink()


def with_half_its_data(path: Path) -> None:
    data = external(path).with_name("net.onnx.data")
    data.write_bytes(data.read_bytes()[:1000])


def with_data_above_its_folder(path: Path) -> None:
    point_at(external(path), "../net.onnx.data")
    path.with_name("net.onnx.data").rename(path.parents[1] / "net.onnx.data")


def with_data_at_a_full_path(path: Path) -> None:
    point_at(external(path), str(path.with_name("net.onnx.data").resolve()))


BROKEN_MODELS = [
    (no_file, ("cannot read net.onnx", "No such file", "Check the path")),
    (a_folder, ("net.onnx is a folder", "Give the path of an .onnx file")),
    (text, ("net.onnx is not an ONNX model", "Give a binary .onnx file")),
    (git_lfs, ("net.onnx is not an ONNX model but a Git LFS pointer", "git lfs pull")),
    (checkpoint, ("net.onnx is not an ONNX model but a zip archive", "Export it to ONNX")),
    (empty, ("net.onnx is empty", "export it again")),
    (cut_off, ("net.onnx is cut off or damaged", "Copy or export it again")),
    (without_its_data, ("net.onnx: tensor 'w0'", "net.onnx.data", "No such file", "Copy the data file too")),
    (with_half_its_data, ("net.onnx: tensor 'w1'", "net.onnx.data", "cut off")),
    (with_data_above_its_folder, ("net.onnx: tensor 'w0'", "../net.onnx.data", "outside the model's folder", "beside")),
    (with_data_at_a_full_path, ("net.onnx: tensor 'w0'", "outside the model's folder", "beside the model")),
]


@pytest.mark.parametrize("subcommand", ["inspect", "plan", "apply", "prune"])
@pytest.mark.parametrize(("damage", "words"), [pytest.param(d, w, id=d.__name__) for d, w in BROKEN_MODELS])
def test_a_model_that_cannot_be_read(
    command: Command, net: Path, subcommand: str, damage: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    command("plan", net, "-o", "a.prune.json", "--pruning-ratio", "0.5")
    damage(net)
    before = contents(net.parent)
    arguments = {
        "inspect": (),
        "plan": ("--pruning-ratio", "0.5"),
        "apply": ("a.prune.json", "-o", "out.onnx"),
        "prune": ("-o", "out.onnx", "--pruning-ratio", "0.5"),
    }[subcommand]
    refused(command(subcommand, "net.onnx", *arguments), 3, *words)
    assert contents(net.parent) == before


BAD_SETTINGS = [
    ((), "no budget is given", "--pruning-ratio 0.5"),
    (("--pruning-ratio", "1"), "--pruning-ratio is 1", "not including, 1"),
    (("--pruning-ratio", "-0.1"), "--pruning-ratio is -0.1", "from 0"),
    (("--pruning-ratio", "half"), "'--pruning-ratio'", "onnxprune prune --help"),
    (("--max-macs", "half"), "--max-macs 'half' is no amount", "50%"),
    (("--max-macs", "150%"), "--max-macs '150%' is no share", "50%"),
    (("--max-params", "0"), "--max-params '0'", "50%"),
    (("--layer-ratio", "w0=2"), "w0", "2", "from 0"),
    (("--layer-ratio", "w0"), "--layer-ratio w0", "for example"),
    (("--layer-ratio", "conv7=0.5"), "'conv7'", "nearest: conv1, conv0"),
    (("--pruning-ratio", "0.5", "--only", "conf0"), "--only", "'conf0'", "nearest: conv0"),
    (("--pruning-ratio", "0.5", "--only", "w0:1"), "--only", "w0:1"),
    (("--pruning-ratio", "0.5", "--ignore", "W0:0"), "--ignore", "'W0:0'", "nearest: w0"),
    (("--pruning-ratio", "0.5", "--ignore", "nothing*"), "--ignore", "'nothing*'"),
    (("--pruning-ratio", "0.5", "--scope", "chanels"), "--scope", "chanels", "kinds are channels, ffn"),
    (("--pruning-ratio", "0.5", "--scope", "heads"), "no group of kind heads", "it has"),
    (("--pruning-ratio", "0.5", "--criterion", "l3"), "'l3'", "l1, l2, lamp"),
    (("--pruning-ratio", "0.5", "--ranking", "best"), "'best'", "local, global"),
    (("--pruning-ratio", "0.5", "--round-to", "0"), "--round-to", "whole number"),
    (("--pruning-ratio", "0.5", "--min-keep", "0"), "--min-keep", "onnxprune prune --help"),
    (("--pruning-ratio", "0.5", "--max-ratio", "3"), "--max-ratio is 3", "from 0"),
    (("--pruning-ratio", "0.5", "--bind", "batch"), "--bind batch", "batch=2"),
    (("--pruning-ratio", "0.5", "--bind", "batch=2"), "--bind", "no 'batch'", "its dynamic dimensions: none"),
    (("--pruning-ratio", "0.5", "--input-shapes", "x"), "--input-shapes x", "x:[2,3,224,224]"),
    (("--pruning-ratio", "0.5", "--input-shapes", "z:[1]"), "--input-shapes", "no 'z'", "its inputs: x"),
    (("--pruning-ratio", "0.5", "--input-shapes", "x:[1,3,8]"), "3 dimensions", "its shape is [1, 3, 8, 8]"),
    (("--pruning-ratio", "0.5", "--input-shapes", "x:[2,3,8,8]"), "dimension 0 is 1", "only dynamic dimensions"),
    (("--pruning-ratio", "0.5", "--allow-io-change", "z"), "--allow-io-change", "'z'", "x, y"),
    (("--pruning-ratio", "0.5", "--layout", "spread"), "--layout spread", "keep, embedded, single, many"),
    (("--pruning-ratio", "0.5", "--provider", "gpu"), "--provider gpu", "cuda"),
    (("--pruning-ratio", "0.5", "--threads", "-1"), "--threads", "onnxprune prune --help"),
    (("--pruning-ratio", "0.5", "--custom-op-library", "no.so"), "--custom-op-library no.so", "check the path"),
    (("--pruning-ratio", "0.5", "--pruning"), "--pruning", "onnxprune prune --help"),
]


@pytest.mark.parametrize(("options", "words"), [pytest.param(o, w, id=" ".join(o)) for o, *w in BAD_SETTINGS])
def test_a_setting_that_is_wrong(command: Command, net: Path, options: tuple[str, ...], words: list[str]) -> None:
    before = contents(net.parent)
    refused(command("prune", "net.onnx", "-o", "out.onnx", *options), 2, *words)
    assert contents(net.parent) == before


@pytest.mark.parametrize("option", ["--scope=chanels", "--only=conf0", "--ignore=conf0", "--layer-ratio=conf0=0.5"])
def test_what_names_nothing_is_refused_before_anything_is_measured(command: Command, option: str) -> None:
    sample = Path(__file__).parents[2] / "samples" / "01_quickstart"
    data = ("--data", sample / "digits_calib.npz", "--max-macs", "50%", "--no-cache")
    refused(command("plan", sample / "digits.onnx", *data, option), 2, *option.split("=")[:2])


def test_no_output(command: Command, net: Path) -> None:
    refused(command("prune", net, "--pruning-ratio", "0.5"), 2, "no output is given", "-o OUT.onnx, or --dry-run")
    assert list(contents(net.parent)) == ["net.onnx"]


def test_a_provider_that_this_runtime_does_not_have(command: Command, net: Path) -> None:
    before = contents(net.parent)
    refused(
        command(*PRUNE, "--provider", "coreml"), 2, "--provider coreml", "not in this ONNX Runtime", "onnxprune doctor"
    )
    assert contents(net.parent) == before


def test_a_library_that_is_none(command: Command, net: Path) -> None:
    (net.parent / "ops.so").write_text("no library")
    before = contents(net.parent)
    refused(command(*PRUNE, "--custom-op-library", "ops.so"), 2, "--custom-op-library ops.so")
    assert contents(net.parent) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--max-macs", "1%"),
            ("--max-macs allows 440 of 44K macs", "8.19K (18.6%) remain with every group at its minimum", "--round-to"),
        ),
        (("--max-macs", "8k"), ("--max-macs allows 8K of 44K macs", "8.19K (18.6%) remain")),
        (("--max-params", "1%"), ("--max-params allows 7 of 688 parameters", "128 (18.6%) remain")),
        (("--max-params", "40%", "--only", "w1:0"), ("392 (57.0%) remain", "--only")),
        (("--max-macs", "80%", "--max-params", "30%", "--min-keep", "16"), ("--max-params allows", "remain")),
    ],
)
@pytest.mark.parametrize("subcommand", ["plan", "prune"])
def test_a_budget_out_of_reach_says_how_far_one_can_get(
    command: Command, net: Path, subcommand: str, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = contents(net.parent)
    refused(command(subcommand, "net.onnx", "-o", "out.onnx", *options), 4, *words)
    assert contents(net.parent) == before


def test_the_budget_that_the_message_names_can_be_reached(command: Command, net: Path) -> None:
    ran = command("prune", net, "-o", "out.onnx", "--max-macs", "8.2k", "--json")
    assert ran.json["after"] == {"parameters": 128, "macs": 8192}


class TestPlans:
    def made(self, command: Command, net: Path) -> Path:
        assert command("plan", net, "--pruning-ratio", "0.5").code == 0
        return net.with_name("net.prune.json")

    def refuse(self, command: Command, net: Path, *words: str) -> None:
        before = contents(net.parent)
        refused(command("apply", "net.onnx", "net.prune.json", "-o", "out.onnx"), 5, *words)
        assert contents(net.parent) == before

    def test_for_another_model(self, command: Command, net: Path) -> None:
        self.made(command, net)
        proto = onnx.load(net)
        proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[::-1]
        onnx.save(proto, net)
        self.refuse(command, net, "the plan is for another model", "make a new plan for this model")

    def test_missing(self, command: Command, net: Path) -> None:
        self.refuse(command, net, "cannot read the plan net.prune.json: No such file", "*.prune.json")

    def test_the_model_in_its_place(self, command: Command, net: Path) -> None:
        refused(command("apply", net, net, "-o", "out.onnx"), 5, "cannot read the plan", "no text", "*.prune.json")

    def test_cut_off(self, command: Command, net: Path) -> None:
        path = self.made(command, net)
        path.write_bytes(path.read_bytes()[:-100])
        self.refuse(command, net, "net.prune.json: this is no JSON", "cut off")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda d: d["groups"][0].update(name="w0:9"), ("a group 'w0:9'", "none of that name", "nearest: w0:0")),
            (lambda d: d["groups"][0].update(size=33), ("'w0:0' has 33 units in the plan and 32 in the model",)),
            (lambda d: d["groups"][0].update(kept=[]), ("'w0:0': the plan keeps none of its 32 units",)),
            (lambda d: d["groups"][0].update(kept=[32]), ("keeps unit 32 of 32", "0 to 31")),
            (lambda d: d["groups"].append(d["groups"][0]), ("the group 'w0:0' twice",)),
            (lambda d: d.update(schema=9), (f"schema 9, this version reads {PLAN_SCHEMA}",)),
            (lambda d: d["analysis"].update(bind="batch=2"), ("analysis.bind: it must be an object",)),
        ],
    )
    def test_changed_by_hand(
        self, command: Command, net: Path, change: Callable[[dict], object], words: tuple[str, ...]
    ) -> None:
        path = self.made(command, net)
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))
        self.refuse(command, net, *words)


def pruned_to(output: str) -> tuple[str, ...]:
    return ("prune", "net.onnx", "-o", output, "--pruning-ratio", "0.5")


class TestOutputs:
    def test_the_input_itself(self, command: Command, net: Path) -> None:
        before = contents(net.parent)
        refused(
            command(*pruned_to("net.onnx")),
            6,
            "is the input itself",
            "another",
        )
        refused(command(*pruned_to(f"../{net.parent.name}/net.onnx")), 6, "input")
        assert contents(net.parent) == before

    def test_the_input_by_another_name(self, command: Command, net: Path) -> None:
        (net.parent / "link.onnx").symlink_to(net)
        before = contents(net.parent)
        refused(command(*pruned_to("link.onnx")), 6, "is the input itself")
        assert contents(net.parent) == before

    def test_the_inputs_data(self, command: Command, net: Path) -> None:
        external(net)
        before = contents(net.parent)
        refused(command(*pruned_to("net.onnx.data")), 6, "net.onnx.data", "input")
        refused(
            command("plan", "net.onnx", "-o", "net.onnx.data", "--pruning-ratio", "0.5"), 6, "net.onnx.data", "input"
        )
        assert contents(net.parent) == before

    def test_a_plan_over_the_model(self, command: Command, net: Path) -> None:
        before = contents(net.parent)
        refused(command("plan", "net.onnx", "-o", "net.onnx", "--pruning-ratio", "0.5"), 6, "is the input itself")
        assert contents(net.parent) == before

    def test_a_model_that_is_called_as_its_plan_would_be(self, command: Command, net: Path) -> None:
        net.rename(net.with_name("out.prune.json"))
        before = contents(net.parent)
        ran = command("prune", "out.prune.json", "-o", "out.onnx", "--pruning-ratio", "0.5")
        refused(ran, 6, "out.prune.json is the input itself")
        assert contents(net.parent) == before

    def test_a_model_over_the_plan(self, command: Command, net: Path) -> None:
        command("plan", "net.onnx", "--pruning-ratio", "0.5")
        before = contents(net.parent)
        refused(command("apply", "net.onnx", "net.prune.json", "-o", "net.prune.json"), 6, "is the input itself")
        assert contents(net.parent) == before

    @pytest.mark.parametrize("subcommand", ["plan", "prune"])
    @pytest.mark.parametrize(
        ("output", "words"),
        [
            ("none/out.onnx", ("cannot write none/out.onnx", "Create the folder first")),
            (".", ("cannot write",)),
            ("folder", ("cannot write folder", "it is a folder")),
            ("x" * 300 + ".onnx", ("cannot write", "shorter name")),
            ("net.onnx/out.onnx", ("cannot write net.onnx/out.onnx",)),
        ],
    )
    def test_what_cannot_be_written(
        self, command: Command, net: Path, subcommand: str, output: str, words: tuple[str, ...]
    ) -> None:
        (net.parent / "folder").mkdir()
        before = contents(net.parent)
        refused(command(subcommand, "net.onnx", "-o", output, "--pruning-ratio", "0.5"), 6, *words)
        assert contents(net.parent) == before

    def test_a_model_whose_plan_cannot_be_written(self, command: Command, net: Path) -> None:
        (net.parent / "out.prune.json").mkdir()
        before = contents(net.parent)
        refused(command(*PRUNE), 6, "cannot write out.prune.json: it is a folder")
        assert contents(net.parent) == before


def custom(path: Path) -> None:
    """A model with an operator that neither onnxprune nor ONNX Runtime knows, between layers that can be pruned."""
    proto = make_model(
        [
            helper.make_node("Conv", ["x", "w0"], ["a"], name="first"),
            helper.make_node("Conv", ["a", "w1"], ["b"], name="second"),
            helper.make_node("Swirl", ["b"], ["y"], name="swirl", domain="our.company"),
        ],
        {"x": (1, 3, 8, 8)},
        ["y"],
        {"w0": (32, 3, 1, 1), "w1": (4, 32, 1, 1)},
        opsets={"our.company": 1},
    )
    onnx.save(proto, path)


def test_a_model_that_the_runtime_does_not_load(command: Command, net: Path) -> None:
    custom(net)
    before = contents(net.parent)
    ran = command(*PRUNE, "-q")
    refused(
        ran, 3, "ONNX Runtime does not load this model, pruned or not", "Swirl", "--custom-op-library", "--no-verify"
    )
    assert contents(net.parent) == before
    assert command(*PRUNE, "-q", "--no-verify").code == 0
    assert sorted(contents(net.parent)) == ["net.onnx", "out.onnx", "out.prune.json"]


def test_a_result_that_is_not_what_was_predicted_is_not_written(command: Command, net: Path) -> None:
    """The plan claims a measured shape that the model does not have: running the result finds it out."""
    proto = make_model(
        [
            helper.make_node("Conv", ["x", "w0"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "w1"], ["b"], name="second"),
            helper.make_node("NonZero", ["b"], ["y"], name="where"),
        ],
        {"x": (1, 3, 8, 8)},
        ["y"],
        {"w0": (32, 3, 1, 1), "w1": (4, 32, 1, 1)},
    )
    onnx.save(proto, net)
    assert command("plan", net, "--pruning-ratio", "0.5", "-q").code == 0
    path = net.with_name("net.prune.json")
    document = json.loads(path.read_text())
    document["analysis"]["measured"] = {"y": [4, 7]}
    path.write_text(json.dumps(document))
    before = contents(net.parent)
    ran = command("apply", "net.onnx", "net.prune.json", "-o", "out.onnx", "-q")
    refused(ran, 8, "in the pruned model 'y' has the shape [4, ", "predicted was [4, 7]", "Nothing was written")
    assert contents(net.parent) == before


def test_no_command_of_that_name(command: Command, net: Path) -> None:
    refused(command("prun", net), 2, "there is no command 'prun'", ", ".join(COMMANDS))


def test_a_bug_is_one_line_too(command: Command, net: Path) -> None:
    """A weight whose content is not what its type says goes wrong only when it is read."""
    proto = onnx.load(net)
    proto.graph.initializer[1].raw_data = np.float32([1]).tobytes()
    onnx.save(proto, net)
    before = contents(net.parent)
    ran = command(*PRUNE)
    assert ran.code in (1, 3)
    assert ran.err.count("\n") == 1
    assert contents(net.parent) == before
