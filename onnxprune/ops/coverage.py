"""What is known of each operator: a row per operator and rule, for people to look up and for tests to hold to.

A rule declares its effect where it is registered (coupling/registry.py); nothing is stated here a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import defs

from onnxprune.coupling.registry import Registry, Rule
from onnxprune.graph.view import GraphView
from onnxprune.ops import registry

EFFECTS = {
    "exact": "what goes equals the dense model with it set to zero where it is summed over",
    "mix": "as exact, but for the axes over which a statistic runs: indices may go, and the statistic changes",
    "frozen": "what the operator touches stays",
}
NO_RULE = "no rule; one can be added through onnxprune.rules"


@dataclass(frozen=True)
class Row:
    """An operator from opset `since` on: one of EFFECTS, what a person should know of it, and how its axes are linked.

    `says` is the first paragraph of the rule's description, "" where it is frozen.
    """

    domain: str
    op: str
    since: int
    effect: str
    note: str
    says: str


def rows(rules: Registry | None = None) -> list[Row]:
    """Every operator of ai.onnx that the installed onnx has, and all that has a rule, by domain and name."""
    known = registry() if rules is None else rules
    found = [_row(*ruled) for ruled in known]
    have = {row.op for row in found if row.domain == ""}
    names = {schema.name for schema in defs.get_all_schemas() if schema.domain == ""}
    found += [Row("", name, 1, "frozen", NO_RULE, "") for name in names - have]
    return sorted(found, key=lambda row: (row.domain, row.op, row.since))


def _row(domain: str, op: str, rule: Rule) -> Row:
    effect, note = rule.effect(op)
    says = "" if effect == "frozen" else " ".join(rule.doc.split("\n\n")[0].split())
    return Row(domain, op, rule.since, effect, note, says)


def rows_of(view: GraphView, rules: Registry | None = None) -> list[Row]:
    """The rows that apply to the operators of a model, in the opsets that it imports."""
    known = registry() if rules is None else rules
    used = {(node.domain, node.op, node.opset) for node in view.nodes}
    found = []
    for domain, op, opset in sorted(used):
        rule = known.find(domain, op, opset)
        found.append(Row(domain, op, 1, "frozen", NO_RULE, "") if rule is None else _row(domain, op, rule))
    return found
