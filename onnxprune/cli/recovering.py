"""From the options of `recover` to a trained model on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from onnxprune.cli.options import Analysis, Writing
from onnxprune.cli.session import Session
from onnxprune.cli.training import Course, Keeping, Lasso, Lessons, Teaching, Zeros
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.graph.layout import Layout
    from onnxprune.graph.model import Model
    from onnxprune.recover.settings import Settings
    from onnxprune.recover.trainer import Job
    from onnxprune.runtime.data import Data

_HELD_BYTES = 1 << 31  # samples are read several times
_FEATURES = 8  # intermediate values that are matched


def carry_out(
    here: Session,
    path: Path,
    lessons: Lessons,
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
    job = _job(here, model, settings, lessons, teaching, zeros, lasso, analysis, folder, keeping.cpu)

    from onnxprune.cli.logs import Logs
    from onnxprune.recover.trainer import Trainer

    folder.mkdir(parents=True, exist_ok=True)
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
    here.say_plain(f"{done.before:.4f} before, {done.metric:.4f} {which} {len(done.history) - 1} epochs")
    here.say_plain(f"wrote {saved.path}")
    here.answer({
        "output": str(saved.path), "metric": done.metric, "before": done.before, "history": list(done.history),
        "settings": settings.as_dict(),
    })  # fmt: skip


def _settings(here: Session, lessons: Lessons, teaching: Teaching, course: Course, lasso: Lasso) -> Settings:
    from onnxprune.recover.settings import Settings

    given = asdict(course) | {
        "distil": teaching.distil, "temperature": teaching.temperature, "features": teaching.features,
        "layerwise": teaching.layerwise, "flip": lessons.flip, "shift": lessons.shift, "lasso": lasso.lasso,
        "seed": here.seed, "freeze": tuple(course.freeze or ()),
    }  # fmt: skip
    return Settings(**given)


def _job(
    here: Session, model: Model, settings: Settings, lessons: Lessons, teaching: Teaching, zeros: Zeros, lasso: Lasso,
    analysis: Analysis, folder: Path, on_cpu: bool,
) -> Job:  # fmt: skip
    from onnxprune.graph.view import GraphView
    from onnxprune.recover import to_torch
    from onnxprune.recover.device import has_gpu, use_threads
    from onnxprune.recover.losses import ending_of, loss_of
    from onnxprune.recover.sparse import hooks_of
    from onnxprune.recover.trainer import Job

    use_threads(here.options.threads)
    view = GraphView(model)
    with here.step("Importing into torch"):
        module = to_torch(model, freeze=settings.freeze)
    data, valid = _data(here, view, lessons)
    labelled = data.labels is not None and lessons.loss != "none"
    if not labelled and teaching.teacher is None:
        raise SettingError("there is nothing to learn from: no labels, no teacher", remedy="give --teacher DENSE")
    ends = {name: ending_of(view, name) for name in view.outputs}
    first = next(iter(view.outputs))
    loss = loss_of(lessons.loss or "cross_entropy", first, ends[first], settings.label_smoothing) if labelled else None
    teacher, identity = _teacher(here, view, settings, teaching, analysis, repeats=not (lessons.flip or lessons.shift))
    metric = _metric(here, lessons, labelled, teaching.teacher, valid, settings)
    penalty, hooks = _penalty(lasso), hooks_of(module, zeros.zeros, zeros.zeros_course)
    return Job(
        model, module, data, valid, metric, settings, loss, teacher, ends,
        penalty=penalty, hooks=hooks, keep_last=penalty is not None or bool(hooks),
        options=here.options, folder=folder,
        identity={"model": model.digest, "data": data.sha256 if data.samples is not None else data.origin, **identity},
        cpu=on_cpu or not has_gpu(),
    )  # fmt: skip


def _data(here: Session, view: Any, lessons: Lessons) -> tuple[Data, Data]:
    from onnxprune.runtime.data import open_data

    how = {"preprocess": lessons.preprocess, "seed": here.seed}
    with here.step(f"Opening {lessons.data}"):
        data = open_data(str(lessons.data), view, samples=lessons.samples, **how)  # type: ignore[arg-type]
        data.hold(_HELD_BYTES)
        if lessons.valid is not None:
            valid = open_data(lessons.valid, view, **how)  # type: ignore[arg-type]
            valid.hold(_HELD_BYTES)
            return data, valid
    if data.samples is None:
        raise SettingError("a script's data cannot be divided", remedy="give --valid DATA")
    if not 0 < lessons.valid_share < 1:
        raise SettingError(f"--valid-share is {lessons.valid_share}", remedy="it is between 0 and 1, or give --valid")
    held = max(round(data.samples * lessons.valid_share), 1)
    if held >= data.samples:
        raise SettingError(f"{data.origin} has {data.samples} samples: too few", remedy="give more, or --valid DATA")
    return data.part(held), data.part(0, held)


def _teacher(
    here: Session, view: Any, settings: Settings, teaching: Teaching, analysis: Analysis, repeats: bool
) -> tuple[Any, dict[str, str]]:
    from onnxprune.graph.io import load
    from onnxprune.recover import to_torch
    from onnxprune.recover.features import features_of
    from onnxprune.recover.teacher import Teacher

    if teaching.teacher is None:
        if settings.features or settings.layerwise:
            raise SettingError("--features and --layerwise need a teacher", remedy="give --teacher DENSE")
        return None, {}
    dense = load(teaching.teacher)
    features = []
    if settings.features or settings.layerwise:
        coupling, plan = _planned(here, view.model, dense, teaching.plan, analysis)
        features = features_of(view, coupling, plan, _FEATURES)
    with here.step("Importing the teacher"):
        module = to_torch(dense)
    if module.input_names != list(view.inputs) or not set(module.output_names) & set(view.outputs):
        raise SettingError(
            f"--teacher {teaching.teacher}: its inputs are {', '.join(module.input_names)}, "
            f"the model's {', '.join(view.inputs)}",
            remedy="give the dense model that this one was made of",
        )
    return Teacher(module, features, repeats), {"teacher": dense.digest}


def _planned(here: Session, model: Model, dense: Model, given: Path | None, analysis: Analysis) -> tuple[Coupling, Any]:
    """The dense model's coupling and the plan that made the pruned one of it."""
    from onnxprune.cli.choosing import default_plan_path
    from onnxprune.edit.apply import analysis_options
    from onnxprune.plan.files import load_plan

    path = given or default_plan_path(model.path or Path("model.onnx"))
    if not path.exists():
        raise SettingError(
            f"there is no plan {path}, which says what of the teacher's values the model has", remedy="give --plan PLAN"
        )
    plan = load_plan(path)
    return here.analyse_with(dense, analysis_options(plan)), plan


def _metric(
    here: Session, lessons: Lessons, labelled: bool, teacher: Path | None, valid: Data, settings: Settings
) -> Any:
    from onnxprune.graph.io import load
    from onnxprune.recover.evaluate import Agreement, accuracy, negative_error, outputs_of

    if labelled and valid.labels is not None and lessons.loss in (None, "cross_entropy"):
        return accuracy
    if labelled and valid.labels is not None and lessons.loss == "mse":
        return negative_error
    if teacher is not None:
        return Agreement(outputs_of(load(teacher), valid, settings.batch, here.options))
    raise SettingError("nothing says which epoch is the best", remedy="give --teacher DENSE, or labels in --valid")


def _penalty(lasso: Lasso) -> Any:
    from onnxprune.plan.files import load_plan
    from onnxprune.recover.lasso import GroupLasso

    if not lasso.lasso:
        return None
    if lasso.lasso_plan is None:
        raise SettingError("--lasso needs to know which units", remedy="give --lasso-plan PLAN, a plan for this model")
    return GroupLasso(load_plan(lasso.lasso_plan).tensors, lasso.lasso)


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
