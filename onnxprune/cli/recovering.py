"""From the options of `recover` to a trained model on disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from onnxprune.cli.lessons import import_teacher, make_judge, open_lessons, read_penalty
from onnxprune.cli.options import Analysis, Writing
from onnxprune.cli.scoring import Scoring
from onnxprune.cli.session import Session
from onnxprune.cli.training import Course, Keeping, Lasso, Lessons, Teaching, Zeros
from onnxprune.errors import OutputError, SettingError

if TYPE_CHECKING:
    from onnxprune.graph.layout import Layout
    from onnxprune.graph.model import Model
    from onnxprune.recover.job import Job
    from onnxprune.recover.settings import Settings
    from onnxprune.runtime.data import Data


def carry_out(
    here: Session,
    path: Path,
    lessons: Lessons,
    scoring: Scoring,
    teaching: Teaching,
    course: Course,
    zeros: Zeros,
    lasso: Lasso,
    keeping: Keeping,
    analysis: Analysis,
    writing: Writing,
) -> None:
    """Check all that can be known before, train, write, say what came of it."""
    from onnxprune.cli.writing import check_settings, check_targets
    from onnxprune.graph.io import load, save

    if writing.output is None:
        raise SettingError("no output is given", remedy="give -o OUT.onnx")
    if lessons.data is None:
        raise SettingError("no data is given", remedy="give --data DATA")
    check_settings(writing)
    model = load(path)
    check_targets(model, [writing.output])
    settings = _settings(here, lessons, teaching, course, lasso)
    folder = keeping.checkpoints or writing.output.with_name(writing.output.name + ".recover")
    job = _job(here, model, settings, lessons, scoring, teaching, zeros, lasso, analysis, folder, keeping.cpu)

    from onnxprune.cli.logs import Logs
    from onnxprune.recover.trainer import Trainer

    _make(folder)
    with Logs(here, keeping.log, keeping.tensorboard) as logs:
        trainer = Trainer(job, resume=keeping.resume, told=logs)
        done = trainer.run()
    if not trainer.is_main:  # one of several processes: another one writes
        return
    with here.step(f"Writing {writing.output}"):
        saved = save(
            done.model, writing.output, layout=cast("Layout", writing.layout), check=_check(here, model, writing)
        )
    if keeping.checkpoints is None:
        shutil.rmtree(folder, ignore_errors=True)
    which = "at the end of" if job.keep_last else "at best over"
    name = job.judge.metric.name
    here.say_plain(f"{name}: {done.before:.4f} before, {done.metric:.4f} {which} {len(done.history) - 1} epochs")
    here.say_plain(f"wrote {saved.path}")
    here.answer({
        "output": str(saved.path), "judged_by": name, "metric": done.metric, "before": done.before,
        "history": list(done.history), "settings": settings.as_dict() | asdict(trainer.way),
    })  # fmt: skip


def _settings(here: Session, lessons: Lessons, teaching: Teaching, course: Course, lasso: Lasso) -> Settings:
    from onnxprune.recover.settings import Settings

    known = {field.name for field in fields(Settings)}
    parts = (course, teaching, lessons, lasso)
    given = {name: value for part in parts for name, value in asdict(part).items() if name in known}
    given |= {"seed": here.seed, "freeze": tuple(course.freeze or ())}
    return Settings(**given)


def _job(
    here: Session, model: Model, settings: Settings, lessons: Lessons, scoring: Scoring, teaching: Teaching,
    zeros: Zeros, lasso: Lasso, analysis: Analysis, folder: Path, on_cpu: bool,
) -> Job:  # fmt: skip
    from onnxprune.graph.view import GraphView
    from onnxprune.recover import to_torch
    from onnxprune.recover.device import has_gpu, use_threads
    from onnxprune.recover.job import Job
    from onnxprune.recover.losses import ending_of, loss_of
    from onnxprune.recover.sparse import courses_of

    use_threads(here.options.threads)
    view = GraphView(model)
    with here.step("Importing into torch"):
        module = to_torch(model, freeze=settings.freeze)
    data, valid = open_lessons(here, view, lessons)
    is_script = data.samples is None  # whose labels show when it is run
    labelled = lessons.loss != "none" and (data.labels is not None or (is_script and lessons.loss is not None))
    if not labelled and teaching.teacher is None:
        raise SettingError("there is nothing to learn from: no labels, no teacher", remedy="give --teacher DENSE")
    ends = {name: ending_of(view, name) for name in view.outputs}
    first = next(iter(view.outputs))
    loss = loss_of(lessons.loss or "cross_entropy", first, ends[first], settings.label_smoothing) if labelled else None
    teacher, identity = import_teacher(here, view, settings, teaching, analysis)
    judge = make_judge(here, view, lessons, scoring, labelled, teaching.teacher, valid, settings)
    penalty, courses = read_penalty(lasso), courses_of(module, zeros.zeros, zeros.zeros_course)
    identity |= {
        "model": model.digest, "data": _told(data), "validation data": _told(valid), "loss": str(lessons.loss),
        "metric": " ".join(judge.metric.settings()), "zeros": f"{zeros.zeros} {zeros.zeros_course}",
        "keep": lessons.keep,
        "lasso plan": "" if penalty is None else _content(lasso.lasso_plan),
    }  # fmt: skip
    return Job(
        model, module, data, judge, settings, loss, teacher, ends, penalty, courses, folder, identity,
        cpu=on_cpu or not has_gpu(), keep_last=lessons.keep == "last" or penalty is not None or bool(courses),
    )  # fmt: skip


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder} of checkpoints: {error.strerror}", remedy="name another by --checkpoints"
        ) from error


def _told(data: Data) -> str:
    """What tells data from other data."""
    return data.origin if data.samples is None else data.sha256


def _content(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _check(here: Session, model: Model, writing: Writing) -> Callable[[Path], None] | None:
    """Runs the written file in ONNX Runtime before it takes its name."""
    if writing.no_verify:
        return None
    from onnxprune.graph.bindings import bind_inputs
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.verify import verify_file

    shapes: Mapping[str, Any] = bind_inputs(GraphView(model)).shapes

    def check(path: Path) -> None:
        verify_file(path, model.path, shapes, {}, here.options)

    return check
