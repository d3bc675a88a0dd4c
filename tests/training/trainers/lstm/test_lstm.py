"""The network learns, the same bits each time, and its exports answer as it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tamis.errors import TrainingError
from tamis.models.network.tokenizer import Tokenizer, pad
from tamis.training.trainers import PRESETS, hyper_parameters, make_trainer, preset
from tamis.training.trainers.base import Calibration, softmax
from tamis.training.trainers.lstm.keras_backend import keras
from tamis.training.trainers.lstm.network import NetworkShape, build_network
from tamis.training.trainers.lstm.recurrence import Weights
from tamis.training.trainers.lstm.train_step import _first_state
from tamis.training.trainers.lstm.trainer import LstmTrainer, _Texts
from tests.support.networks import SMALL, small_lstm
from tests.support.samples import messages

ROOT = Path(__file__).parents[4]
HELD = messages(60, seed=99)


def accuracy(model: LstmTrainer, labels: tuple[str, ...] = ("ham", "spam")) -> float:
    data = messages(90, labels=labels, seed=99)
    predicted = np.asarray(model.classes_)[model.logits(data.texts).argmax(axis=1)]
    return float((predicted == np.asarray(data.labels)).mean())


def test_it_learns_two_classes(model: LstmTrainer):
    assert accuracy(model) > 0.95


def test_it_learns_three_classes():
    labels = ("ham", "spam", "question")
    assert accuracy(small_lstm(labels=labels, epochs=8), labels) > 0.9


def test_the_same_bits_are_learned_in_another_process(model: LstmTrainer):
    assert learned_elsewhere("import sys") == b"".join(array.tobytes() for array in model.weights_)


def test_lstm_learns_the_same_where_jax_already_runs(model: LstmTrainer):
    one_device = "import sys, jax; assert len(jax.devices()) == 1"
    weights = np.frombuffer(learned_elsewhere(one_device), np.float32)
    expected = np.concatenate([array.ravel() for array in model.weights_])
    assert np.abs(weights - expected).max() < 1e-3  # gradients are added up in another order


def learned_elsewhere(beginning: str) -> bytes:
    program = (
        f"{beginning}; from tests.support.networks import small_lstm\n"
        "sys.stdout.buffer.write(b''.join(array.tobytes() for array in small_lstm().weights_))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT)
    return run.stdout


@pytest.mark.parametrize("batch", [7, 8, 1])
def test_lstm_every_text_counts_once_in_odd_batches_too(batch: int):
    nothing_dropped = {"spatial_dropout": 0.0, "dropout": 0.0, "recurrent_dropout": 0.0}
    model = small_lstm(batch=batch, epochs=1, learning_rate=1e-12, **nothing_dropped)
    data = messages(240)
    chances = softmax(model.logits(data.texts))
    places = [model.classes_.index(label) for label in data.labels]
    loss = -np.log(chances[np.arange(len(places)), places]).mean()
    assert model.history_[0]["loss"] == pytest.approx(loss, abs=1e-4)
    assert model.history_[0]["accuracy"] == (chances.argmax(axis=1) == places).mean()


def test_another_seed_learns_other_weights(model: LstmTrainer):
    assert not np.array_equal(small_lstm(seed=1).weights_[0], model.weights_[0])


def test_a_text_has_the_same_answer_alone_and_among_others(model: LstmTrainer):
    texts = [*HELD.texts[:9], "", "win " * 40]
    together = model.logits(texts)
    for text, logits in zip(texts, together, strict=True):
        assert np.abs(model.logits([text])[0] - logits).max() <= 1e-5


def test_lstm_masked_padding_does_not_change_an_answer(model: LstmTrainer):
    (sequence,) = model.tokenizer_.sequences([HELD.texts[0]], max_tokens=24)
    network = model.network()
    answers = [
        np.asarray(network(pad([sequence], width=width, left=left)))
        for width, left in [(sequence.size, False), (24, False), (24, True)]
    ]
    assert np.allclose(answers[0], answers[1], atol=1e-6) and np.allclose(answers[0], answers[2], atol=1e-6)


def test_the_workshop_preset_is_the_network_of_the_workshop():
    made = make_trainer("lstm", preset("lstm", "workshop"), seed=42)
    assert isinstance(made, LstmTrainer)
    assert (made.words, made.max_tokens, made.epochs, made.batch, made.mask) == (280, 300, 3, 32, True)
    assert (made.validation, made.learning_rate, made.average, made.class_weight) == (0.0, 0.001, 0.0, "none")
    network = build_network(NetworkShape(made.words, 2), activation="softmax", seed=1)
    assert network.count_params() == 291_034
    by_name = {layer.name: layer for layer in network.layers}
    assert by_name["spatial_dropout"].rate == 0.4
    assert (by_name["lstm"].units, by_name["lstm"].dropout, by_name["lstm"].recurrent_dropout) == (
        196,
        0.3,
        0.3,
    )


def test_unmasked_texts_are_padded_to_the_full_length():
    made = make_trainer("lstm", {**preset("lstm", "workshop"), "mask": "false"}, seed=42)
    assert isinstance(made, LstmTrainer)
    assert made.widths == (300,)


def test_presets_name_settings_that_exist():
    for kind, presets in PRESETS.items():
        for values in presets.values():
            assert values.keys() <= hyper_parameters(kind).keys()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("lstm", "worksop", "did you mean 'workshop'"),
        ("linear", "workshop", "linear has no preset"),
        ("lstn", "workshop", "did you mean 'lstm'"),
    ],
)
def test_an_unknown_preset_is_refused_with_the_nearest(kind: str, name: str, message: str):
    with pytest.raises(TrainingError, match=message):
        preset(kind, name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"unit": "5"}, "did you mean 'units'"),
        ({"units": "0"}, "units must be at least 1"),
        ({"dropout": "1"}, "dropout must be"),
        ({"validation": "nan"}, "validation must be"),
        ({"buckets": "8;9"}, "buckets must be"),
        ({"mask": "maybe"}, "--set mask=maybe"),
        ({"learning_rate": "0"}, "learning_rate must be"),
    ],
)
def test_settings_are_refused_with_the_name(overrides: dict[str, str], message: str):
    with pytest.raises(TrainingError, match=message):
        make_trainer("lstm", overrides, seed=1)


def test_buckets_are_ordered_and_end_with_the_longest_text():
    assert LstmTrainer(buckets="40, 16,999", max_tokens=100).widths == (16, 40, 100)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [(["a", "b"], ["ham", "ham"], "two classes"), (["!", "?"], ["ham", "spam"], "no word")],
)
def test_fit_refuses_what_teaches_nothing(texts: list[str], labels: list[str], message: str):
    with pytest.raises(TrainingError, match=message):
        LstmTrainer(**SMALL).fit(texts, labels)


class TestValidation:
    """Part of the texts is kept aside; the best epoch by its loss is the one that stays."""

    def test_it_stops_when_the_validation_loss_has_not_improved(self):
        data = messages(60)
        senseless = np.random.default_rng(0).permutation(data.labels).tolist()
        settings = {
            **SMALL,
            "validation": 0.3,
            "refit": False,
            "patience": 2,
            "epochs": 30,
            "learning_rate": 0.05,
        }
        losses = [
            epoch["validation loss"] for epoch in LstmTrainer(**settings).fit(data.texts, senseless).history_
        ]
        assert len(losses) < 30
        assert int(np.argmin(losses)) == len(losses) - 3

    def test_words_are_counted_in_the_texts_it_learns_from_alone(self):
        texts = [f"word{k} common" for k in range(40)]
        model = LstmTrainer(**{**SMALL, "validation": 0.5, "epochs": 1, "refit": False}).fit(
            texts, ["a", "b"] * 20
        )
        assert len(model.tokenizer_.word_index) == 21

    def test_lstm_refit_learns_all_texts_for_the_best_epochs(self):
        data = messages(120)
        settings = {**SMALL, "epochs": 4, "patience": 4}
        model = LstmTrainer(**{**settings, "validation": 0.3}).fit(data.texts, data.labels)
        first = [epoch for epoch in model.history_ if "validation loss" in epoch]
        best = int(np.argmin([epoch["validation loss"] for epoch in first])) + 1
        plain = LstmTrainer(**{**settings, "epochs": best}).fit(data.texts, data.labels)
        assert len(model.history_) == 4 + best
        assert all(np.array_equal(a, b) for a, b in zip(model.weights_, plain.weights_, strict=True))
        assert model.tokenizer_ == plain.tokenizer_

    def test_texts_of_equal_words_are_on_one_side(self):
        texts = ["one two", "One, two!", "three"] * 5
        kept, aside = LstmTrainer(**{**SMALL, "validation": 0.5})._divide(texts)
        assert {texts[i] for i in kept} in ({"three"}, {"one two", "One, two!"})
        assert sorted(kept + aside) == list(range(15))


class TestInterrupted:
    """Ctrl-C ends learning with the best epoch so far, once there is one."""

    @staticmethod
    def fit(after_steps: int, said: list[str]) -> LstmTrainer:
        data = messages(240)

        def press_ctrl_c(done: int, total: int) -> None:
            if done == after_steps:
                raise KeyboardInterrupt

        return LstmTrainer(**{**SMALL, "epochs": 5}).fit(
            data.texts, data.labels, progress=press_ctrl_c, notice=said.append
        )

    def test_the_best_epoch_is_kept(self, model: LstmTrainer):
        said: list[str] = []
        stopped = self.fit(20, said)
        assert stopped.interrupted_ and not model.interrupted_
        assert said[-1] == "stopped in epoch 3 of 5; the best epoch so far is kept"
        assert all(np.array_equal(a, b) for a, b in zip(stopped.weights_, model.weights_, strict=True)), (
            "two epochs are complete, as many as the other model learned"
        )

    def test_lstm_refit_stopped_at_once_keeps_the_first_fit(self):
        data = messages(120)
        settings = {**SMALL, "validation": 0.3, "epochs": 2}
        pressed: list[int] = []

        def press_ctrl_c(done: int, total: int) -> None:
            if done / total > 0.55 and not pressed:
                pressed.append(done)
                raise KeyboardInterrupt

        said: list[str] = []
        stopped = LstmTrainer(**settings).fit(
            data.texts, data.labels, progress=press_ctrl_c, notice=said.append
        )
        first = LstmTrainer(**settings, refit=False).fit(data.texts, data.labels)
        assert stopped.interrupted_ and pressed
        assert said[-1] == "stopped; the model fitted without the validation part is kept"
        assert all(np.array_equal(a, b) for a, b in zip(stopped.weights_, first.weights_, strict=True))

    def test_nothing_is_kept_when_no_epoch_is_complete(self):
        with pytest.raises(KeyboardInterrupt):
            self.fit(2, [])


def test_progress_and_loss_are_told(model: LstmTrainer):
    steps: list[tuple[int, int]] = []
    said: list[str] = []
    data = messages(240)
    LstmTrainer(**SMALL).fit(
        data.texts, data.labels, progress=lambda *step: steps.append(step), notice=said.append
    )
    shares = [done / total for done, total in steps]
    assert shares == sorted(shares) and shares[-1] == 1
    assert said[-1].startswith("epoch 2 of 2: loss 0.") and "accuracy 0." in said[-1]


def test_lstm_class_weights_raise_the_recall_of_a_rare_class():
    data = messages(400)
    rare = data.select([i for i in range(400) if data.labels[i] == "ham" or i < 20])
    spam = messages(60, labels=("spam",), seed=3).texts
    leaning = []
    for weight in ("none", "mild", "balanced"):
        settings = {**SMALL, "class_weight": weight, "learning_rate": 0.005}
        logits = LstmTrainer(**settings).fit(rare.texts, rare.labels).logits(spam)
        leaning.append((logits[:, 1] - logits[:, 0]).mean())
    assert leaning == sorted(set(leaning))


@pytest.mark.parametrize(("class_weight", "ratio"), [("none", 1.0), ("mild", 3.0), ("balanced", 9.0)])
def test_class_weights_have_the_mean_one(class_weight: str, ratio: float):
    model = LstmTrainer(**{**SMALL, "class_weight": class_weight})
    model.classes_ = ("ham", "spam")
    texts, classes = ["see you"] * 20, np.array([0] * 18 + [1] * 2)
    tokenizer = Tokenizer.fit(texts, num_words=10)
    weights = model._examples(_Texts(texts, classes), tokenizer, list(range(20))).weights
    assert weights.mean() == pytest.approx(1) and weights[-1] / weights[0] == pytest.approx(ratio)


def test_the_average_is_that_of_the_weights_of_all_steps():
    """One step an epoch: what a shorter fit ends with are the weights after that many steps."""
    data = messages(32)

    def fit(epochs: int, average: float) -> LstmTrainer:
        settings = {**SMALL, "buckets": "", "epochs": epochs, "average": average}
        return LstmTrainer(**settings).fit(data.texts, data.labels)

    plain = [fit(epochs, 0.0) for epochs in (1, 2, 3)]
    shape = plain[0]._shape(plain[0].tokenizer_)
    network = build_network(shape, activation="linear", seed=plain[0].seed)
    expected = [np.array(variable.value) for variable in network.trainable_variables]
    for done, model in enumerate(plain):
        kept = min(0.15, (1 + done) / (10 + done))
        expected = [kept * old + (1 - kept) * new for old, new in zip(expected, model.weights_, strict=True)]
    averaged = fit(3, 0.15).weights_
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(averaged, expected, strict=True))
    assert not np.allclose(averaged[-2], plain[-1].weights_[-2], atol=1e-4)


class TestExport:
    def test_keras_builds_the_network_from_its_json(self, model: LstmTrainer, tmp_path: Path):
        model.export(tmp_path, Calibration(1.0, (0.0, 0.0)))
        network = keras.models.model_from_json((tmp_path / "network.json").read_text())
        network.set_weights(model.weights_)
        tokens = pad(model.tokenizer_.sequences(HELD.texts, max_tokens=24), width=24)
        assert np.allclose(np.asarray(network(tokens)), softmax(model.logits(HELD.texts)), atol=1e-5)

    def test_the_same_bytes_are_written_twice(self, model: LstmTrainer, tmp_path: Path):
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
            model.export(folder, Calibration(1.5, (0.1, -0.1)))
        names = sorted(path.name for path in folders[0].iterdir())
        assert names == ["model.onnx", "network.json", "tokenizer.json"]
        assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)

    def test_the_network_is_described_for_its_scorer(self, model: LstmTrainer, tmp_path: Path):
        described = model.export(tmp_path, Calibration(1.0, (0.0, 0.0)))
        assert json.loads(json.dumps(described)) == {"max_tokens": 24, "own_steps": True, "margin": None}


def test_another_backend_is_refused_by_name():
    program = (
        "import os; os.environ['KERAS_BACKEND'] = 'numpy'\n"
        "from tests.support.networks import small_lstm\n"
        "from tamis.errors import TrainingError\n"
        "try: small_lstm()\n"
        "except TrainingError as refused: print(refused)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "'numpy'" in run.stdout and "KERAS_BACKEND=jax" in run.stdout


def test_the_first_state_is_that_of_keras():
    shape = NetworkShape(words=9, classes=3, embedding=6, units=5)
    optimizer = keras.optimizers.Adam(0.01)
    trained, moments, averages = _first_state(shape, optimizer, 7, averaged=True)
    own = [*Weights(*trained[:-2]).to_keras(), *trained[-2:]]
    network = build_network(shape, activation="linear", seed=7)
    by_keras = [variable.value for variable in network.trainable_variables]
    assert all(np.array_equal(a, b) for a, b in zip(own, by_keras, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(averages, trained, strict=True))
    done, rate, *others = moments
    assert (int(done), float(rate)) == (0, pytest.approx(0.01))
    assert [part.shape for part in others] == [part.shape for part in trained for _ in range(2)]
    assert not any(part.any() for part in others)


def test_lstm_compilation_cache_is_the_users_by_default(tmp_path: Path):
    program = (
        "import os; from tamis.training.trainers.lstm.keras_backend import jax, prepare_keras\n"
        "def tell(): prepare_keras(); print(jax.config.jax_compilation_cache_dir)\n"
        "tell()\n"
        "jax.config.update('jax_compilation_cache_dir', None); os.environ['XDG_CACHE_HOME'] = ''; tell()"
    )
    base = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    users = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}

    def told(**variables: str) -> list[str]:
        environment = {**base, **users, **variables}
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        ).stdout.splitlines()

    assert told() == [str(tmp_path / folder / "tamis" / "jax") for folder in ("xdg", ".cache")]
    assert told(JAX_COMPILATION_CACHE_DIR="/chosen")[0] == "/chosen"
