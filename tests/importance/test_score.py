"""Criteria by name, the control, normalisation, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.importance import Context, criteria, criterion, registry, score
from onnxprune.importance.normalise import by_mean
from tests.support.planning import conv_chain


@pytest.fixture(scope="module")
def coupling() -> Coupling:
    return analyse(conv_chain((32, 16)))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """The table of criteria, put back as it was afterwards."""
    criteria()
    copy = dict(registry._CRITERIA)
    monkeypatch.setattr(registry, "_CRITERIA", copy)
    criteria.cache_clear()
    yield copy
    criteria.cache_clear()


def test_scores_have_one_number_per_unit(coupling: Coupling) -> None:
    scores = score(coupling)
    assert [values.shape for values in scores.values] == [(32,), (16,)]
    assert [values.dtype for values in scores.values] == [np.float64, np.float64]
    assert all((values > 0).all() for values in scores.values)


def test_the_mean_of_every_group_is_one(coupling: Coupling) -> None:
    assert [values.mean() for values in score(coupling).values] == pytest.approx([1, 1], abs=1e-12)


def test_not_normalised_they_are_in_the_same_order(coupling: Coupling) -> None:
    for one, other in zip(score(coupling).values, score(coupling, normalise="none").values, strict=True):
        assert one.argsort().tolist() == other.argsort().tolist()
        assert other.mean() != pytest.approx(1, abs=1e-3)


def test_a_group_of_zeros_stays_zero() -> None:
    assert by_mean(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert by_mean(np.asarray([1.0, 3.0])).tolist() == [0.5, 1.5]


def test_random_is_the_same_for_the_same_seed(coupling: Coupling) -> None:
    first, again, other = (score(coupling, "random", seed=seed, normalise="none") for seed in (1, 1, 2))
    assert [v.tolist() for v in first.values] == [v.tolist() for v in again.values]
    assert first[0].tolist() != other[0].tolist()
    assert first[0].tolist() == np.random.default_rng(1).random(32).tolist()


def test_scores_cannot_be_changed_by_accident(coupling: Coupling) -> None:
    with pytest.raises(ValueError, match="read-only"):
        score(coupling)[0][0] = 1


def test_an_unknown_criterion_is_named_with_those_there_are(coupling: Coupling) -> None:
    with pytest.raises(SettingError, match=r"no criterion 'saliency'.*: apoz, bn_scale, .*, l1, l2, .*, wanda"):
        score(coupling, "saliency")


def test_an_unknown_normalisation_is_named(coupling: Coupling) -> None:
    with pytest.raises(SettingError, match=r"no normalisation 'max'. there are: mean, none"):
        score(coupling, normalise="max")


def test_a_criterion_registers_once(table: dict) -> None:
    @criterion("mine")
    def mine(coupling: Coupling, context: Context) -> list[np.ndarray]:
        return []

    assert table["mine"] is mine
    with pytest.raises(ValueError, match="'mine' exists already"):
        criterion("mine")(mine)


def test_a_criterion_of_another_package_is_given_seed_and_data(
    table: dict, coupling: Coupling, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = EntryPoint("theirs", f"{__name__}_plugin:register", registry.ENTRY_POINT)
    monkeypatch.setattr(EntryPoint, "load", lambda self: criterion("theirs")(_theirs))
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([entry]).select(group=group))
    scores = score(coupling, "theirs", seed=3, normalise="none", data={"base": 10})
    assert scores[1].tolist() == [13.0] * 16
    assert scores.criterion == "theirs"


def _theirs(coupling: Coupling, context: Context) -> list[np.ndarray]:
    return [np.full(group.size, context.seed + context.data["base"]) for group in coupling.groups]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param([np.ones(32)], r"shapes \[\(32,\)\] for groups of \[32, 16\] units", id="a group too few"),
        pytest.param([np.ones(32), np.ones(15)], "shapes", id="a unit too few"),
        pytest.param([np.ones(32), np.full(16, np.nan)], "NaN or infinity for group 1", id="not a number"),
    ],
)
def test_a_wrong_criterion_is_refused(table: dict, coupling: Coupling, given: list[np.ndarray], message: str) -> None:
    criterion("wrong")(lambda coupling, context: given)
    with pytest.raises(SettingError, match=message):
        score(coupling, "wrong")
