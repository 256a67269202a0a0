"""`onnxprune prune`: plan and apply in one."""

from __future__ import annotations

from onnxprune.cli.calibration import Calibrating, Judging
from onnxprune.cli.clocking import Clocking, read_latency
from onnxprune.cli.options import Analysis, Budgets, Choosing, Common, DryRun, ModelPath, Reach, Writing
from onnxprune.cli.repairing import Repairing


def prune(
    model: ModelPath,
    budgets: Budgets,
    reach: Reach,
    choosing: Choosing,
    judging: Judging,
    calibrating: Calibrating,
    clocking: Clocking,
    repairing: Repairing,
    analysis: Analysis,
    writing: Writing,
    common: Common,
    dry_run: DryRun = False,
) -> None:
    """Choose what to remove under a budget, remove it, and verify the result.

    Writes the smaller model and, beside it, the plan (OUT's name with .prune.json); both or neither. With --data the
    weights that are left are re-fitted. It costs accuracy all the same: measure it on your data before you ship.
    """
    from onnxprune.cli.calibration import open_given
    from onnxprune.cli.choosing import (
        choice_as_json,
        choose,
        default_plan_path,
        explained,
        read_budget,
        read_drop,
        show,
    )
    from onnxprune.cli.repairing import repair_for
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import carry_out, check_settings, check_targets
    from onnxprune.edit import carry
    from onnxprune.errors import SettingError
    from onnxprune.graph.io import load
    from onnxprune.plan import to_json

    here = Session(common)
    budget = read_budget(budgets)
    wish = read_latency(budgets.max_latency, clocking)
    drop = read_drop(budgets.drop_blocks, budget, wish)
    if writing.output is None and not dry_run:
        raise SettingError("no output is given", remedy="give -o OUT.onnx, or --dry-run")
    output = writing.output or model
    if not dry_run:
        check_settings(writing)
    loaded = load(model)
    if not dry_run:
        check_targets(loaded, [output])
        check_targets(loaded, [default_plan_path(output)])
    coupling = here.analyse(loaded, analysis)
    data = open_given(here, coupling, calibrating)
    choice = choose(here, coupling, budget, reach, choosing, judging, calibrating, clocking, wish, drop, data)
    repair = repair_for(here, coupling, choice.plan, data, repairing, calibrating)
    if dry_run:
        if repair is not None:
            repair(carry(coupling, choice.plan))
            choice = explained(coupling, choice, repair.layers)
        show(here, choice.plan, choice.rows)
        here.say("dry run: nothing was written")
        here.answer({"plan": None, "output": None, **choice_as_json(choice)})
        return
    plan_path = default_plan_path(output)
    beside = {plan_path.name: to_json(choice.plan).encode()}
    written = carry_out(here, coupling, choice.plan, output, writing, beside, repair)
    here.say_plain(f"wrote {plan_path}, the plan")
    if repair is not None:
        choice = explained(coupling, choice, repair.layers)
    if here.verbose:
        show(here, choice.plan, choice.rows, with_costs=False)
    here.answer({"plan": str(plan_path), **choice_as_json(choice), **written})
