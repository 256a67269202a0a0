"""Time as a budget on the command line; the clock is a command that counts the bytes of a file."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import onnx
import pytest

from onnxprune.analyse import analyse
from onnxprune.plan.predicting import lengths_by_group
from onnxprune.plan.table import LatencyTable, Sample, save_table
from onnxprune.runtime.segments import find_cuts
from tests.support.commandline import BYTES, Command
from tests.support.planning import conv_chain


@pytest.fixture
def table(net: Path, tmp_path: Path) -> Path:
    """A table on which time is in proportion to MACs."""
    coupling = analyse(net)
    lengths, sizes = lengths_by_group(coupling), [g.size for g in coupling.groups]
    cuts = find_cuts(coupling)
    segment = cuts.segment_of(coupling)[coupling.work_sites]
    samples = []
    for share in (1.0, 0.75, 0.5, 0.25):
        kept = tuple(round(size * share) for size in sizes)
        macs = coupling.footprint.macs_by_work(lengths(kept)) / 1000
        times = tuple(float(macs[segment == k].sum()) for k in range(len(cuts.after) + 1))
        samples.append(Sample(kept, sum(times), times))
    groups = {g.name: g.size for g in coupling.groups}
    path = tmp_path / "table.json"
    save_table(LatencyTable(coupling.view.model.digest, {}, groups, cuts.after, tuple(samples)), path)
    return path


def test_a_table_that_is_given_makes_the_same_plan_again(
    command: Command, net: Path, table: Path, tmp_path: Path
) -> None:
    plans = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.prune.json"
        ran = command(
            "plan", net, "--max-latency", "60%", "--latency-table", table, "-o", out, "--json", "--threads", 1
        )
        assert ran.code == 0, ran.err
        plans.append(out.read_bytes())
        after = ran.json["after"]["latency"] / ran.json["before"]["latency"]
        assert 0.4 < after <= 0.6
        assert ran.json["latency"]["before"] > 0
    assert plans[0] == plans[1]


def test_a_table_is_measured_and_kept(command: Command, tmp_path: Path) -> None:
    net, where = tmp_path / "wide.onnx", tmp_path / "new.json"
    onnx.save(conv_chain((256, 256)), net)
    ran = command(
        "prune", net, "-o", tmp_path / "out.onnx", "--max-latency", "70%", "--latency-cmd", BYTES,
        "--latency-table", where, "--threads", 1, "--no-cache", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["latency"]["share"] <= 0.7
    assert (tmp_path / "out.onnx").stat().st_size <= 0.7 * net.stat().st_size + 64
    document = json.loads(where.read_text())
    assert document["samples"][0]["kept"] == list(document["groups"].values())
    again = command(
        "plan", net, "-o", tmp_path / "again.json", "--max-latency", "70%", "--latency-cmd", BYTES, "--latency-table",
        where, "--threads", 1, "--json",
    )  # fmt: skip
    assert again.json["groups"] == ran.json["groups"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--max-latency", "fast"), "--max-latency 'fast' is no time"),
        (("--max-latency", "150%"), "is no time"),
        (("--max-latency", "0ms"), "is no time"),
        (("--max-macs", "50%", "--latency-table", "t.json"), "for --max-latency alone"),
        (("--max-latency", "50%", "--latency-cmd", "bench"), "does not say where the model goes"),
        (("--max-macs", "50%", "--round-to", "some"), "--round-to 'some' is no number"),
        (("--max-macs", "50%", "--round-to", "0"), "--round-to '0' is no number"),
    ],
)
def test_what_cannot_be_read(command: Command, net: Path, options: tuple[str, ...], says: str) -> None:
    ran = command("plan", net, *options)
    assert ran.code == 2
    assert says in ran.err


def test_a_table_of_another_model(command: Command, net: Path, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    ran = command("plan", net, "--max-latency", "50%", "--latency-table", tmp_path / "t.json")
    assert ran.code == 2
    assert "the field 'schema' is missing" in ran.err


def test_a_failing_clock_leaves_nothing(command: Command, net: Path, table: Path, tmp_path: Path) -> None:
    fails = f"{shlex.quote(sys.executable)} -c 'raise SystemExit(4)' {{model}}"
    ran = command(
        "prune",
        net,
        "-o",
        tmp_path / "out.onnx",
        "--max-latency",
        "50%",
        "--latency-cmd",
        fails,
        "--latency-table",
        table,
    )
    assert ran.code == 2
    assert "ended with code 4" in ran.err
    assert not (tmp_path / "out.onnx").exists()
