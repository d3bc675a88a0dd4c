"""Many processes ask at once, singles and lists mixed: every text has one answer, whoever asks and when."""

from __future__ import annotations

import multiprocessing
import random
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx

from tamis import Classifier
from tests.support.artifacts import save_model
from tests.support.processes import serving
from tests.support.samples import messages

CLIENTS = 3
REQUESTS_EACH = 50

Scores = tuple[tuple[str, float], ...]


def _ask(address: str, seed: int) -> dict[str, set[Scores]]:
    """Ask for texts by chance, one at a time or as a list; return every answer that a text had."""
    chance, texts = random.Random(seed), list(messages(60).texts)
    answers: dict[str, set[Scores]] = defaultdict(set)
    with httpx.Client(base_url=address, timeout=30) as client:
        for _ in range(REQUESTS_EACH):
            asked = chance.sample(texts, chance.choice([1, 1, 3, 30]))
            if len(asked) == 1:
                body = {"text": asked[0], "echo_input": True, "skip_cache": chance.random() < 0.3}
                entries = [client.post("/prediction", json=body).raise_for_status().json()]
            else:
                body = {"texts": asked, "skip_cache": chance.random() < 0.3}
                entries = client.post("/predictions", json=body).raise_for_status().json()
            assert [entry["input"] for entry in entries] == asked
            for entry in entries:
                answers[entry["input"]].add(tuple(entry["prediction"].items()))
    return dict(answers)


def test_two_workers_give_every_text_one_answer(tmp_path: Path) -> None:
    model = save_model(tmp_path / "spam")
    spawning = multiprocessing.get_context("spawn")
    with (
        serving(tmp_path, str(model), "--workers", "2", TAMIS_DRAIN_SECONDS="0") as service,
        ProcessPoolExecutor(CLIENTS, mp_context=spawning) as clients,
    ):
        found = [*clients.map(_ask, [service.address] * CLIENTS, range(CLIENTS))]
    classifier = Classifier.load(model)
    for answers in found:
        for text, scores in answers.items():
            [only] = scores
            alone = classifier.predict(text).scores
            assert [label for label, _ in only] == [*alone]
            assert all(abs(score - alone[label]) <= 1e-6 for label, score in only)
    everybodys = defaultdict(set)
    for answers in found:
        for text, scores in answers.items():
            everybodys[text] |= scores
    assert {len(scores) for scores in everybodys.values()} == {1}
