"""Writes the models of `format_1/` and their answers. Run with Tamis at commit 2706381, before format 2:

    python -m tests.artifact.write_format_1 FOLDER

They hold made-up texts only. The tests load them with the present version and compare digit by digit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tamis import Classifier
from tests.support.artifacts import save_model
from tests.support.samples import messages

LABELS = {"two": ("ham", "spam"), "three": ("ham", "question", "spam")}


def main(folder: str) -> None:
    """Save one model of two labels and one of three, and `answers.json` beside them."""
    texts = [
        *messages(40, labels=LABELS["three"], seed=11).texts,
        "",
        "x",
        "中文かなカナ ABC 123",
        "win " * 300,
    ]
    answers = {}
    for name, labels in LABELS.items():
        path = save_model(Path(folder) / name, labels=labels)
        found = Classifier.load(path).predict_many(texts)
        answers[name] = [dict(prediction.scores) for prediction in found]
    content = {"texts": texts, "answers": answers}
    (Path(folder) / "answers.json").write_text(json.dumps(content, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
