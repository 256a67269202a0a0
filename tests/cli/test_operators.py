"""`onnxprune inspect --operators`, with a model and without."""

from __future__ import annotations

from pathlib import Path

from onnx.helper import make_node

from tests.support.commandline import DIGITS, Command
from tests.support.models import make_model


def test_all_operators(command: Command) -> None:
    found = command("inspect", "--operators", "--json").json["operators"]
    assert len(found) > 300
    softmax = [row for row in found if (row["domain"], row["op"]) == ("", "Softmax")]
    assert [(row["since"], row["effect"], row["note"]) for row in softmax] == [
        (1, "mix", "Softmax runs over it"), (13, "mix", "Softmax runs over it"),
    ]  # fmt: skip
    assert {row["effect"] for row in found} == {"exact", "mix", "frozen"}


def test_those_of_a_model(command: Command) -> None:
    found = command("inspect", DIGITS, "--operators", "--json").json
    assert found["model"] == str(DIGITS)
    conv = next(row for row in found["operators"] if row["op"] == "Conv")
    assert (conv["effect"], conv["since"]) == ("exact", 1)
    assert conv["nodes"] > 1


def test_an_operator_that_nobody_knows(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "strange.onnx"
    path.write_bytes(
        make_model(
            [make_node("Strange", ["x"], ["y"], domain="com.example")], {"x": [2, 3]}, ["y"], {}
        ).SerializeToString()
    )
    (row,) = command("inspect", path, "--operators", "--json").json["operators"]
    assert (row["domain"], row["op"], row["effect"]) == ("com.example", "Strange", "frozen")
    assert row["note"] == "no rule; one can be added through onnxprune.rules"


def test_as_a_table(command: Command) -> None:
    shown = command("inspect", DIGITS, "--operators").out
    assert "operators" in shown
    assert any("Conv" in line and "exact" in line for line in shown.splitlines())


def test_no_model_and_no_question(command: Command) -> None:
    ran = command("inspect")
    assert ran.code != 0
    assert "MODEL is missing" in ran.err
    assert ran.out == ""
