"""A version records what its later life needs: digests of its texts, a profile, and a self-test."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis import Classifier, train
from tamis.artifact import open_artifact
from tamis.artifact.profile import (
    LEARNED_FILE,
    PROFILE_FILE,
    LearnedTexts,
    decode_profile,
    length_bins,
    share_bins,
)
from tamis.errors import ArtifactError
from tamis.models.self_test import PROBES_FILE
from tamis.training.fit import TrainSettings
from tests.support.samples import messages, write_csv

QUICK = TrainSettings(folds=2, overrides={"bits": "12"})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    data = write_csv(messages(200), folder / "messages.csv")
    path = train(data, folder / "spam", settings=QUICK).path
    assert path is not None
    return path


@pytest.fixture
def version(model: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(model, tmp_path / "spam" / "1"))


def rewrite(version: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file, and the manifest with it: only the self-test can find out."""
    data = change((version / name).read_bytes())
    (version / name).write_bytes(data)
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (version / "manifest.json").write_text(json.dumps(manifest))


def probes_with(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        probes = json.loads(data)
        change(probes)
        return json.dumps(probes).encode()

    return changed


def test_train_records_digests_of_all_learned_texts(model: Path):
    artifact = open_artifact(model)
    learned = LearnedTexts.from_bytes(artifact.read(LEARNED_FILE), key=artifact.manifest.data.sha256)
    texts = messages(200).texts
    assert learned.contains(texts).all() and learned.texts.size == len({*texts})
    assert not learned.contains(["a text that nobody wrote", *map(str.upper, texts[:3])]).any()
    assert learned.contains_form([*map(str.upper, texts)]).all()
    stored = b"".join((model / name).read_bytes() for name in (LEARNED_FILE, PROFILE_FILE, PROBES_FILE))
    assert not any(text.encode() in stored for text in texts)


def test_train_no_refit_records_the_training_part_alone(tmp_path: Path):
    data = write_csv(messages(200), tmp_path / "messages.csv")
    settings = TrainSettings(folds=2, overrides={"bits": "12"}, refit=False)
    path = train(data, tmp_path / "spam", settings=settings).path
    assert path is not None
    artifact = open_artifact(path)
    profile = decode_profile(artifact.read(PROFILE_FILE))
    assert sum(profile.learned.values()) == artifact.manifest.data.train_rows


def test_train_profile_counts_every_held_out_text(model: Path):
    artifact = open_artifact(model)
    profile, data = decode_profile(artifact.read(PROFILE_FILE)), artifact.manifest.data
    assert profile.learned == dict(Counter(messages(200).labels))
    assert sum(profile.predicted.values()) == data.test_rows
    assert profile.unknown is not None
    for histograms in (profile.confidence, profile.length, profile.unknown):
        assert {label: sum(counts) for label, counts in histograms.items()} == profile.predicted


def test_train_twice_records_the_same_bytes(model: Path, tmp_path: Path):
    again = train(write_csv(messages(200), tmp_path / "m.csv"), tmp_path / "spam", settings=QUICK).path
    assert again is not None
    for name in (LEARNED_FILE, PROFILE_FILE, PROBES_FILE):
        assert (again / name).read_bytes() == (model / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda probes: probes["scores"][3].reverse(), "self-test failed: 1 of"),
        (
            lambda probes: probes["scores"][0].__setitem__(0, probes["scores"][0][0] + 1e-3),
            "self-test failed",
        ),
        (
            lambda probes: probes["scores"][0].__setitem__(0, float(np.nextafter(probes["scores"][0][0], 1))),
            "self-test failed: 1 of",  # the last digit
        ),
        (lambda probes: probes["scores"].pop(), "does not have 2 probabilities"),
        (lambda probes: probes["scores"][0].append(0.0), "does not have 2 probabilities"),
        (lambda probes: probes.update(texts=[], scores=[]), "does not have 2 probabilities"),
        (lambda probes: probes["scores"][0].__setitem__(0, "one"), "probes.json cannot be read"),
        (lambda probes: probes.update(more=1), "probes.json cannot be read"),
    ],
)
def test_load_refuses_changed_probes(version: Path, change: Callable[[Any], Any], message: str):
    rewrite(version, PROBES_FILE, probes_with(change))
    with pytest.raises(ArtifactError, match=message):
        Classifier.load(version)


@pytest.mark.parametrize("arithmetic", ["another machine's", ""])
def test_load_elsewhere_accepts_another_rounding(version: Path, arithmetic: str):
    """Where `exp` may be rounded otherwise, and for models saved before that was noted, 1e-12 is allowed."""

    def change(probes: Any) -> None:
        probes["arithmetic"] = arithmetic
        probes["scores"] = np.nextafter(probes["scores"], 1).tolist()

    rewrite(version, PROBES_FILE, probes_with(change))
    assert Classifier.load(version).predict("WIN").label
    rewrite(version, PROBES_FILE, probes_with(lambda probes: probes["scores"][0].__setitem__(0, 0.1)))
    with pytest.raises(ArtifactError, match="self-test failed"):
        Classifier.load(version)


def test_load_refuses_weights_of_another_training(version: Path, tmp_path: Path):
    data = write_csv(messages(160, seed=2), tmp_path / "other.csv")
    other = train(data, tmp_path / "other", settings=QUICK).path
    assert other is not None
    rewrite(version, "weights.safetensors", lambda _: (other / "weights.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="self-test failed"):
        Classifier.load(version)


def test_load_serves_a_version_without_records(version: Path, model: Path):
    manifest = json.loads((version / "manifest.json").read_text())
    for name in (LEARNED_FILE, PROFILE_FILE, PROBES_FILE):
        (version / name).unlink()
        del manifest["files"][name]
    (version / "manifest.json").write_text(json.dumps(manifest))
    texts = messages(20, seed=4).texts
    found, expected = (Classifier.load(path).probabilities(texts) for path in (version, model))
    assert np.array_equal(found, expected)


def test_unknown_shares_are_those_of_the_vocabulary(tmp_path: Path):
    from tamis.training.trainers.linear.trainer import LinearTrainer

    data = messages(200)
    trained = LinearTrainer(keep=1.0, bits=20).fit(data.texts, data.labels)
    assert (trained.unknown_shares(data.texts) == 0).all()
    (unknown,) = trained.unknown_shares(["ζητώ ένα βιβλίο για ψάρια"])
    assert 0.5 < unknown <= 1


@given(st.lists(st.floats(0, 1), min_size=1))
def test_share_bins_hold_every_share(shares: list[float]):
    bins = share_bins(np.array(shares))
    assert ((bins >= 0) & (bins < 20)).all()
    assert all(abs(b / 20 - share) <= 0.05 + 1e-9 for b, share in zip(bins, shares, strict=True))


@given(st.lists(st.integers(0, 2**40), min_size=1))
def test_length_bins_double(lengths: list[int]):
    bins = length_bins(np.array(lengths, np.intp)).tolist()
    assert bins == [min((length + 1).bit_length() - 1, 23) for length in lengths]
