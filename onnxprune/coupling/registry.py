"""The table of operator rules. One operator is one rule per range of opsets: its links, literals and MACs together.

    @rule("Concat", since=4)
    def concat(node: NodeView, link: Link) -> None: ...

    @concat.literals
    def _(node: NodeView, edit: Rewrite) -> None: ...

    @concat.macs
    def _(node: NodeView) -> Work: ...

A rule whose links mix says so with `mixes` (or `in_training`, if only then), one that always declines with `frozen`: a
text, or one per operator. The operator table prints them; tests hold them against what analysis of single nodes shows.

`links` says how the atoms of the node's tensors hang together. `literals` (optional) states, after units were removed,
the sizes that the node itself carries: attributes, and inputs that are sizes. `macs` (optional) states its
multiply-accumulates as a product of axis lengths, or as a list of such products that add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from onnxprune.coupling.atoms import Link

if TYPE_CHECKING:
    from onnxprune.coupling.nodeview import NodeView, Work
    from onnxprune.coupling.rewrite import Rewrite

LinkFunction = Callable[["NodeView", Link], None]
LiteralFunction = Callable[["NodeView", "Rewrite"], None]
MacsFunction = Callable[["NodeView"], "Work | list[Work]"]
Texts = str | Mapping[str, str]  # one for all operators of a rule, or one per operator; "" or absent for none


@dataclass
class Rule:
    """What is known of some operators, from opset `since` on. `shapeless`: it needs no shapes to say what it says.

    `mixes` is what changes where an index goes over which a statistic runs, `in_training` what does so in training
    mode alone, `frozen` why nothing goes.
    """

    ops: tuple[str, ...]
    since: int
    domain: str
    link: LinkFunction
    rewrite: LiteralFunction | None = None
    work: MacsFunction | None = None
    doc: str = field(default="")
    shapeless: bool = False
    mixes: Texts = ""
    in_training: str = ""
    frozen: Texts = ""

    def effect(self, op: str) -> tuple[str, str]:
        """("exact", ""), ("mix", what changes) or ("frozen", why), for one of the rule's operators."""
        for name, texts in (("frozen", self.frozen), ("mix", self.mixes)):
            if text := texts if isinstance(texts, str) else texts.get(op, ""):
                return name, text
        return "exact", f"in training mode mix: {self.in_training}" if self.in_training else ""

    def literals(self, function: LiteralFunction) -> LiteralFunction:
        if self.rewrite is not None:
            raise ValueError(f"{self.ops} have literals already")
        self.rewrite = function
        return function

    def macs(self, function: MacsFunction) -> MacsFunction:
        if self.work is not None:
            raise ValueError(f"{self.ops} have MACs already")
        self.work = function
        return function


class Registry:
    """Rules by (domain, operator); the newest whose `since` the model's opset reaches applies."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str], list[Rule]] = {}

    def add(self, new: Rule) -> None:
        for op in new.ops:
            known = self._rules.setdefault((new.domain, op), [])
            if any(old.since == new.since for old in known):
                raise ValueError(f"a rule for {new.domain or 'ai.onnx'}.{op} since opset {new.since} exists already")
            known.append(new)
            known.sort(key=lambda r: -r.since)

    def find(self, domain: str, op: str, opset: int) -> Rule | None:
        """The rule for an operator; an `opset` of 0, a domain that the model does not import, counts as the first."""
        for known in self._rules.get((domain, op), ()):
            if known.since <= max(opset, 1):
                return known
        return None

    def __iter__(self) -> Iterator[tuple[str, str, Rule]]:
        for (domain, op), rules in sorted(self._rules.items()):
            for known in rules:
                yield domain, op, known


RULES = Registry()


def rule(
    *ops: str,
    since: int = 1,
    domain: str = "",
    registry: Registry = RULES,
    shapeless: bool = False,
    mixes: Texts = "",
    in_training: str = "",
    frozen: Texts = "",
) -> Callable[[LinkFunction], Rule]:
    """Register the decorated function as the links of `ops`. Raises ValueError on a duplicate."""

    def register(function: LinkFunction) -> Rule:
        doc = (function.__doc__ or "").strip()
        new = Rule(ops, since, domain, function, None, None, doc, shapeless, mixes, in_training, frozen)
        registry.add(new)
        return new

    return register


def same_rule(known: Rule, *ops: str, domain: str, registry: Registry = RULES) -> Rule:
    """Register what `known` says (its links, literals, MACs) for operators of another domain that do the same."""
    new = replace(known, ops=ops, since=1, domain=domain)
    registry.add(new)
    return new
