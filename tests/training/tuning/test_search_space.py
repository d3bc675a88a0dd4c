"""Which settings are tried, in which order."""

from __future__ import annotations

import pytest

from tamis.training.trainers import hyper_parameters, make_trainer
from tamis.training.tuning.search_space import VALUES, Candidate, CandidateSampler, other_kinds


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind in VALUES for name in VALUES[kind] for value in VALUES[kind][name]],
)
def test_every_value_makes_a_model(kind: str, name: str, value: str):
    make_trainer(kind, {name: value}, seed=1)


@pytest.mark.parametrize("kind", VALUES)
def test_the_defaults_are_among_the_values(kind: str):
    known = hyper_parameters(kind)
    for name, values in VALUES[kind].items():
        made = make_trainer(kind, {}, seed=1)
        assert any(_same(made, make_trainer(kind, {name: value}, seed=1)) for value in values), name
        assert name in known


def _same(one: object, other: object) -> bool:
    return vars(one) == vars(other)


def drawn(number: int, *, seed: int = 1, fixed: dict[str, str] | None = None) -> list[Candidate]:
    draws = CandidateSampler(fixed or {}, seed=seed)
    parent = draws.defaults("linear")
    found = [draws.neighbour(parent) for _ in range(number)]
    assert None not in found
    return [candidate for candidate in found if candidate is not None]


def test_neighbours_differ_from_their_parent_in_three_settings():
    numbers = {len(candidate.settings) for candidate in drawn(60)}
    assert numbers == {1, 2, 3}


def test_nothing_is_drawn_twice_and_nothing_are_the_defaults():
    candidates = drawn(60)
    assert len(set(candidates)) == 60
    assert Candidate("linear") not in candidates


def test_the_seed_fixes_the_order():
    assert drawn(20) == drawn(20)
    assert drawn(20) != drawn(20, seed=2)


def test_a_setting_that_goes_back_to_its_default_is_not_named():
    draws = CandidateSampler({}, seed=1)
    draws.defaults("linear")
    parent = Candidate("linear", (("c", "8"),))
    found = [draws.neighbour(parent) for _ in range(400)]
    assert any(candidate is not None and "c" not in candidate.overrides for candidate in found)
    assert all(candidate is None or candidate.overrides.get("c") != "1" for candidate in found)


def test_given_settings_stay_as_they_are():
    for candidate in drawn(30, fixed={"c": "3", "shapes": "true"}):
        assert candidate.overrides["c"] == "3"
        assert candidate.overrides["shapes"] == "true"


def test_settings_that_exclude_each_other_are_not_drawn():
    for candidate in drawn(30, fixed={"ngram_max": "2"}):  # so ngram_min must be 2, too
        assert "ngram_min" not in candidate.overrides


def test_a_space_comes_to_its_end():
    fixed = {name: values[0] for name, values in VALUES["linear"].items() if name != "shapes"}
    draws = CandidateSampler(fixed, seed=1)
    parent = draws.defaults("linear")
    assert draws.neighbour(parent) == Candidate("linear", (*fixed.items(), ("shapes", "false")))
    assert draws.neighbour(parent) is None


def test_a_space_in_which_everything_is_given_has_no_neighbour():
    draws = CandidateSampler({name: values[0] for name, values in VALUES["linear"].items()}, seed=1)
    assert draws.neighbour(draws.defaults("linear")) is None


def test_slow_kinds_are_tried_unasked_in_budget_that_holds_them():
    assert other_kinds("linear", {}, seconds=299, seed=1) == ()
    assert other_kinds("linear", {}, seconds=300, seed=1) == ("lstm",)
    assert other_kinds("linear", {}, seconds=None, seed=1) == ()
    assert other_kinds("lstm", {}, seconds=60, seed=1) == ("linear",)


def test_kinds_without_a_given_setting_are_not_tried():
    assert other_kinds("linear", {"bits": "18"}, seconds=3600, seed=1) == ()
    assert other_kinds("linear", {"class_weight": "balanced"}, seconds=3600, seed=1) == ("lstm",)


def test_kinds_that_are_not_installed_are_not_tried():
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['keras'] = None\n"
        "from tamis.training.tuning.search_space import other_kinds\n"
        "print(other_kinds('linear', {}, seconds=3600, seed=1))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "()\n"
