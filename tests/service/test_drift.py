"""Drift in a real service: what it finds in its predictions, who sees it, and what a restart keeps."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis.training.train import train
from tests.support.artifacts import save_model
from tests.support.metrics_page import value
from tests.support.processes import Service, serving, waiting_for
from tests.support.samples import messages, write_csv

FRENCH = [
    "Bonjour, est-ce que tu viens à la bibliothèque demain à %d heures ?",
    "Je serai en retard de %d minutes, désolé, le métro est arrêté",
    "N'oublie pas d'acheter du pain et %d œufs en rentrant ce soir",
    "Le train de %d heures est annulé aujourd'hui, quelle surprise",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    train(write_csv(messages(1_200), folder / "data.csv"), folder / "models" / "spam")
    return folder / "models"


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "models")
    return tmp_path / "models"


def _texts(share: float, n: int, seed: int) -> list[str]:
    """Return texts of which this share is spam."""
    data, draw = messages(2 * n, seed=seed), random.Random(seed)
    ham, spam = data.texts[::2], data.texts[1::2]
    return [(spam if draw.random() < share else ham)[place] for place in range(n)]


def _send(ask: httpx.Client, texts: Sequence[str], *, size: int = 50) -> None:
    for start in range(0, len(texts), size):
        # each on its own connection, so that either worker may answer
        body = {"texts": texts[start : start + size], "echo_input": False}
        answer = httpx.post(ask.base_url.join("/predictions"), json=body, timeout=60)
        assert answer.status_code == 200, answer.text


def _drift(ask: httpx.Client, model: str = "spam") -> dict[str, Any]:
    answer = ask.get(f"/models/{model}/drift")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _until(service: Service, holds: Callable[[], bool]) -> None:
    for _ in waiting_for(service.process):
        if holds():
            return
    raise AssertionError(service.said)


@pytest.fixture
def ask(models: Path, tmp_path: Path) -> Iterator[tuple[Service, httpx.Client]]:
    with (
        serving(tmp_path, "models/spam", "--workers", "2") as service,
        httpx.Client(base_url=service.address, timeout=60) as client,
    ):
        yield service, client


def test_shifted_share_is_seen_by_all_workers(ask: tuple[Service, httpx.Client]) -> None:
    service, client = ask
    assert _drift(client)["state"] == "too few texts"
    _send(client, _texts(0.5, 1_000, 1))
    _until(service, lambda: _drift(client)["windows"][0]["texts"] == 1_000)
    steady = _drift(client)
    assert steady["state"] == "steady" and steady["reference_texts"] > 200
    _send(client, _texts(0.65, 1_000, 2))
    _until(service, lambda: "drift began" in service.said)
    found = _drift(client)
    assert found["state"] == "drifting" and "labels" in found["windows"][0]["drifting"]
    spam = next(one for one in found["windows"][0]["labels"] if one["label"] == "spam")
    assert 0.05 < spam["low"] < spam["difference"] < spam["high"]
    labels = {"model": "spam", "version": "1", "window": "recent", "feature": "labels"}
    pages = (httpx.get(f"{service.address}/metrics").text for _ in range(1_000))
    assert any(value(page, "tamis_drifting", **labels) == 1 for page in pages)
    page = client.get("/metrics").text
    low, psi, high = (value(page, f"tamis_drift_psi{end}", **labels) for end in ("_low", "", "_high"))
    assert 0 < low < psi < high
    assert service.said.count("drift began") == service.said.count("feature=labels window=recent"), (
        "one worker logs a change"
    )


def test_counts_outlive_a_restart_and_hold_no_text(models: Path, tmp_path: Path) -> None:
    texts = _texts(0.5, 300, 3)
    for total in (300, 600):
        with serving(tmp_path, "models/spam", "--workers", "2") as service:
            with httpx.Client(base_url=service.address, timeout=60) as client:
                _send(client, texts)
                _until(service, lambda: _drift(client)["windows"][0]["texts"] == total)  # noqa: B023
            assert service.stop() == 0
    [counts] = (models / "spam" / "drift").iterdir()
    assert not any(word in counts.read_bytes() for word in (b"library", b"umbrella", b"URGENT"))


def test_killed_worker_loses_no_counts_of_others(ask: tuple[Service, httpx.Client]) -> None:
    service, client = ask
    _send(client, _texts(0.5, 400, 4))
    _until(service, lambda: _drift(client)["windows"][0]["texts"] == 400)
    for pid in service.workers():
        os.kill(pid, signal.SIGKILL)

    def is_counted() -> bool:
        try:
            return bool(
                httpx.get(f"{service.address}/models/spam/drift").json()["windows"][0]["texts"] == 400
            )
        except httpx.TransportError:
            return False

    _until(service, is_counted)


def test_model_without_profile_says_so(tmp_path: Path) -> None:
    save_model(tmp_path / "spam")
    with serving(tmp_path, "spam") as service, httpx.Client(base_url=service.address) as client:
        _send(client, ["one", "two"])
        found = _drift(client)
        assert (found["state"], found["windows"]) == ("no profile", [])
        assert client.get("/models/nothing/drift").status_code == 404
    assert not (tmp_path / "spam" / "drift").exists()


def test_drift_can_be_switched_off(models: Path, tmp_path: Path) -> None:
    with (
        serving(tmp_path, "models/spam", TAMIS_DRIFT_TEXTS="0") as service,
        httpx.Client(base_url=service.address) as client,
    ):
        _send(client, ["one", "two"])
        assert _drift(client)["state"] == "off"
    assert not (models / "spam" / "drift").exists()


def test_artifact_under_two_names_counts_a_text_once(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "spam", models / "mail")
    with (
        serving(tmp_path, "models/spam", "models/mail") as service,
        httpx.Client(base_url=service.address, timeout=60) as client,
    ):
        _send(client, _texts(0.5, 100, 5))
        assert _drift(client)["windows"][0]["texts"] == 100


@pytest.fixture(scope="module")
def sms(shared_data: Path) -> list[tuple[str, str]]:
    with (shared_data / "spam-dataset.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["label"], row["text"]) for row in csv.DictReader(file) if row["source"] == "sms-spam"]
    random.Random(3).shuffle(rows)
    return rows


def test_real_texts_alarm_for_a_shift_and_a_language_only(sms: list[tuple[str, str]], tmp_path: Path) -> None:
    """Train on one half, send the other: 100 times as it is, then with more spam, then in French."""
    half, draw = len(sms) // 2, random.Random(4)
    with (tmp_path / "sms.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *sms[:half]])
    train(tmp_path / "sms.csv", tmp_path / "sms")
    unseen = sms[half:]
    sides = {label: [text for one, text in unseen if one == label] for label in ("ham", "spam")}
    share = len(sides["spam"]) / len(unseen)

    def mixed(share: float) -> list[str]:
        return [draw.choice(sides["spam" if draw.random() < share else "ham"]) for _ in range(1_000)]

    with (
        serving(tmp_path, "sms", TAMIS_STORE="memory:") as service,
        httpx.Client(base_url=service.address, timeout=60) as client,
    ):

        def drifting(texts: list[str]) -> list[str]:
            _send(client, texts, size=1_000)
            recent = _drift(client, "sms")["windows"][0]
            assert recent["texts"] == 1_000
            found: list[str] = recent["drifting"]
            return found

        false_alarms = sum(bool(drifting(mixed(share))) for _ in range(100))
        assert false_alarms <= 5
        assert "labels" in drifting(mixed(share + 0.10))
        assert drifting(mixed(share)) == []
        in_french = drifting([draw.choice(FRENCH) % draw.randrange(24) for _ in range(1_000)])
        assert {"labels", "confidence", "length", "unknown_features"} & {*in_french}
        assert "unknown_features" in in_french or "length" in in_french
