"""What `recover` learns from and is judged by, from its options: samples, the teacher, the metric, penalties."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxprune.cli.options import Analysis
from onnxprune.cli.scoring import Scoring
from onnxprune.cli.session import Session
from onnxprune.cli.training import Lasso, Lessons, Teaching
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.graph.model import Model
    from onnxprune.recover.settings import Settings
    from onnxprune.runtime.data import Data
    from onnxprune.runtime.metrics import Judge

_HELD_BYTES = 1 << 31  # samples are read several times
_FEATURES = 8  # intermediate values that are matched


def open_lessons(here: Session, view: Any, lessons: Lessons) -> tuple[Data, Data]:
    """The samples to learn from and those that judge."""
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


def import_teacher(
    here: Session, view: Any, settings: Settings, teaching: Teaching, analysis: Analysis
) -> tuple[Any, dict[str, str]]:
    """The dense model as a Teacher, None where there is none, and what a checkpoint shall say of it."""
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
    return Teacher(module, features, repeats=not settings.changes_samples), {"teacher": dense.digest}


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


def make_judge(
    here: Session, view: Any, lessons: Lessons, scoring: Scoring, labelled: bool, teacher: Path | None, valid: Data,
    settings: Settings,
) -> Judge:  # fmt: skip
    """Judges by the metric that is asked for, else by the one that goes with what is learnt."""
    from onnxprune.cli.scoring import read_scoring
    from onnxprune.recover.judging import default_metric
    from onnxprune.runtime.metrics import Judge

    with_labels = labelled and valid.labels is not None
    default = default_metric(view, lessons.loss or "cross_entropy", labels=with_labels, teacher=teacher is not None)
    chosen = scoring.metric or default
    if chosen is None:
        raise SettingError(
            "nothing says which epoch is the best", remedy="give --metric, --teacher DENSE, or labels in --valid"
        )
    metric, reading = read_scoring(scoring, chosen)
    if metric.needs == "dense" and teacher is None:
        raise SettingError(
            f"--metric {metric.name} compares with the dense model", remedy="give --teacher DENSE, or another metric"
        )
    return Judge(teacher or view.model, valid, metric, reading, options=here.options, batch=settings.batch)


def read_penalty(lasso: Lasso) -> Any:
    """The GroupLasso that is asked for, None where there is none."""
    from onnxprune.plan.files import load_plan
    from onnxprune.recover.lasso import GroupLasso

    if not lasso.lasso:
        return None
    if lasso.lasso_plan is None:
        raise SettingError("--lasso needs to know which units", remedy="give --lasso-plan PLAN, a plan for this model")
    return GroupLasso(load_plan(lasso.lasso_plan).tensors, lasso.lasso)
