"""`inspect`: the page and the copy that name groups."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.support.commandline import Command, contents
from tests.support.extras import needs


def test_page_and_copy(command: Command, net: Path) -> None:
    needs("jinja2")
    ran = command("inspect", net, "--html", "net.html", "--annotate", "marked.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("wrote net.html\nwrote marked.onnx\n")
    page = Path("net.html").read_text(encoding="utf-8")
    assert "groups of units that can be removed" in page
    assert "an output of the model" in page
    nodes = onnx.load("marked.onnx").graph.node
    assert any(entry.key == "onnxprune.groups" for node in nodes for entry in node.metadata_props)


@pytest.mark.parametrize(
    ("option", "target"), [("--html", "net.onnx"), ("--annotate", "net.onnx"), ("--html", "nowhere/net.html")]
)
def test_what_cannot_be_written(command: Command, net: Path, option: str, target: str) -> None:
    before = contents(net.parent)
    ran = command("inspect", net, option, target)
    assert (ran.code, ran.err.count("\n")) == (6, 1)
    assert contents(net.parent) == before
