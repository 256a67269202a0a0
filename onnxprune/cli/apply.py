"""`onnxprune apply`: carry out a plan."""

from __future__ import annotations

from onnxprune.cli.options import Common, ModelPath, PlanPath, Writing


def apply(model: ModelPath, plan: PlanPath, writing: Writing, common: Common) -> None:
    """Carry out a plan on the model that it was made for.

    The model is analysed as it was for the plan; a plan for another model is refused.
    """
    from onnxprune.cli.choosing import as_json
    from onnxprune.cli.session import Session
    from onnxprune.cli.writing import carry_out, check_settings, check_targets
    from onnxprune.edit.apply import analysis_options
    from onnxprune.errors import SettingError
    from onnxprune.graph.io import load
    from onnxprune.plan import check_plan, load_plan

    here = Session(common)
    if writing.output is None:
        raise SettingError("no output is given", remedy="give -o OUT.onnx")
    check_settings(writing)
    loaded = load(model)
    chosen = load_plan(plan)
    check_targets(loaded, [writing.output], [plan])
    coupling = here.analyse_with(loaded, analysis_options(chosen))
    check_plan(coupling, chosen)
    written = carry_out(here, coupling, chosen, writing.output, writing)
    here.answer({"plan": str(plan), **as_json(chosen), **written})
