"""`onnxprune plan`: choose what to remove, and write that down."""

from __future__ import annotations

from onnxprune.cli.calibration import Calibrating, Judging
from onnxprune.cli.clocking import Clocking, read_latency
from onnxprune.cli.options import Analysis, Budgets, Choosing, Common, ModelPath, PlanOutput, Reach


def plan(
    model: ModelPath,
    budgets: Budgets,
    reach: Reach,
    choosing: Choosing,
    judging: Judging,
    calibrating: Calibrating,
    clocking: Clocking,
    analysis: Analysis,
    common: Common,
    output: PlanOutput = None,
) -> None:
    """Choose what to remove under a budget, and write the plan to a file.

    The plan lists for every stored tensor the indices that stay, and belongs to this very model.
    """
    from onnxprune.cli.calibration import open_given
    from onnxprune.cli.choosing import choice_as_json, choose, default_plan_path, read_budget, read_drop, show
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import check_targets
    from onnxprune.graph.io import load
    from onnxprune.plan import save_plan

    here = Session(common)
    budget = read_budget(budgets)
    wish = read_latency(budgets.max_latency, clocking)
    drop = read_drop(budgets.drop_blocks, budget, wish)
    path = output or default_plan_path(model)
    loaded = load(model)
    check_targets(loaded, [path])
    coupling = here.analyse(loaded, analysis)
    data = open_given(here, coupling, calibrating)
    choice = choose(here, coupling, budget, reach, choosing, judging, calibrating, clocking, wish, drop, data)
    save_plan(choice.plan, path)
    show(here, choice.plan, choice.rows)
    here.say_plain(f"wrote {path}")
    here.answer({"plan": str(path), **choice_as_json(choice)})
