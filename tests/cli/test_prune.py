"""`prune`, `plan` and `apply`: what is written, what is said, and that each option arrives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnxprune.plan import load_plan
from tests.support.commandline import DIGITS, Command, contents
from tests.support.models import make_model
from tests.support.planning import conv_chain


def shapes(path: Path) -> dict[str, list[int]]:
    return {t.name: list(t.dims) for t in onnx.load(path, load_external_data=False).graph.initializer}


def kept(path: Path) -> dict[str, int]:
    """Units that stay, by group."""
    return {group.name: len(group.kept) for group in load_plan(path).groups}


class TestQuickstart:
    def test_prune(self, command: Command, tmp_path: Path) -> None:
        ran = command("prune", DIGITS, "-o", "small.onnx", "--pruning-ratio", "0.5")
        assert (ran.code, ran.err) == (0, "")
        assert sorted(contents(tmp_path)) == ["small.onnx", "small.prune.json"]
        lines = [re.sub(r"\s+", " ", line.strip("┃│ ").replace("│", "")) for line in ran.out.splitlines()]
        assert "parameters 114.31 k 30.03 k 26.3 %" in lines
        assert "MACs 2.54 M 643.71 k 25.4 %" in lines
        size = (tmp_path / "small.onnx").stat().st_size
        assert f"bytes 467.35 k {size / 1e3:.2f} k {100 * size / 467351:.1f} %" in lines
        assert "40 of 41 nodes untouched" in lines
        assert "wrote small.onnx, verified in ONNX Runtime (CPUExecutionProvider)" in lines
        assert "wrote small.prune.json, the plan" in lines
        session = onnxruntime.InferenceSession("small.onnx", providers=["CPUExecutionProvider"])
        assert session.run(None, {"image": np.zeros((5, 1, 8, 8), np.float32)})[0].shape == (5, 10)

    def test_plan_then_apply_is_prune(self, command: Command, tmp_path: Path) -> None:
        options = ("--max-macs", "60%", "--ranking", "global", "--criterion", "random", "--seed", "3")
        assert command("prune", DIGITS, "-o", "one.onnx", *options).code == 0
        assert command("plan", DIGITS, "-o", "two.prune.json", *options).code == 0
        assert command("apply", DIGITS, "two.prune.json", "-o", "two.onnx").code == 0
        files = contents(tmp_path)
        assert files["one.onnx"] == files["two.onnx"]
        assert files["one.prune.json"] == files["two.prune.json"]

    def test_what_is_cut_is_what_the_plan_lists(self, command: Command, tmp_path: Path) -> None:
        assert command("prune", DIGITS, "-o", "small.onnx", "--pruning-ratio", "0.4", "-q").code == 0
        plan = json.loads((tmp_path / "small.prune.json").read_text())
        dense = {t.name: numpy_helper.to_array(t) for t in onnx.load(DIGITS).graph.initializer}
        small = {t.name: numpy_helper.to_array(t) for t in onnx.load("small.onnx").graph.initializer}
        assert len(plan["tensors"]) > 20
        for name, axes in plan["tensors"].items():
            cut = dense[name]
            for axis, which in axes.items():
                cut = cut.take(plan["indices"][which], axis=int(axis))
            np.testing.assert_array_equal(cut, small[name])

    def test_the_seed_is_that_of_random(self, command: Command, tmp_path: Path) -> None:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            options = ("--pruning-ratio", "0.5", "--criterion", "random", "--seed", seed)
            assert command("plan", DIGITS, "-o", f"{name}.prune.json", *options).code == 0
        a, b, c = (load_plan(tmp_path / f"{name}.prune.json") for name in "abc")
        assert a == b
        assert a.tensors != c.tensors


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--pruning-ratio", "0.5"), {"w0:0": 16, "w1:0": 8}),
        (("--pruning-ratio", "0.5", "--only", "w1:0"), {"w0:0": 32, "w1:0": 8}),
        (("--pruning-ratio", "0.5", "--ignore", "w1:0"), {"w0:0": 16, "w1:0": 16}),
        (("--pruning-ratio", "0.5", "--only", "conv*", "--ignore", "classify"), {"w0:0": 16, "w1:0": 16}),
        (("--pruning-ratio", "0.4", "--round-to", "1"), {"w0:0": 19, "w1:0": 10}),
        (("--pruning-ratio", "0.4", "--round-to", "4"), {"w0:0": 20, "w1:0": 8}),
        (("--pruning-ratio", "0.9", "--round-to", "1", "--min-keep", "5"), {"w0:0": 5, "w1:0": 5}),
        (("--pruning-ratio", "0.9", "--round-to", "1", "--max-ratio", "0.25"), {"w0:0": 24, "w1:0": 12}),
        (("--pruning-ratio", "0.5", "--layer-ratio", "conv0=0.25"), {"w0:0": 24, "w1:0": 8}),
        (("--layer-ratio", "conv0=0.25"), {"w0:0": 24, "w1:0": 16}),
        (("--pruning-ratio", "0.5", "--scope", "channels"), {"w0:0": 16, "w1:0": 8}),
        (("--pruning-ratio", "0.5", "--scope", "channels", "--scope", "heads"), {"w0:0": 16, "w1:0": 8}),
        (("--pruning-ratio", "0.5", "--scope", "heads, channels"), {"w0:0": 16, "w1:0": 8}),
        (("--max-params", "100%"), {"w0:0": 32, "w1:0": 16}),
        (("--max-params", "688"), {"w0:0": 32, "w1:0": 16}),
        (("--max-macs", "20k"), {"w0:0": 24, "w1:0": 8}),
        (("--max-macs", "0.5"), {"w0:0": 24, "w1:0": 8}),
    ],
    ids=" ".join,
)
def test_options_arrive(command: Command, net: Path, options: tuple[str, ...], left: dict[str, int]) -> None:
    assert command("plan", net, "-o", "a.prune.json", *options).code == 0
    assert kept(Path("a.prune.json")) == left


def test_a_budget_is_met(command: Command, net: Path) -> None:
    after = command("plan", net, "--max-macs", "50%", "--max-params", "300", "--json").json["after"]
    assert after["macs"] <= 22016
    assert after["parameters"] <= 300


def test_exact_only(command: Command, tmp_path: Path) -> None:
    """A layer normalisation runs over the width of `w`; the hidden layer `u` has no such thing."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("LayerNormalization", ["a", "scale"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "u"], ["h"], name="second"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="third"),
    ]
    weights = {"w": (4, 16), "scale": (16,), "u": (16, 32), "v": (32, 3)}
    onnx.save(make_model(nodes, {"x": (2, 4)}, ["y"], weights), tmp_path / "net.onnx")
    options = ("--pruning-ratio", "0.5", "--no-verify")
    assert command("prune", "net.onnx", "-o", "a.onnx", *options).code == 0
    assert command("prune", "net.onnx", "-o", "b.onnx", *options, "--exact-only").code == 0
    assert shapes(tmp_path / "a.onnx") == {"w": [4, 8], "scale": [8], "u": [8, 16], "v": [16, 3]}
    assert shapes(tmp_path / "b.onnx") == {"w": [4, 16], "scale": [16], "u": [16, 16], "v": [16, 3]}


def test_outputs_shrink_only_where_that_is_allowed(command: Command, net: Path, tmp_path: Path) -> None:
    options = ("--pruning-ratio", "0.4", "--round-to", "1", "--no-verify")
    assert command("prune", net, "-o", "a.onnx", *options).code == 0
    assert command("prune", net, "-o", "b.onnx", *options, "--allow-io-change", "y").code == 0
    assert shapes(tmp_path / "a.onnx")["head"] == [5, 10, 1, 1]
    assert shapes(tmp_path / "b.onnx")["head"] == [3, 10, 1, 1]
    assert command("apply", net, "b.prune.json", "-o", "c.onnx").code == 0  # runs it, too
    assert (tmp_path / "c.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


class TestDynamicDimensions:
    @pytest.fixture
    def dynamic(self, tmp_path: Path) -> Path:
        nodes = [
            helper.make_node("Conv", ["x", "w0"], ["a"], name="first"),
            helper.make_node("Conv", ["a", "w1"], ["y"], name="second"),
        ]
        weights = {"w0": (16, 3, 1, 1), "w1": (4, 16, 1, 1)}
        path = tmp_path / "net.onnx"
        onnx.save(make_model(nodes, {"x": ("batch", 3, "height", "width")}, ["y"], weights), path)
        return path

    @pytest.mark.parametrize(
        ("options", "pixels"),
        [
            ((), 224 * 224),
            (("--bind", "batch=2,height=10", "--bind", "width=20"), 400),
            (("--input-shapes", "x:[2,3,10,20]"), 400),
        ],
    )
    def test_macs_are_those_of_the_bound_sizes(
        self, command: Command, dynamic: Path, options: tuple[str, ...], pixels: int
    ) -> None:
        assert command("inspect", dynamic, "--json", *options).json["dense"]["macs"] == pixels * (3 * 16 + 16 * 4)
        ran = command("prune", dynamic, "-o", "out.onnx", "--pruning-ratio", "0.5", "--json", *options)
        assert ran.json["after"]["macs"] == pixels * (3 * 8 + 8 * 4)

    def test_they_stay_dynamic(self, command: Command, dynamic: Path) -> None:
        ran = command(
            "prune", dynamic, "-o", "out.onnx", "--pruning-ratio", "0.5", "--bind", "batch=2,height=9,width=7"
        )
        assert ran.code == 0
        dims = onnx.load("out.onnx").graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]
        session = onnxruntime.InferenceSession("out.onnx", providers=["CPUExecutionProvider"])
        assert session.run(None, {"x": np.ones((3, 3, 5, 6), np.float32)})[0].shape == (3, 4, 5, 6)

    def test_inspect_says_what_was_bound(self, command: Command, dynamic: Path) -> None:
        ran = command("inspect", dynamic, "--bind", "batch=2")
        assert "dynamic dimensions bound for analysis: batch=2, height=224, width=224 (--bind" in ran.out


def test_measured_shapes_travel_with_the_plan(command: Command, tmp_path: Path) -> None:
    """Where a shape is known only from running the model, applying finds the same groups without running it."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="second"),
        helper.make_node("NonZero", ["b"], ["n"], name="where"),
    ]
    weights = {"w0": (16, 3, 1, 1), "w1": (4, 16, 1, 1)}
    onnx.save(make_model(nodes, {"x": (1, 3, 4, 4)}, ["n"], weights), tmp_path / "net.onnx")
    ran = command("prune", "net.onnx", "-o", "out.onnx", "--pruning-ratio", "0.5", "--json")
    assert ran.json["verified"]["measured"] == 1
    assert load_plan(tmp_path / "out.prune.json").analysis["measured"] == {"n": [4, 64]}
    assert command("apply", "net.onnx", "out.prune.json", "-o", "again.onnx", "--no-verify").code == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()


@pytest.mark.parametrize(
    ("layout", "files"),
    [
        ("keep", ["out.onnx", "out.onnx.data"]),
        ("embedded", ["out.onnx"]),
        ("single", ["out.onnx", "out.onnx.data"]),
    ],
)
def test_layouts(command: Command, net: Path, layout: str, files: list[str]) -> None:
    onnx.save(conv_chain((512, 64)), net, save_as_external_data=True, location="weights.bin", size_threshold=0)
    ran = command("prune", "net.onnx", "-o", "out.onnx", "--pruning-ratio", "0.5", "--layout", layout, "--json")
    assert ran.code == 0
    assert sorted(name for name in contents(net.parent) if name.startswith("out.onnx")) == files
    assert [ran.json["output"], *ran.json["data_files"]] == files
    assert ran.json["bytes"]["after"] == sum(len(contents(net.parent)[name]) for name in files)
    assert ran.json["bytes"]["before"] == sum(len(contents(net.parent)[name]) for name in ("net.onnx", "weights.bin"))


class TestWhatIsWritten:
    def test_a_dry_run_writes_nothing(self, command: Command, net: Path) -> None:
        before = contents(net.parent)
        ran = command("prune", net, "--pruning-ratio", "0.5", "--dry-run")
        assert ran.code == 0
        assert re.search(r"w0:0 +│ channels +│ 16 of 32", ran.out)
        assert ran.out.endswith("dry run: nothing was written\n")
        assert contents(net.parent) == before

    @pytest.mark.parametrize(
        ("output", "plan"),
        [
            ("small.onnx", "small.prune.json"),
            ("small.v1.onnx", "small.v1.prune.json"),
            ("small.v1", "small.v1.prune.json"),
            ("small", "small.prune.json"),
        ],
    )
    def test_the_plan_is_beside_the_model(self, command: Command, net: Path, output: str, plan: str) -> None:
        (net.parent / "sub").mkdir()
        assert command("prune", net, "-o", f"sub/{output}", "--pruning-ratio", "0.5").code == 0
        assert sorted(contents(net.parent / "sub")) == sorted([output, plan])

    def test_a_plan_alone_is_beside_its_model(self, command: Command, net: Path) -> None:
        ran = command("plan", net, "--pruning-ratio", "0.5")
        assert ran.out.endswith(f"wrote {net.with_name('net.prune.json')}\n")
        assert sorted(contents(net.parent)) == ["net.onnx", "net.prune.json"]

    def test_earlier_results_are_replaced(self, command: Command, net: Path) -> None:
        assert command("prune", net, "-o", "out.onnx", "--pruning-ratio", "0.5").code == 0
        first = contents(net.parent)
        assert command("prune", net, "-o", "out.onnx", "--pruning-ratio", "0.25").code == 0
        second = contents(net.parent)
        assert sorted(first) == sorted(second) == ["net.onnx", "out.onnx", "out.prune.json"]
        assert first["net.onnx"] == second["net.onnx"]
        assert kept(Path("out.prune.json")) == {"w0:0": 24, "w1:0": 16}

    def test_earlier_results_stay_where_the_new_ones_fail(self, command: Command, net: Path) -> None:
        assert command("prune", net, "-o", "out.onnx", "--pruning-ratio", "0.5").code == 0
        before = contents(net.parent)
        assert command("prune", net, "-o", "out.onnx", "--max-macs", "1%").code == 4
        assert command("prune", net, "-o", "out.onnx", "--pruning-ratio", "0.3", "--provider", "coreml").code == 2
        assert contents(net.parent) == before

    def test_a_plan_that_removes_nothing_says_so(self, command: Command, net: Path) -> None:
        ran = command("prune", net, "-o", "out.onnx", "--pruning-ratio", "0.1")
        assert ran.code == 0
        assert "the plan removes nothing" in ran.err
        assert onnx.load("out.onnx") == onnx.load(net)

    def test_without_verification(self, command: Command, net: Path) -> None:
        ran = command("prune", net, "-o", "out.onnx", "--pruning-ratio", "0.5", "--no-verify")
        assert ran.code == 0
        assert "wrote out.onnx, not verified" in ran.out


class TestLoudness:
    def test_quiet(self, command: Command, net: Path) -> None:
        for arguments in (
            ("inspect", net),
            ("plan", net, "--pruning-ratio", "0.5"),
            ("apply", net, "net.prune.json", "-o", "a.onnx"),
            ("prune", net, "-o", "b.onnx", "--pruning-ratio", "0.1"),
            ("doctor",),
        ):
            ran = command(*arguments, "-q")
            assert (ran.code, ran.out, ran.err) == (0, "", "")

    def test_quiet_errors_are_said(self, command: Command) -> None:
        assert command("inspect", "none.onnx", "-q").err.startswith("onnxprune: cannot read none.onnx")

    def test_verbose_says_how_long_each_step_took(self, command: Command, net: Path) -> None:
        ran = command("prune", net, "-o", "out.onnx", "--pruning-ratio", "0.5", "-v")
        steps = re.findall(r"onnxprune: (\w+) .*: \d+\.\d s\n", ran.err)
        assert steps == ["Analysing", "Scoring", "Removing", "Writing"]
        assert re.search(r"w0:0 +│ channels +│ 16 of 32", ran.out)
