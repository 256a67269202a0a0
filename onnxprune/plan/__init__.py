"""From scores and a budget to a plan, and plans as files.

chosen = plan(coupling, score(coupling), Budget(max_macs=0.5))
save_plan(chosen, "model.prune.json")
"""

from onnxprune.edit.selection import check_plan, removed_classes_of
from onnxprune.plan.amount import parse_amount, spell
from onnxprune.plan.files import from_json, load_plan, save_plan, to_json
from onnxprune.plan.planner import plan, plan_for

__all__ = [
    "check_plan",
    "from_json",
    "load_plan",
    "parse_amount",
    "plan",
    "plan_for",
    "removed_classes_of",
    "save_plan",
    "spell",
    "to_json",
]
