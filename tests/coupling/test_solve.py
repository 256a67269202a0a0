"""The solver on hand-written systems, to the last atom. Slots are called s0, s1, ... in the order they are made."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.atoms import Ids
from onnxprune.types import Refusal
from tests.coupling.systems import System

Unit = dict[str, list[int]]


def units(system: System) -> list[list[Unit]]:
    """Per group, per unit: the indices of each slot that go with it."""
    solution, found = system.solve()
    told = []
    for group in found.groups:
        members = []
        for root in group.roots.tolist():
            marked = np.zeros(solution.classes, bool)
            marked[root] = True
            gone = solution.removed_classes(marked)
            taken = {
                s.tensor: np.flatnonzero(gone[solution.label[s.start : s.start + s.size]]) for s in system.atoms.slots
            }
            members.append({name: at.tolist() for name, at in taken.items() if len(at)})
        told.append(members)
    return told


def frozen(system: System) -> dict[str, list[int]]:
    """The indices of each slot that must stay, where there are any."""
    solution, _ = system.solve()
    still = {
        s.tensor: np.flatnonzero(solution.frozen[solution.label[s.start : s.start + s.size]])
        for s in system.atoms.slots
    }
    return {name: at.tolist() for name, at in still.items() if len(at)}


def reason(system: System, ids: Ids) -> Refusal:
    """Why the first of these atoms must stay."""
    solution, _ = system.solve()
    return system.atoms.reasons[int(solution.reason[solution.label[ids[0]]])]


def test_a_chain_of_links_is_one_group() -> None:
    system = System()
    x, w, b = system.slot(4), system.slot(4), system.slot(4)
    link = system.link()
    link.same(x, w)
    link.same(w, b)
    assert units(system) == [[{"s0": [i], "s1": [i], "s2": [i]} for i in range(4)]]
    assert frozen(system) == {}


def test_a_concatenation_keeps_the_units_of_its_inputs() -> None:
    system = System()
    a, b, y = system.slot(2), system.slot(3), system.slot(5)
    link = system.link()
    link.same(y[:2], a)
    link.same(y[2:], b)
    assert units(system) == [
        [{"s0": [0], "s2": [0]}, {"s0": [1], "s2": [1]}],
        [{"s1": [0], "s2": [2]}, {"s1": [1], "s2": [3]}, {"s1": [2], "s2": [4]}],
    ]


def test_a_fused_projection_gives_heads_and_two_kinds_of_head_dims() -> None:
    """2304 = three times 12 x 64: q and k meet in their dims, v's dims stay its own, the heads are those of all."""
    system = System()
    fused = system.slot(2304)
    heads, dims = [], []
    for start in (0, 768, 1536):
        piece, head, dim = system.slot(768), system.slot(12), system.slot(64)
        link = system.link()
        link.same(fused[start : start + 768], piece)
        link.factor(piece, (12, 64), (head, dim))
        heads.append(head)
        dims.append(dim)
    link = system.link()
    link.same(heads[0], heads[1])
    link.same(heads[0], heads[2])
    link.same(dims[0], dims[1])

    found = units(system)
    assert [len(group) for group in found] == [12, 64, 64]
    head, qk, v = found[0][3], found[1][5], found[2][5]
    assert head["s0"] == [*range(192, 256), *range(960, 1024), *range(1728, 1792)]
    assert (head["s2"], head["s5"], head["s8"]) == ([3], [3], [3])
    assert qk["s0"] == [5 + 64 * h for h in range(24)]
    assert (qk["s3"], qk["s6"], qk.get("s9")) == ([5], [5], None)
    assert v["s0"] == [1536 + 5 + 64 * h for h in range(12)]
    assert (v.get("s3"), v["s9"]) == (None, [5])


def test_flattening_a_picture_gives_channels_of_all_its_pixels() -> None:
    system = System()
    c, h, w, flat = system.slot(3), system.slot(2), system.slot(4), system.slot(24)
    link = system.link()
    link.freeze(h, "spatial axis")
    link.freeze(w, "spatial axis")
    link.factor(flat, (3, 2, 4), (c, h, w))
    assert units(system) == [[{"s0": [i], "s3": list(range(8 * i, 8 * i + 8))} for i in range(3)]]
    assert frozen(system) == {"s1": [0, 1], "s2": [0, 1, 2, 3]}


def test_a_grouped_convolution_loses_groups_or_the_same_member_of_each() -> None:
    """x: 2 groups of 3 channels, w[0]: 2 groups of 4, w[1]: 3."""
    system = System()
    x, w_out, w_in = system.slot(6), system.slot(8), system.slot(3)
    link = system.link()
    group, member = link.fresh(2), link.fresh(4)
    link.factor(x, (2, 3), (group, w_in))
    link.factor(w_out, (2, 4), (group, member))
    groups = [{"s0": [0, 1, 2], "s1": [0, 1, 2, 3]}, {"s0": [3, 4, 5], "s1": [4, 5, 6, 7]}]
    inputs = [{"s0": [i, 3 + i], "s2": [i]} for i in range(3)]
    outputs = [{"s1": [i, 4 + i]} for i in range(4)]
    assert units(system) == [inputs, groups, outputs]


def test_two_factorisations_that_nest_meet_in_their_refinement() -> None:
    """12 x 64 beside 24 x 32: 12 x 2 x 32."""
    system = System()
    flat, a, b, c, d = (system.slot(n) for n in (768, 12, 64, 24, 32))
    system.link().factor(flat, (12, 64), (a, b))
    system.link().factor(flat, (24, 32), (c, d))
    found = {len(group): group for group in units(system)}
    assert sorted(found) == [2, 12, 32]
    assert {k: v for k, v in found[12][3].items() if k != "s0"} == {"s1": [3], "s3": [6, 7]}
    assert {k: v for k, v in found[2][1].items() if k != "s0"} == {
        "s2": list(range(32, 64)),
        "s3": list(range(1, 24, 2)),
    }
    assert {k: v for k, v in found[32][9].items() if k != "s0"} == {"s2": [9, 41], "s4": [9]}
    assert found[12][3]["s0"] == list(range(192, 256))
    assert found[32][9]["s0"] == list(range(9, 768, 32))


def test_two_factorisations_that_do_not_nest_freeze_and_name_the_nodes() -> None:
    """6 x 4 beside 4 x 6."""
    system = System()
    flat, a, b, c, d = (system.slot(n) for n in (24, 6, 4, 4, 6))
    system.link().factor(flat, (6, 4), (a, b))
    system.link().factor(flat, (4, 6), (c, d))
    assert units(system) == []
    assert {name: len(at) for name, at in frozen(system).items()} == {"s0": 24, "s1": 6, "s2": 4, "s3": 4, "s4": 6}
    solution, _ = system.solve()
    assert solution.conflicts == [0, 1]
    why = reason(system, a)
    assert (why.node, why.op) == ("n0", "Op")
    assert "does not nest" in why.why


def test_a_factor_may_be_a_product_itself() -> None:
    """24 = 2 x 12 and 12 = 3 x 4."""
    system = System()
    flat, a, twelve, b, c = (system.slot(n) for n in (24, 2, 12, 3, 4))
    system.link().factor(flat, (2, 12), (a, twelve))
    system.link().factor(twelve, (3, 4), (b, c))
    by_size = {len(group): group for group in units(system)}
    assert sorted(by_size) == [2, 3, 4]
    assert by_size[2][1] == {"s0": list(range(12, 24)), "s1": [1]}
    assert by_size[3][2] == {"s0": [8, 9, 10, 11, 20, 21, 22, 23], "s2": [8, 9, 10, 11], "s3": [2]}
    assert by_size[4][1] == {"s0": [1, 5, 9, 13, 17, 21], "s2": [1, 5, 9], "s4": [1]}


def test_the_same_factorisation_twice_joins_its_parts() -> None:
    system = System()
    flat, a, b, c, d = (system.slot(n) for n in (6, 2, 3, 2, 3))
    system.link().factor(flat, (2, 3), (a, b))
    system.link().factor(flat, (2, 3), (c, d))
    rows = [{"s0": list(range(3 * i, 3 * i + 3)), "s1": [i], "s3": [i]} for i in range(2)]
    columns = [{"s0": [i, 3 + i], "s2": [i], "s4": [i]} for i in range(3)]
    assert units(system) == [rows, columns]


def test_a_slice_factored_as_the_whole_is_joins_the_parts() -> None:
    """3 x 2 x 3 of which the first index stays (it is selected later), beside 2 x 3 of the first six."""
    system = System()
    flat, which, head, dim, other_head, other_dim = (system.slot(n) for n in (18, 3, 2, 3, 2, 3))
    first = system.link()
    first.freeze(which, "selected")
    first.factor(flat, (3, 2, 3), (which, head, dim))
    system.link().factor(flat[:6], (2, 3), (other_head, other_dim))
    heads = [{"s0": [3 * h + d + 6 * q for q in range(3) for d in range(3)], "s2": [h], "s4": [h]} for h in range(2)]
    dims = [{"s0": [3 * h + d + 6 * q for q in range(3) for h in range(2)], "s3": [d], "s5": [d]} for d in range(3)]
    assert units(system) == [heads, dims]


def test_some_of_the_heads_factored_again_join_the_dims() -> None:
    """4 heads of 3, and the first two of them as 2 x 3: what holds for dims there holds for all heads."""
    system = System()
    flat, head, dim, some, same_dim = (system.slot(n) for n in (12, 4, 3, 2, 3))
    system.link().factor(flat, (4, 3), (head, dim))
    system.link().factor(flat[:6], (2, 3), (some, same_dim))
    first = [{"s0": list(range(3 * h, 3 * h + 3)), "s1": [h], "s3": [h]} for h in range(2)]
    rest = [{"s0": list(range(3 * h, 3 * h + 3)), "s1": [h]} for h in (2, 3)]
    dims = [{"s0": list(range(d, 12, 3)), "s2": [d], "s4": [d]} for d in range(3)]
    assert units(system) == [first, dims, rest]


def test_one_part_given_twice_is_no_reason_to_join_its_members() -> None:
    system = System()
    flat, part = system.slot(4), system.slot(2)
    system.link().factor(flat, (2, 2), (part, part))
    assert units(system) == [[{"s0": [0, 1, 2], "s1": [0]}, {"s0": [1, 2, 3], "s1": [1]}]]


def test_a_frozen_child_freezes_its_parents_and_no_others() -> None:
    system = System()
    flat, a, b = system.slot(12), system.slot(3), system.slot(4)
    link = system.link()
    link.factor(flat, (3, 4), (a, b))
    link.freeze(flat[6:7], "needed")  # row 1, column 2
    assert frozen(system) == {"s0": [6], "s1": [1], "s2": [2]}
    # the frozen row's other members go with their columns alone, the frozen column's with their rows
    rows = [{"s0": [0, 1, 2, 3], "s1": [0]}, {"s0": [8, 9, 10, 11], "s1": [2]}]
    columns = [{"s0": [i, 4 + i, 8 + i], "s2": [i]} for i in (0, 1, 3)]
    assert units(system) == [rows, columns]
    assert (reason(system, a[1:]).why, reason(system, b[2:]).why) == ("needed", "needed")


def test_a_shared_frozen_child_freezes_a_row_of_each_axis_it_is_on() -> None:
    system = System()
    one, two, a, b, c = (system.slot(n) for n in (6, 6, 2, 3, 3))
    link = system.link()
    link.factor(one, (2, 3), (a, b))
    link.factor(two, (2, 3), (a, c))
    link.same(one[4:5], two[5:6])  # (1, 1) of one is (1, 2) of the other
    link.freeze(two[5:6], "needed")
    assert frozen(system) == {"s0": [4], "s1": [5], "s2": [1], "s3": [1], "s4": [2]}


def test_what_has_frozen_parents_only_is_frozen() -> None:
    system = System()
    flat, a, b = system.slot(6), system.slot(2), system.slot(3)
    link = system.link()
    link.freeze(a, "first")
    link.freeze(b, "second")
    link.factor(flat, (2, 3), (a, b))
    assert frozen(system) == {"s0": [0, 1, 2, 3, 4, 5], "s1": [0, 1], "s2": [0, 1, 2]}
    assert reason(system, flat).why == "first"


def test_the_earliest_of_several_reasons_counts() -> None:
    system = System()
    a, b = system.slot(2), system.slot(2)
    link = system.link()
    link.freeze(b, "one")
    link.same(a, b)
    link.freeze(a, "two")
    assert reason(system, a).why == reason(system, b).why == "one"


def test_an_axis_cut_out_of_a_product_keeps_an_index() -> None:
    """The first five of 3 x 4: without heads 0 and 2 and all dims but the last, nothing of them would be left."""
    system = System()
    flat, head, dim, piece = (system.slot(n) for n in (12, 3, 4, 5))
    system.link().factor(flat, (3, 4), (head, dim))
    system.link().same(flat[:5], piece)
    assert frozen(system) == {"s0": [0], "s1": [0], "s2": [0], "s3": [0]}
    assert "leave the axis empty" in reason(system, piece).why
    assert reason(system, piece).node == "n0"


def test_whole_heads_cut_out_of_a_product_need_no_such_care() -> None:
    system = System()
    flat, head, dim, piece = (system.slot(n) for n in (16, 4, 4, 8))
    system.link().factor(flat, (4, 4), (head, dim))
    system.link().same(flat[:8], piece)
    assert frozen(system) == {}
    assert sorted(len(group) for group in units(system)) == [2, 2, 4]


def test_heads_and_dims_inside_an_operator_are_two_groups() -> None:
    system = System()
    flat = system.slot(6)
    link = system.link()
    link.factor(flat, (2, 3), (link.fresh(2), link.fresh(3)))
    assert [len(group) for group in units(system)] == [2, 3]


def test_an_index_that_is_made_of_itself_stays() -> None:
    """The first row of each product is the other's part, so that their first indices go round in a circle."""
    system = System()
    one, two, a, b = (system.slot(n) for n in (4, 4, 2, 2))
    system.link().factor(one, (2, 2), (two[:2], a))
    system.link().factor(two, (2, 2), (one[:2], b))
    assert frozen(system) == {"s0": [0], "s1": [0], "s2": [0], "s3": [0]}


def test_solving_is_repeatable() -> None:
    def made() -> System:
        system = System()
        flat, a, b, c, d = (system.slot(n) for n in (48, 6, 8, 12, 4))
        system.link().factor(flat, (6, 8), (a, b))
        system.link().factor(flat, (12, 4), (c, d))
        return system

    assert units(made()) == units(made())


def test_a_lone_index_is_no_group() -> None:
    system = System()
    x, w = system.slot(1), system.slot(1)
    system.link().same(x, w)
    assert units(system) == []


def test_a_half_of_a_concatenation_factored_otherwise_is_nested_with_it() -> None:
    """EfficientViT's attention: two halves of heads x (3 x dim), of which one was made in (heads x 3) groups of dim."""
    system = System()
    one, two, joined = system.slot(24), system.slot(24), system.slot(48)
    head, qkv, groups, dim = system.slot(4), system.slot(12), system.slot(6), system.slot(4)
    link = system.link()
    link.same(joined[:24], one)
    link.same(joined[24:], two)
    link.factor(joined, (4, 12), (head, qkv))
    system.link().factor(two, (6, 4), (groups, dim))
    by_size = {len(group): group for group in units(system)}
    assert frozen(system) == {}
    # heads of the first half alone, heads of the second, the three kinds, and dims
    assert sorted(len(group) for group in units(system)) == [2, 2, 3, 4]
    assert by_size[3][1] == {
        "s0": [4, 5, 6, 7, 16, 17, 18, 19], "s1": [4, 5, 6, 7, 16, 17, 18, 19], "s4": [4, 5, 6, 7], "s5": [1, 4],
        "s2": [k + j for k in (0, 12, 24, 36) for j in (4, 5, 6, 7)],
    }  # fmt: skip
    assert by_size[4][2] == {
        "s0": list(range(2, 24, 4)), "s1": list(range(2, 24, 4)), "s2": list(range(2, 48, 4)), "s4": [2, 6, 10],
        "s6": [2],
    }  # fmt: skip
