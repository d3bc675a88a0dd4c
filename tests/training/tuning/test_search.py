"""The search: the same trials every time, cut by the clock alone, and nothing of the test part."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tamis import Classifier, train
from tamis.artifact import open_artifact
from tamis.artifact.profile import LEARNED_FILE, PROFILE_FILE
from tamis.data.audit import audit
from tamis.errors import TrainingError
from tamis.models.self_test import PROBES_FILE
from tamis.training.fit import TrainSettings
from tamis.training.prepare import Prepared, PrepareSettings, prepare_file, read_for
from tamis.training.prepared_folder import write_prepared
from tamis.training.train import Trained
from tamis.training.tuning import Autotune
from tamis.training.tuning.search import chosen, search
from tamis.training.tuning.search_space import Candidate
from tamis.training.tuning.trials import SearchResult, SearchState, Trial
from tamis.types import Dataset
from tests.support.fakes import ManualClock
from tests.support.networks import SMALL
from tests.support.samples import messages, write_csv

QUICK = TrainSettings(folds=3, overrides={"bits": "12"})
WITHOUT_BITS = TrainSettings(folds=3)
NETWORK = TrainSettings(
    model="lstm", overrides={name: str(value) for name, value in SMALL.items()} | {"buckets": ""}
)
PAGES = {"report.html", "MODEL_CARD.md", "held_out.safetensors", LEARNED_FILE, PROFILE_FILE, PROBES_FILE}
"""Files of a version that prediction does not read."""


@pytest.fixture(scope="module")
def part() -> Dataset:
    """A training part that is not too easy: some labels are wrong."""
    data = messages(200)
    rng = random.Random(5)
    labels = [rng.choice(["ham", "spam"]) if rng.random() < 0.2 else label for label in data.labels]
    return replace(data, labels=labels)


@pytest.fixture
def file(part: Dataset, tmp_path: Path) -> Path:
    return write_csv(part, tmp_path / "messages.csv")


class Watcher:
    """Keeps all states, and does something at one of them."""

    def __init__(self, when: Callable[[SearchState], bool], act: Callable[[], None]):
        self.states: list[SearchState] = []
        self._when, self._act = when, act

    def __call__(self, state: SearchState) -> None:
        self.states.append(state)
        if self._when(state):
            self._act()


def within(trial: int, fold: int) -> Callable[[SearchState], bool]:
    """Say whether a search is at that fold of that trial."""
    return lambda state: len(state.trials) == trial - 1 and state.running is not None and state.fold == fold


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def first(found: SearchResult, number: int) -> list[dict[str, object]]:
    return [trial.described() for trial in found.trials[:number]]


def test_the_first_trial_is_the_defaults_and_the_best_no_worse(part: Dataset):
    found = search(part, QUICK, Autotune(trials=8))
    assert found.trials[0].candidate.overrides == QUICK.overrides
    assert found.best is not None and found.best.log_loss is not None
    assert found.trials[0].log_loss is not None
    assert found.best.log_loss <= found.trials[0].log_loss
    assert len(found.trials) == 8 and found.ended == "trials"


def test_the_same_seed_and_number_of_trials_give_the_same_search(part: Dataset):
    once, again, other = (
        search(part, replace(QUICK, seed=seed), Autotune(trials=6)).described() for seed in (1, 1, 2)
    )
    assert once == again
    assert [trial["settings"] for trial in once["trials"]] != [trial["settings"] for trial in other["trials"]]


def test_hopeless_candidates_are_given_up_before_their_last_fold(part: Dataset):
    # the default recipe's neighbours are nearly as good: the first that is clearly worse is trial 28
    found = search(part, QUICK, Autotune(trials=30))
    left = [trial for trial in found.trials if trial.outcome == "given up"]
    assert left and all(0 < trial.folds < 3 for trial in left)
    assert all(trial.folds == 3 for trial in found.trials if trial.outcome == "complete")


def test_a_trial_takes_its_time_by_the_clock(part: Dataset):
    clock = ManualClock()
    watcher = Watcher(within(2, 1), lambda: clock.advance(1.5))
    found = search(part, QUICK, Autotune(trials=2, watch=watcher, clock=clock))
    assert [trial.seconds for trial in found.trials] == [0.0, 1.5]


def test_the_budget_only_cuts_the_same_trials(part: Dataset):
    """Each fit takes seven seconds of a clock that stands still otherwise."""
    whole = search(part, QUICK, Autotune(trials=8))
    clock = ManualClock()
    watcher = Watcher(lambda state: state.running is not None, lambda: clock.advance(7.0))
    cut = search(part, QUICK, Autotune(seconds=100.0, watch=watcher, clock=clock))
    assert cut.ended == "time"
    assert 2 <= len(cut.trials) < 8
    assert first(cut, 8) == first(whole, len(cut.trials))


def test_a_trial_is_left_where_the_time_ends_and_does_not_count(part: Dataset):
    clock = ManualClock()
    watcher = Watcher(within(3, 1), lambda: clock.advance(60.0))
    found = search(part, QUICK, Autotune(seconds=60.0, watch=watcher, clock=clock))
    assert (len(found.trials), found.ended) == (2, "time")
    over = [state for state in watcher.states if state.seconds_left is not None and state.seconds_left <= 0]
    assert [state.running for state in over] == [None]  # only the end is told then


def test_defaults_are_kept_where_no_trial_was_complete_in_time(part: Dataset):
    clock = ManualClock()
    watcher = Watcher(within(1, 2), lambda: clock.advance(60.0))
    found = search(part, QUICK, Autotune(seconds=5.0, watch=watcher, clock=clock))
    assert (found.trials, found.best, found.gain) == ((), None, None)
    assert chosen(QUICK, found) == QUICK


def test_a_search_without_an_end_is_refused(part: Dataset):
    with pytest.raises(TrainingError, match="a number of seconds or of trials"):
        search(part, QUICK, Autotune())


def test_ctrl_c_keeps_the_best_so_far(part: Dataset):
    found = search(part, QUICK, Autotune(trials=9, watch=Watcher(within(4, 1), press_ctrl_c)))
    assert (found.ended, len(found.trials)) == ("stopped", 3)
    assert found.best in found.trials
    assert first(found, 3) == first(search(part, QUICK, Autotune(trials=3)), 3)


def test_ctrl_c_before_first_trial_is_complete_stops_everything(part: Dataset):
    with pytest.raises(KeyboardInterrupt):
        search(part, QUICK, Autotune(trials=9, watch=Watcher(within(1, 2), press_ctrl_c)))


def test_the_gain_is_that_over_the_defaults(part: Dataset):
    found = search(part, QUICK, Autotune(trials=30))
    assert found.best is not None and found.best.number > 1 and found.gain is not None
    assert found.best.log_loss is not None and found.trials[0].log_loss is not None
    assert found.gain[0] == pytest.approx(found.trials[0].log_loss - found.best.log_loss)
    assert found.gain[0] > 0 and found.gain[1] > 0


def test_the_figure_is_the_one_that_training_records(file: Path):
    trained = train(file, None, settings=QUICK, autotune=Autotune(trials=6))
    record = trained.manifest.training["search"]
    best = next(trial for trial in record["trials"] if trial["number"] == record["best"])
    calibration = trained.manifest.calibration
    assert best["log_loss"] == pytest.approx(calibration["log_loss"][1 if calibration["kept"] else 0])


def test_model_is_one_that_training_with_these_settings_gives(file: Path, tmp_path: Path):
    poor = replace(QUICK, overrides={**QUICK.overrides, "feature_weights": "none"})
    found = train(file, tmp_path / "found", settings=poor, autotune=Autotune(trials=15))
    overrides = found.manifest.training["overrides"]
    assert overrides != poor.overrides
    named = train(file, tmp_path / "named", settings=replace(poor, overrides=overrides))
    one, other = (open_artifact(tmp_path / name).manifest for name in ("found", "named"))
    assert found.path is not None and named.path is not None
    assert _without_search(one) == _without_search(other)
    weights = [(path / "weights.safetensors").read_bytes() for path in (found.path, named.path)]
    assert weights[0] == weights[1]


def _without_search(manifest: object) -> dict[str, object]:
    described = msgspec.to_builtins(manifest)
    described["training"].pop("search", None)
    described["files"] = {name: facts for name, facts in described["files"].items() if name not in PAGES}
    return described


def test_same_search_twice_gives_same_identity_however_long_took(file: Path, tmp_path: Path):
    train(file, tmp_path / "one", settings=QUICK, autotune=Autotune(trials=4))
    clock = ManualClock()
    watcher = Watcher(lambda state: state.running is not None, lambda: clock.advance(3.0))
    limits = Autotune(seconds=9_999.0, trials=4, watch=watcher, clock=clock)
    train(file, tmp_path / "two", settings=QUICK, autotune=limits)
    assert open_artifact(tmp_path / "one").identity == open_artifact(tmp_path / "two").identity


def test_the_test_part_has_no_say(file: Path, tmp_path: Path):
    """Two folders with the same training part; one has a test part of other texts, wrongly labelled.

    The measured model is compared: the saved one learns the test part in the end.
    """
    settings = replace(QUICK, refit=False)
    reading = read_for(file, PrepareSettings())
    prepared = prepare_file(file, PrepareSettings())
    turned = {"ham": "spam", "spam": "ham"}
    spoiled = replace(
        prepared.test,
        texts=[f"{text} no {row}" for row, text in enumerate(prepared.test.texts)],
        labels=[turned[label] for label in prepared.test.labels],
    )
    trained: list[Trained] = []
    for name, test in (("as it is", prepared.test), ("spoiled", spoiled)):
        folder = tmp_path / name
        write_prepared(replace(prepared, test=test), audit(reading), folder)
        trained.append(train(folder, tmp_path / "models", settings=settings, autotune=Autotune(trials=6)))
    one, other = trained
    assert one.evaluation.accuracy.value > 0.6 > 0.5 > other.evaluation.accuracy.value
    assert one.manifest.training == other.manifest.training
    weights = [(path / "weights.safetensors").read_bytes() for path in _paths(trained)]
    assert weights[0] == weights[1]


def _paths(trained: list[Trained]) -> list[Path]:
    return [one.path for one in trained if one.path is not None]


def test_the_search_is_given_the_training_part_only(file: Path):
    """The number of texts in a complete trial's answers is that of the training part."""
    prepared: Prepared = prepare_file(file, PrepareSettings())
    found = search(prepared.train, QUICK, Autotune(trials=2))
    trained = train(file, None, settings=QUICK, autotune=Autotune(trials=2))
    assert trained.manifest.training["search"] == found.described()


def test_the_size_is_that_of_the_saved_files(file: Path, tmp_path: Path):
    settings = replace(WITHOUT_BITS, refit=False)
    trained = train(file, tmp_path / "spam", settings=settings, autotune=Autotune(trials=5))
    record = trained.manifest.training["search"]
    best = next(trial for trial in record["trials"] if trial["number"] == record["best"])
    files = open_artifact(tmp_path / "spam").manifest.files
    assert best["size_bytes"] == sum(facts.size_bytes for name, facts in files.items() if name not in PAGES)


def test_train_keeps_measured_model_if_all_rows_grow_too_large(file: Path, tmp_path: Path):
    measured = replace(WITHOUT_BITS, refit=False)
    small = train(file, tmp_path / "small", settings=measured, autotune=Autotune(trials=1))
    (trial,) = small.manifest.training["search"]["trials"]
    said: list[str] = []
    limits = Autotune(trials=1, max_bytes=trial["size_bytes"])
    bounded = train(file, tmp_path / "bounded", settings=WITHOUT_BITS, autotune=limits, log=said.append)
    assert bounded.manifest.data.learned_rows == bounded.manifest.data.train_rows
    assert any("the measured one is saved" in line for line in said)


def test_models_that_are_too_large_are_refused_before_they_tried(part: Dataset):
    default = search(part, WITHOUT_BITS, Autotune(trials=1)).trials[0].size_bytes
    assert default is not None
    found = search(part, WITHOUT_BITS, Autotune(trials=25, max_bytes=default // 2))
    assert found.trials[0].outcome == "too large" and found.trials[0].folds == 0
    assert found.best is not None and found.best.size_bytes is not None
    assert found.best.size_bytes <= default // 2
    assert found.gain is None  # there is nothing to compare it with
    too_large = [trial for trial in found.trials if trial.outcome == "too large"]
    assert all(trial.size_bytes is not None and trial.size_bytes > default // 2 for trial in too_large)


def test_nothing_small_enough_is_an_error_that_names_smallest(part: Dataset):
    with pytest.raises(
        TrainingError, match=r"at most 300 bytes was found in 4 trials; the smallest had [0-9,]+"
    ):
        search(part, QUICK, Autotune(trials=4, max_bytes=300))


def test_no_time_to_measure_a_size_is_an_error(part: Dataset):
    clock = ManualClock()
    watcher = Watcher(within(1, 0), lambda: clock.advance(60.0))
    with pytest.raises(TrainingError, match="no trial was complete within the budget"):
        search(part, QUICK, Autotune(seconds=5.0, max_bytes=10**6, watch=watcher, clock=clock))


def test_a_candidate_that_cannot_be_learned_is_one_failed_trial():
    """No word is in five texts, so candidates with `min_documents=5` and 8 have no feature at all."""
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefghijklmnop", k=12)) for _ in range(40)]
    rows = [(word, str(place)) for place, word in enumerate(words) for _ in range(4)]
    data = Dataset(
        texts=[word for word, _ in rows],
        labels=["ham" if int(group) % 2 else "spam" for _, group in rows],
        rows=[*range(1, len(rows) + 1)],
        groups=[group for _, group in rows],
    )
    overrides = {"shapes": "false", "word_pairs": "false", "ngram_min": "12", "ngram_max": "12"}
    settings = TrainSettings(folds=3, overrides=overrides)
    found = search(data, settings, Autotune(trials=20))
    failed = [trial for trial in found.trials if trial.outcome == "failed"]
    assert failed and all("training needs more data" in trial.why for trial in failed)
    assert found.best is not None and found.best.outcome == "complete"


def test_defaults_that_cannot_be_learned_are_an_error(part: Dataset):
    with pytest.raises(TrainingError, match="did you mean 'bits'"):
        search(part, TrainSettings(overrides={"bit": "12"}), Autotune(trials=3))


def test_a_space_that_is_used_up_ends_the_search(part: Dataset):
    fixed = {"c": "1", "class_weight": "none", "ngram_min": "2", "ngram_max": "3", "min_documents": "2"}
    weights = {"feature_weights": "none", "ngram_weight": "1", "shape_weight": "0.2", "keep": "1"}
    settings = TrainSettings(
        folds=2, overrides={**fixed, **weights, "word_pairs": "true", "phrases": "false", "bits": "12"}
    )
    found = search(part, settings, Autotune(trials=50))
    assert (len(found.trials), found.ended) == (2, "space")  # with shapes and without


def test_more_than_two_labels_are_searched_for(tmp_path: Path):
    file = write_csv(messages(240, labels=("ham", "spam", "question")), tmp_path / "three.csv")
    trained = train(file, tmp_path / "three", settings=QUICK, autotune=Autotune(trials=5))
    assert trained.manifest.training["search"]["tried"] == 5
    assert Classifier.load(tmp_path / "three").predict("how do I return the map?").label == "question"


def test_of_many_trials_the_first_and_the_best_are_recorded():
    """The first is the worst, and every other one was given up."""
    some = [
        Trial(n, Candidate("linear"), "given up" if n % 2 == 0 else "complete", folds=3, log_loss=1 / n)
        for n in range(1, 60)
    ]
    told = SearchResult((*some,), some[58], ("linear",), None, None, "time").described()
    assert (told["tried"], told["best"]) == (59, 59)
    assert [trial["number"] for trial in told["trials"]] == [1, *range(23, 60, 2)]


def test_network_alone_is_tried_on_fold_that_it_is_calibrated_on(file: Path, tmp_path: Path):
    limits = Autotune(trials=1, max_bytes=10**6)
    trained = train(file, tmp_path / "spam", settings=replace(NETWORK, refit=False), autotune=limits)
    trial, *others = trained.manifest.training["search"]["trials"]
    assert (trial["folds"], others) == (1, [])
    calibration = trained.manifest.calibration
    assert trial["log_loss"] == pytest.approx(calibration["log_loss"][1 if calibration["kept"] else 0])
    files = open_artifact(tmp_path / "spam").manifest.files
    assert trial["size_bytes"] == sum(one.size_bytes for name, one in files.items() if name not in PAGES)


def test_ctrl_c_within_a_network_ends_the_search(part: Dataset):
    """The network itself keeps its best epoch then: no reason to go on."""
    pressed: list[int] = []

    def press_once() -> None:
        if pressed.count(0) > 12:  # well within the second of two epochs, thirteen batches in all
            raise KeyboardInterrupt
        pressed.append(0)

    settings = replace(NETWORK, overrides={**NETWORK.overrides, "epochs": "4"})
    watcher = Watcher(lambda state: len(state.trials) == 1 and state.running is not None, press_once)
    found = search(part, settings, Autotune(trials=3, watch=watcher))
    assert (found.ended, len(found.trials)) == ("stopped", 1)
    assert found.trials[0].size_bytes is None  # measuring it would take as long as the trial


def test_an_unknown_kind_is_refused_by_name(part: Dataset):
    with pytest.raises(TrainingError, match="did you mean 'linear'"):
        search(part, TrainSettings(model="liner"), Autotune(trials=1))
