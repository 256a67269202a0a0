"""Scores and a budget to a plan: literal choices on models whose costs one can work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.selection import removed_classes_of
from onnxprune.errors import BudgetError, SettingError
from onnxprune.importance import Scores, score
from onnxprune.plan import plan
from onnxprune.types import Budget, Cost, Plan
from tests.support.models import make_model
from tests.support.planning import PIXELS, conv_chain, two_factors


@pytest.fixture(scope="module")
def chain() -> Coupling:
    """3 -> w0 32 -> w1 16 -> 5."""
    return analyse(conv_chain((32, 16)))


def rising(coupling: Coupling, **by_group: list[float]) -> Scores:
    """Scores by which the last units are the best, except for the groups given."""
    return Scores(
        tuple(
            np.asarray(by_group.get(group.axis.tensor, np.arange(1, group.size + 1) / group.size), float)
            for group in coupling.groups
        ),
        "given",
    )


def sizes(made: Plan) -> dict[str, int]:
    return {group.name: len(group.kept) for group in made.groups}


def kept(made: Plan) -> dict[str, tuple[int, ...]]:
    return {group.name: group.kept for group in made.groups}


class TestRatio:
    def test_the_best_units_of_each_group_stay(self) -> None:
        coupling = analyse(conv_chain((4, 6)))
        made = plan(coupling, rising(coupling, w0=[3, 9, 1, 5], w1=[1, 2, 2, 2, 9, 0]), Budget(ratio=0.5))
        assert kept(made) == {"w0:0": (1, 3), "w1:0": (1, 2, 4)}  # of equal ones the first
        assert made.before == Cost(3 * 4 + 4 * 6 + 6 * 5, PIXELS * 66)
        assert made.after == Cost(3 * 2 + 2 * 3 + 3 * 5, PIXELS * 27)

    def test_large_groups_are_rounded(self, chain: Coupling) -> None:
        assert sizes(plan(chain, rising(chain), Budget(ratio=0.3))) == {"w0:0": 24, "w1:0": 8}  # 22.4 and 11.2
        assert sizes(plan(chain, rising(chain), Budget(ratio=0.3), round_to=None)) == {"w0:0": 22, "w1:0": 11}
        assert sizes(plan(chain, rising(chain), Budget(ratio=0.3), round_to=16)) == {"w0:0": 16, "w1:0": 11}

    def test_nothing_is_removed_at_zero(self, chain: Coupling) -> None:
        made = plan(chain, rising(chain), Budget(ratio=0.0))
        assert made.is_empty
        assert made.tensors == {}
        assert made.after == made.before

    @pytest.mark.parametrize("layer", ["conv0", "w0", "w0:0", "c0", "relu0", "c?"])
    def test_a_layers_own_ratio_is_for_what_it_puts_out(self, chain: Coupling, layer: str) -> None:
        made = plan(chain, rising(chain), Budget(ratios={layer: 0.5}))
        assert sizes(made) == {"w0:0": 16, "w1:0": 16 if layer != "c?" else 8}

    def test_a_group_of_its_own_ratio(self, chain: Coupling) -> None:
        made = plan(chain, rising(chain), Budget(ratio=0.5, ratios={"conv0": 0.75, "w1": 0.0}))
        assert sizes(made) == {"w0:0": 8, "w1:0": 16}

    def test_of_several_patterns_the_last_counts(self, chain: Coupling) -> None:
        made = plan(chain, rising(chain), Budget(ratios={"*": 0.5, "w1:0": 0.0}))
        assert sizes(made) == {"w0:0": 16, "w1:0": 16}

    def test_bounds(self, chain: Coupling) -> None:
        assert sizes(plan(chain, rising(chain), Budget(ratio=0.9), min_keep=9)) == {"w0:0": 16, "w1:0": 16}
        made = plan(chain, rising(chain), Budget(ratio=0.9), max_ratio=0.25, round_to=1)
        assert sizes(made) == {"w0:0": 24, "w1:0": 12}

    def test_global_ranking_takes_the_lowest_of_all_groups(self) -> None:
        coupling = analyse(conv_chain((4, 6)))
        scores = rising(coupling, w0=[10, 11, 12, 13], w1=[1, 2, 3, 4, 5, 20])
        made = plan(coupling, scores, Budget(ratio=0.5), ranking="global")
        assert kept(made) == {"w0:0": (0, 1, 2, 3), "w1:0": (5,)}

    def test_global_ranking_leaves_each_group_its_least(self) -> None:
        coupling = analyse(conv_chain((4, 6)))
        scores = rising(coupling, w0=[10, 11, 12, 13], w1=[1, 2, 3, 4, 5, 6])
        made = plan(coupling, scores, Budget(ratio=0.9), ranking="global", min_keep=2)
        assert kept(made) == {"w0:0": (2, 3), "w1:0": (4, 5)}

    def test_global_ranking_stands_aside_for_a_ratio_of_its_own(self) -> None:
        coupling = analyse(conv_chain((4, 6)))
        scores = rising(coupling, w0=[1, 2, 3, 4], w1=[9, 9, 9, 9, 9, 9])
        made = plan(coupling, scores, Budget(ratio=0.5, ratios={"w0": 0.25}), ranking="global")
        assert sizes(made) == {"w0:0": 3, "w1:0": 3}


class TestLimits:
    def test_macs_as_a_share(self) -> None:
        # 3*8 + 8*8 + 8*5 = 128 per pixel; a k each: 3k + k*k + 5k <= 64 gives k = 4 (48), and 5 for one of them
        coupling = analyse(conv_chain((8, 8)))
        made = plan(coupling, rising(coupling, w0=[0, 0, 0, 9, 9, 9, 9, 9]), Budget(max_macs=0.5), round_to=None)
        assert made.after is not None
        assert made.after.macs <= PIXELS * 64
        assert sizes(made) == {"w0:0": 5, "w1:0": 4}

    def test_parameters_as_an_amount(self, chain: Coupling) -> None:
        made = plan(chain, rising(chain), Budget(max_parameters=300))
        assert sizes(made) == {"w0:0": 16, "w1:0": 8}  # 48 + 128 + 40; with 24 of w0: 72 + 192 + 40 = 304
        assert made.after == Cost(216, PIXELS * 216)

    def test_the_ratio_is_the_floor(self, chain: Coupling) -> None:
        alone = plan(chain, rising(chain), Budget(ratio=0.5))
        assert plan(chain, rising(chain), Budget(ratio=0.5, max_macs=0.9)).groups == alone.groups
        assert plan(chain, rising(chain), Budget(max_macs=0.9)).groups != alone.groups
        deeper = plan(chain, rising(chain), Budget(ratio=0.5, max_macs=0.1), round_to=None)
        assert all(len(one.kept) < len(other.kept) for one, other in zip(deeper.groups, alone.groups, strict=True))

    def test_several_limits_hold_at_once(self, chain: Coupling) -> None:
        made = plan(chain, rising(chain), Budget(max_macs=0.9, max_parameters=0.4), round_to=None)
        assert made.before is not None
        assert made.after is not None
        assert made.after.parameters <= 0.4 * made.before.parameters
        assert made.after.macs <= 0.9 * made.before.macs

    def test_a_group_of_its_own_ratio_is_left_alone(self, chain: Coupling) -> None:
        made = plan(chain, rising(chain), Budget(max_macs=0.5, ratios={"w1:0": 0.0}))
        assert sizes(made) == {"w0:0": 8, "w1:0": 16}  # 24 + 128 + 80 of 688

    def test_a_limit_that_holds_already_removes_nothing(self, chain: Coupling) -> None:
        assert plan(chain, rising(chain), Budget(max_macs=1.0)).is_empty

    def test_out_of_reach_says_how_far_one_can_get(self, chain: Coupling) -> None:
        # 8 and 8 stay: 24 + 64 + 40 = 128 of 688 parameters
        with pytest.raises(BudgetError) as caught:
            plan(chain, rising(chain), Budget(max_macs=0.1, max_parameters=100))
        assert str(caught.value).startswith(
            "--max-macs allows 4.4K of 44K macs, and 8.19K (18.6%) remain with every group at its minimum; "
            "--max-params allows 100 of 688 parameters, and 128 (18.6%) remain with every group at its minimum. "
            "raise the budget"
        )
        assert sizes(plan(chain, rising(chain), Budget(max_parameters=128))) == {"w0:0": 8, "w1:0": 8}

    @pytest.mark.parametrize("given", [0, 0.0, -1, -0.5, 1.5, float("nan"), True])
    def test_no_amount(self, chain: Coupling, given: float) -> None:
        with pytest.raises(SettingError, match="--max-macs is"):
            plan(chain, rising(chain), Budget(max_macs=given))

    @settings(max_examples=40, deadline=None)
    @given(
        widths=st.lists(st.integers(2, 40), min_size=1, max_size=4),
        shares=st.lists(st.floats(0.3, 1.0), min_size=2, max_size=2),
        quantity=st.sampled_from(["macs", "parameters"]),
        round_to=st.sampled_from([None, 4, 8]),
        ranking=st.sampled_from(["local", "global"]),
        seed=st.integers(0, 3),
    )
    def test_limits_hold_and_are_used(
        self, widths: list[int], shares: list[float], quantity: str, round_to: int | None, ranking: str, seed: int
    ) -> None:
        coupling = analyse(conv_chain(widths))
        scores = score(coupling, "random", seed=seed)
        found = []
        for share in sorted(shares):
            try:
                made = plan(coupling, scores, Budget(**{f"max_{quantity}": share}), round_to=round_to, ranking=ranking)
            except BudgetError:
                smallest = plan(coupling, scores, Budget(ratio=0.999), round_to=round_to)
                assert getattr(smallest.after, quantity) > share * getattr(smallest.before, quantity)
                continue
            assert made.before is not None
            assert made.after is not None
            assert getattr(made.after, quantity) <= share * getattr(made.before, quantity)
            for group in made.groups:
                if round_to and group.size >= 2 * round_to:
                    assert len(group.kept) % round_to == 0 or len(group.kept) == group.size
            assert made.after == coupling.cost(coupling.removed_classes(dict(enumerate(kept(made).values()))))
            found.append(made)
        if len(found) == 2:
            # what a tighter budget keeps for its share, a wider one keeps at least at the same share
            assert found[0].settings["share"] >= found[1].settings["share"]

    @settings(max_examples=25, deadline=None)
    @given(
        widths=st.lists(st.integers(2, 40), min_size=1, max_size=3),
        ratios=st.lists(st.floats(0, 0.99), min_size=2, max_size=2),
        round_to=st.sampled_from([None, 4, 8]),
        ranking=st.sampled_from(["local", "global"]),
    )
    def test_a_larger_ratio_keeps_a_subset(
        self, widths: list[int], ratios: list[float], round_to: int | None, ranking: str
    ) -> None:
        coupling = analyse(conv_chain(widths))
        scores = score(coupling, "random")
        mild, hard = (
            plan(coupling, scores, Budget(ratio=ratio), round_to=round_to, ranking=ranking) for ratio in sorted(ratios)
        )
        assert all(set(h.kept) <= set(m.kept) for h, m in zip(hard.groups, mild.groups, strict=True))
        assert all(h.kept for h in hard.groups)


class TestScope:
    @pytest.mark.parametrize(
        "pattern", ["w0:0", "w0", "w0:*", "conv0", "relu0", "c0", "*0:0"], ids=lambda pattern: pattern
    )
    def test_only_by_group_tensor_axis_or_node(self, chain: Coupling, pattern: str) -> None:
        assert sizes(plan(chain, rising(chain), Budget(ratio=0.5), only=[pattern])) == {"w0:0": 16, "w1:0": 16}

    def test_a_node_between_two_groups_means_both(self, chain: Coupling) -> None:
        assert sizes(plan(chain, rising(chain), Budget(ratio=0.5), only=["conv1"])) == {"w0:0": 16, "w1:0": 8}
        assert plan(chain, rising(chain), Budget(ratio=0.5), ignore=["conv1"]).is_empty

    def test_ignore_wins(self, chain: Coupling) -> None:
        made = plan(chain, rising(chain), Budget(ratio=0.5), only=["w*"], ignore=["relu1"])
        assert sizes(made) == {"w0:0": 16, "w1:0": 16}

    def test_a_name_is_taken_to_the_letter_first(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], name="block[0]"),
            helper.make_node("Conv", ["c", "v"], ["y"], name="block[1]"),
        ]
        coupling = analyse(make_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], {"w": (4, 3, 1, 1), "v": (5, 4, 1, 1)}))
        assert sizes(plan(coupling, rising(coupling), Budget(ratio=0.5), only=["block[0]"])) == {"w:0": 2}

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ({"only": ["conv7"]}, r"--only: no group, tensor or node is called 'conv7'. the nearest: conv1, conv0"),
            ({"ignore": ["w0", "relux"]}, r"--ignore: no group, tensor or node is called 'relux'. the nearest: relu"),
            ({"only": ["y"]}, "--only: nothing of what 'y' names can be removed"),
        ],
    )
    def test_a_pattern_for_nothing_is_refused(self, chain: Coupling, where: dict, message: str) -> None:
        with pytest.raises(SettingError, match=message):
            plan(chain, rising(chain), Budget(ratio=0.5), **where)

    def test_a_ratio_for_nothing_is_refused(self, chain: Coupling) -> None:
        with pytest.raises(SettingError, match="--layer-ratio: no group, tensor or node is called 'conv_0'"):
            plan(chain, rising(chain), Budget(ratios={"conv_0": 0.5}))
        with pytest.raises(SettingError, match="--layer-ratio: nothing that 'classify' puts out can be removed"):
            plan(chain, rising(chain), Budget(ratios={"classify": 0.5}))
        with pytest.raises(SettingError, match=r"--layer-ratio for 'w0' is 1\.0"):
            plan(chain, rising(chain), Budget(ratios={"w0": 1.0}))

    def test_to_ignore_what_stays_anyway_is_fine(self, chain: Coupling) -> None:
        assert not plan(chain, rising(chain), Budget(ratio=0.5), ignore=["y"]).is_empty

    def test_kinds(self, chain: Coupling) -> None:
        assert not plan(chain, rising(chain), Budget(ratio=0.5), scope={"channels", "heads"}).is_empty
        with pytest.raises(SettingError, match=r"no group of kind heads. it has channels \(2\)"):
            plan(chain, rising(chain), Budget(ratio=0.5), scope={"heads"})
        for wrong in ({"channel"}, set(), "channels"):
            with pytest.raises(SettingError, match="kinds are channels, ffn"):
                plan(chain, rising(chain), Budget(ratio=0.5), scope=wrong)

    def test_exact_only(self) -> None:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("LayerNormalization", ["h", "gain"], ["n"]),
            helper.make_node("MatMul", ["n", "v"], ["g"]),
            helper.make_node("Relu", ["g"], ["r"]),
            helper.make_node("MatMul", ["r", "u"], ["y"]),
        ]
        weights = {"w": (3, 6), "gain": (6,), "v": (6, 4), "u": (4, 2)}
        coupling = analyse(make_model(nodes, {"x": (5, 3)}, ["y"], weights))
        scores = rising(coupling)
        assert sizes(plan(coupling, scores, Budget(ratio=0.5))) == {"w:1": 3, "v:1": 2}
        assert sizes(plan(coupling, scores, Budget(ratio=0.5), exact_only=True)) == {"w:1": 6, "v:1": 2}


@pytest.mark.parametrize("ranking", ["local", "global"])
@pytest.mark.parametrize("seed", range(6))
def test_no_axis_is_left_empty(ranking: str, seed: int) -> None:
    """Two groups share an axis of which a third value has a part: one unit of each might leave nothing of that."""
    coupling = analyse(two_factors(part=6))
    made = plan(coupling, score(coupling, "random", seed=seed), Budget(ratio=0.9), ranking=ranking)
    assert not made.is_empty
    assert coupling.lengths(removed_classes_of(coupling, made)).min() >= 1


class TestSettings:
    def test_are_recorded(self, chain: Coupling) -> None:
        made = plan(chain, score(chain, "random", seed=4), Budget(ratio=0.5), ignore=["w1"])
        assert made.settings == {
            "criterion": "random",
            "normalise": "mean",
            "seed": 4,
            "budget": {"ratio": 0.5},
            "share": 0.5,
            "ranking": "local",
            "round_to": 8,
            "min_keep": 1,
            "max_ratio": None,
            "only": [],
            "ignore": ["w1"],
            "scope": None,
            "exact_only": False,
            "balanced": False,
            "aggregate": "sum",
        }
        assert made.analysis == {"bind": {}, "input_shapes": {}, "allow_io_change": [], "bound": {}}
        assert made.model_digest == chain.view.model.digest

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"round_to": 0}, "--round-to is 0"),
            ({"min_keep": 0}, "--min-keep is 0"),
            ({"max_ratio": 1.0}, "--max-ratio is 1.0"),
            ({"ranking": "best"}, "no ranking 'best'. there are: local, global"),
        ],
    )
    def test_bad_values(self, chain: Coupling, wrong: dict, message: str) -> None:
        with pytest.raises(SettingError, match=message):
            plan(chain, rising(chain), Budget(ratio=0.5), **wrong)

    def test_bad_budgets(self, chain: Coupling) -> None:
        with pytest.raises(SettingError, match="no budget is given"):
            plan(chain, rising(chain), Budget())
        for ratio in (1.0, -0.1, float("nan")):
            with pytest.raises(SettingError, match="--pruning-ratio is"):
                plan(chain, rising(chain), Budget(ratio=ratio))

    def test_scores_of_another_model(self, chain: Coupling) -> None:
        other = analyse(conv_chain((32, 24)))
        with pytest.raises(SettingError, match="not of this model's groups"):
            plan(chain, score(other), Budget(ratio=0.5))


def test_a_model_without_groups_gives_an_empty_plan() -> None:
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3)}, ["y"], {})
    coupling = analyse(model)
    made = plan(coupling, score(coupling), Budget(ratio=0.5))
    assert made.groups == ()
    assert made.is_empty
