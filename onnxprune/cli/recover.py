"""`onnxprune recover`: train a pruned model, with labels, with its dense model as a teacher, or with both."""

from __future__ import annotations

from onnxprune.cli.options import Analysis, Common, ModelPath, Writing
from onnxprune.cli.scoring import Scoring
from onnxprune.cli.training import Course, Keeping, Lasso, Lessons, Teaching, Zeros


def recover(
    model: ModelPath,
    lessons: Lessons,
    scoring: Scoring,
    teaching: Teaching,
    course: Course,
    zeros: Zeros,
    lasso: Lasso,
    keeping: Keeping,
    analysis: Analysis,
    writing: Writing,
    common: Common,
) -> None:
    """Train a pruned model: labels, its dense model as teacher, or both.

    The graph stays as it is and weights get better values. After each epoch ONNX Runtime judges the model as it would
    be written, and the best one is. Zeros stay zeros. On several GPUs or machines: `accelerate launch -m onnxprune
    recover …`.
    """
    from onnxprune.cli.recovering import carry_out
    from onnxprune.cli.session import Session

    carry_out(Session(common), model, lessons, scoring, teaching, course, zeros, lasso, keeping, analysis, writing)
