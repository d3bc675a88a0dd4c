"""The loop of a model's life in real processes, on any store."""

from __future__ import annotations

import csv
import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tamis.artifact import read_aliases, set_alias
from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON, Service, serving, waiting_for

TOPICS = {
    "parcel": ["parcel", "delivery", "courier", "shipment"],
    "refund": ["refund", "invoice", "payment", "charge"],
}


def text_of(label: str, number: int) -> str:
    """Return one of a million messages about a topic."""
    draw = random.Random(f"{label} {number}")
    word = draw.choice(TOPICS[label])
    return f"{draw.choice(['Hello', 'Hi', 'Please'])}, my {word} number {draw.randrange(10**6)} is late again"


def tamis(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        tamis_command(*arguments),
        cwd=folder,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def client_of(service: Service) -> httpx.Client:
    """Return a client of the service."""
    return httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60)


def run_loop(folder: Path, store: str) -> None:
    """Train, serve, report truth by HTTP, retrain, promote, see new answers, roll back; assert each step."""
    _train_on_wrong_labels(folder)
    truths = [(text_of(label, number), label) for label in TOPICS for number in range(1_000, 1_200)]
    text, label = next(truth for truth in truths if "shipment" in truth[0])
    with (
        serving(folder, "models/mail@champion", is_program=True, TAMIS_STORE=store) as service,
        client_of(service) as client,
    ):
        assert _report(client, truths) > 50
        options = ("--store", store, "--promote-if-better", "--json")
        done = tamis(folder, "retrain", "models/mail@champion", "mail.csv", *options)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout[done.stdout.index("{") :])
        assert result["promoted"] and result["comparison"]["only_second"] > result["comparison"]["only_first"]
        assert read_aliases(folder / "models/mail") == {"champion": 2}
        assert _answer_of(service, client, text, version="2")["top"]["label"] == label
        assert tamis(folder, "models", "rollback", "models/mail", "champion").returncode == 0
        assert _answer_of(service, client, text, version="1")["top"]["label"] != label
        history = tamis(folder, "models", "history", "models/mail").stdout
        assert "promote champion: 1 -> 2" in history and "rollback champion: 2 -> 1" in history


def _train_on_wrong_labels(folder: Path) -> None:
    """Train a first version that has learned "shipment" and "charge" the wrong way round."""
    rows = []
    for label, other in (("parcel", "refund"), ("refund", "parcel")):
        for number in range(120):
            text = text_of(label, number)
            rows.append((other if "shipment" in text or "charge" in text else label, text))
    with (folder / "mail.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    assert tamis(folder, "train", "mail.csv", "-o", "models/mail").returncode == 0
    set_alias(f"{folder}/models/mail@1", "champion")


def _report(client: httpx.Client, truths: Sequence[tuple[str, str]]) -> int:
    """Send each text and report its true label; return how many predictions were wrong."""
    wrong = 0
    for text, label in truths:
        answer = client.post("/prediction", json={"text": text}).json()
        wrong += answer["top"]["label"] != label
        reported = client.post("/feedback", json={"prediction_id": answer["id"], "label": label})
        assert reported.status_code == 201, reported.text
    return wrong


def _answer_of(service: Service, client: httpx.Client, text: str, *, version: str) -> dict[str, Any]:
    """Ask until this version answers."""
    for _ in waiting_for(service.process):
        answer: dict[str, Any] = client.post("/prediction", json={"text": text}).json()
        if answer["model_version"] == version:
            return answer
    raise AssertionError(service.said)
