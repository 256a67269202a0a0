"""A save that is killed or fails leaves the old files, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import onnxprune
from onnxprune.errors import OutputError, VerificationError
from onnxprune.graph.atomic import AtomicFiles
from tests.graph.protos import tiny
from tests.graph.test_save import files

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys, time, numpy as np, onnxprune
from tests.graph.protos import tiny
model = onnxprune.load(tiny(512)).copy()
def slow():
    print("writing", flush=True)
    time.sleep(60)
{edit}
onnxprune.save(model, sys.argv[1], layout=sys.argv[2], check={check})
"""


def child(edit: str, target: Path, layout: str, *, check: str = "None", **options: object) -> subprocess.Popen[str]:
    code = CHILD.format(edit=edit, check=check)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(target), layout],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("layout", ["embedded", "single", "many"])
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_save_leaves_the_old_files(tmp_path: Path, layout: str, signal_number: int) -> None:
    target = tmp_path / "o.onnx"
    onnxprune.save(onnxprune.load(tiny(64)), target, layout=layout)
    before = files(tmp_path)
    # w is written, then b is being computed when the signal comes
    process = child("model.defer('b', (512,), slow)", target, layout)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.05)
    process.send_signal(signal_number)
    process.communicate()
    assert process.returncode != 0
    left = files(tmp_path)
    assert {name: left[name] for name in before} == before
    assert onnxprune.load(target).array("w").shape == (64, 64)
    if signal_number == signal.SIGINT:
        assert left == before
    onnxprune.save(onnxprune.load(tiny(64)), target, layout=layout)  # the next save clears what was left
    assert files(tmp_path) == before


@pytest.mark.parametrize("layout", ["embedded", "single", "many"])
def test_a_save_killed_during_its_check_leaves_the_old_files(tmp_path: Path, layout: str) -> None:
    target = tmp_path / "o.onnx"
    onnxprune.save(onnxprune.load(tiny(64)), target, layout=layout)
    before = files(tmp_path)
    process = child("", target, layout, check="lambda path: slow()")
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    left = files(tmp_path)
    assert {name: left[name] for name in before} == before
    onnxprune.save(onnxprune.load(tiny(64)), target, layout=layout)
    assert files(tmp_path) == before
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("layout", ["embedded", "single", "many"])
def test_a_check_sees_the_whole_model_before_it_has_its_name(tmp_path: Path, layout: str) -> None:
    target = tmp_path / "o.onnx"
    seen: list[str] = []

    def check(path: Path) -> None:
        assert not target.exists()
        seen.append(onnxprune.load(path).digest)

    onnxprune.save(onnxprune.load(tiny(64)), target, layout=layout, check=check)
    assert seen == [onnxprune.load(target).digest]
    before = files(tmp_path)

    def refuse(path: Path) -> None:
        raise VerificationError("differs")

    with pytest.raises(VerificationError):
        onnxprune.save(onnxprune.load(tiny(512)), target, layout=layout, check=refuse)
    assert files(tmp_path) == before
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("layout", ["embedded", "single", "many"])
@pytest.mark.parametrize("old", [True, False], ids=["over an old file", "new"])
def test_a_write_that_runs_out_of_space(tmp_path: Path, layout: str, old: bool) -> None:
    target = tmp_path / "o.onnx"
    if old:
        onnxprune.save(onnxprune.load(tiny(64)), target, layout=layout)
    before = files(tmp_path)
    limit = 200_000  # bytes a file; w has a million

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = child("", target, layout, preexec_fn=limited)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "OutputError: cannot write" in errors
    assert str(target) in errors
    assert "limits allow" in errors
    assert files(tmp_path) == before


def test_a_copy_of_external_data_that_runs_out_of_space(tmp_path: Path) -> None:
    source = tmp_path / "in" / "m.onnx"
    source.parent.mkdir()
    onnxprune.save(onnxprune.load(tiny(512)), source, layout="single")
    before = files(tmp_path)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    edit = f"model = onnxprune.load({str(source)!r})"
    process = child(edit, tmp_path / "o.onnx", "keep", preexec_fn=limited)
    _, errors = process.communicate()
    assert "OutputError: cannot write" in errors
    assert files(tmp_path) == before


def test_a_rename_that_fails_puts_the_others_back(tmp_path: Path) -> None:
    data, model = tmp_path / "o.data", tmp_path / "o"
    data.write_text("old data")

    def write_both() -> None:
        with AtomicFiles() as out:
            out.create(data).write(b"new data")
            file = out.create(model)
            Path(file.name).unlink()  # as if someone else had removed it

    with pytest.raises(OutputError, match=rf"cannot write {model}:"):
        write_both()
    assert files(tmp_path) == {"o.data": b"old data"}


def test_another_writer_of_the_same_target_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "o"
    with AtomicFiles() as first:
        first.create(target).write(b"first")
        with AtomicFiles() as second:
            second.create(target).write(b"second")
        assert target.read_bytes() == b"second"
    assert files(tmp_path) == {"o": b"first"}


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with AtomicFiles() as out:
        out.create(tmp_path / "o").write(b"x")
    assert os.stat(tmp_path / "o").st_mode == os.stat(tmp_path / "usual").st_mode
