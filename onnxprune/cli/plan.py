"""`onnxprune plan`: choose what to remove, and write that down."""

from __future__ import annotations

from onnxprune.cli.calibration import Calibrating, Judging
from onnxprune.cli.options import Analysis, Budgets, Choosing, Common, ModelPath, PlanOutput, Reach


def plan(
    model: ModelPath,
    budgets: Budgets,
    reach: Reach,
    choosing: Choosing,
    judging: Judging,
    calibrating: Calibrating,
    analysis: Analysis,
    common: Common,
    output: PlanOutput = None,
) -> None:
    """Choose what to remove under a budget, and write the plan to a file.

    The plan lists for every stored tensor the indices that stay, and belongs to this very model.
    """
    from onnxprune.cli.choosing import as_json, choose, default_plan_path, read_budget, rows_as_json, show
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import check_targets
    from onnxprune.graph.io import load
    from onnxprune.plan import save_plan

    here = Session(common)
    budget = read_budget(budgets)
    path = output or default_plan_path(model)
    loaded = load(model)
    check_targets(loaded, [path])
    coupling = here.analyse(loaded, analysis)
    chosen, rows = choose(here, coupling, budget, reach, choosing, judging, calibrating)
    save_plan(chosen, path)
    show(here, chosen, rows)
    here.say_plain(f"wrote {path}")
    here.answer({"plan": str(path), **as_json(chosen), **rows_as_json(rows)})
