"""The whole loop in real processes: train, serve, report true labels, retrain, promote, roll back."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

import httpx

from tamis.artifact import read_aliases, set_alias
from tests.support.processes import ENVIRON, Service, serving, waiting_for

_TOPICS = {
    "parcel": ["parcel", "delivery", "courier", "shipment"],
    "refund": ["refund", "invoice", "payment", "charge"],
}


def _text(label: str, number: int) -> str:
    draw = random.Random(f"{label} {number}")
    word = draw.choice(_TOPICS[label])
    return f"{draw.choice(['Hello', 'Hi', 'Please'])}, my {word} number {draw.randrange(10**6)} is late again"


def _tamis(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tamis", *arguments],
        cwd=folder,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _ask(service: Service) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60)


def test_loop_from_feedback_to_a_promoted_version(tmp_path: Path) -> None:
    # "shipment" and "charge" are labelled the wrong way round in what the first version learns
    rows = []
    for label, other in (("parcel", "refund"), ("refund", "parcel")):
        for number in range(120):
            text = _text(label, number)
            rows.append((other if "shipment" in text or "charge" in text else label, text))
    with (tmp_path / "mail.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    assert _tamis(tmp_path, "train", "mail.csv", "-o", "models/mail").returncode == 0
    set_alias(f"{tmp_path}/models/mail@1", "champion")
    truths = [(_text(label, number), label) for label in _TOPICS for number in range(1_000, 1_200)]
    with serving(tmp_path, "models/mail@champion") as service, _ask(service) as ask:
        answers = [ask.post("/prediction", json={"text": text}).json() for text, _ in truths]
        wrong = sum(
            answer["top"]["label"] != label for answer, (_, label) in zip(answers, truths, strict=True)
        )
        assert wrong > 50
        for answer, (_, label) in zip(answers, truths, strict=True):
            reported = ask.post("/feedback", json={"prediction_id": answer["id"], "label": label})
            assert reported.status_code == 201, reported.text
        store = f"sqlite:///{tmp_path}/models/mail/tamis.db"
        done = _tamis(
            tmp_path,
            "retrain",
            "models/mail@champion",
            "mail.csv",
            "--store",
            store,
            "--promote-if-better",
            "--json",
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout[done.stdout.index("{") :])
        assert result["promoted"] and result["comparison"]["only_second"] > result["comparison"]["only_first"]
        assert read_aliases(tmp_path / "models/mail") == {"champion": 2}
        text, label = next(truth for truth in truths if "shipment" in truth[0])
        for _ in waiting_for(service.process):
            answer = ask.post("/prediction", json={"text": text}).json()
            if answer["model_version"] == "2":
                break
        assert answer["top"]["label"] == label
        assert _tamis(tmp_path, "models", "rollback", "models/mail", "champion").returncode == 0
        for _ in waiting_for(service.process):
            if ask.post("/prediction", json={"text": text}).json()["model_version"] == "1":
                break
        history = _tamis(tmp_path, "models", "history", "models/mail").stdout
        assert "promote champion: 1 -> 2" in history and "rollback champion: 2 -> 1" in history


def test_retrain_that_is_dry_trains_nothing(tmp_path: Path) -> None:
    rows = [(label, _text(label, number)) for label in _TOPICS for number in range(60)]
    with (tmp_path / "mail.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    assert _tamis(tmp_path, "train", "mail.csv", "-o", "models/mail").returncode == 0
    with serving(tmp_path, "models/mail") as service, _ask(service) as ask:
        answer = ask.post("/prediction", json={"text": "my parcel"}).json()
        ask.post("/feedback", json={"prediction_id": answer["id"], "label": "refund"})
    done = _tamis(
        tmp_path, "retrain", "models/mail", "mail.csv", "--store", "sqlite:///models/mail/tamis.db", "--dry"
    )
    assert (done.returncode, "1 rows of feedback" in done.stderr) == (0, True), done.stderr
    assert not (tmp_path / "models/mail/2").exists()
