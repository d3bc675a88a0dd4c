"""`tamis retrain` in real processes: the whole loop on SQLite, and a dry run."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.support.lifecycle_loop import TOPICS, client_of, run_loop, tamis, text_of
from tests.support.processes import serving


def test_loop_from_feedback_to_a_promoted_version(tmp_path: Path) -> None:
    run_loop(tmp_path, f"sqlite:///{tmp_path}/models/mail/tamis.db")


def test_retrain_that_is_dry_trains_nothing(tmp_path: Path) -> None:
    rows = [(label, text_of(label, number)) for label in TOPICS for number in range(60)]
    with (tmp_path / "mail.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    assert tamis(tmp_path, "train", "mail.csv", "-o", "models/mail").returncode == 0
    with serving(tmp_path, "models/mail") as service, client_of(service) as ask:
        answer = ask.post("/prediction", json={"text": "my parcel"}).json()
        ask.post("/feedback", json={"prediction_id": answer["id"], "label": "refund"})
    done = tamis(
        tmp_path, "retrain", "models/mail", "mail.csv", "--store", "sqlite:///models/mail/tamis.db", "--dry"
    )
    assert (done.returncode, "1 rows of feedback" in done.stderr) == (0, True), done.stderr
    assert not (tmp_path / "models/mail/2").exists()
