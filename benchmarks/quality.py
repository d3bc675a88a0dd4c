"""Accuracy and processor time of the default model on labelled sets, beside a plain linear SVM and fastText.

    python benchmarks/quality.py            (needs the data in TAMIS_SHARED or ../shared)
    python benchmarks/quality.py --sets home-intents-en,hutto-amazon --no-train

Every figure of a row comes from the same three folds. "tamis" are the labels that would be served by a
model that `tamis train` fits on the other two: setting and calibration are chosen on inner folds of these.
The SVM is TF-IDF of words and pairs with scikit-learn's LinearSVC(C=1), ideographs as words of their own;
"classic" is the recipe of Tamis 0.1, not calibrated; fastText runs if it is installed (pip install
fasttext-wheel). Nothing is chosen on the rows that are scored. Processor time is that of the whole `tamis
train`, report included, divided by the SVM's one fit on the same rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from tamis.data.near_duplicates import near_duplicate_groups
from tamis.normalization import canonical
from tamis.training.fit import TrainSettings, fit
from tamis.training.trainers import make_trainer, preset
from tamis.types import Dataset

SHARED = Path(os.environ.get("TAMIS_SHARED", Path(__file__).parents[2] / "shared"))
FOLDS = 3
_ENV = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Compiling a source tree anew at each start took .3 s, which no installed package does."""

_IDEOGRAPH = r"[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"

Predict = Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[str]]
"""From training texts, their labels and texts to label: the labels found."""


def main() -> None:
    """Print a row for each set, then the mean, then the mixed spam CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", default="", help="names, separated by commas; all by default")
    parser.add_argument("--no-train", action="store_true", help="leave out the processor time of tamis train")
    options = parser.parse_args()
    wanted = options.sets.split(",") if options.sets else []
    files = [
        path for path in sorted((SHARED / "data/sets").glob("*.csv")) if not wanted or path.stem in wanted
    ]
    if not files:
        sys.exit(f"no data sets in {SHARED / 'data/sets'}; set TAMIS_SHARED")
    print(f"{'set':16} {'rows':>6} {'labels':>6}    svm  tamis classic fasttext  difference  train/svm time")
    differences = [row for path in files if (row := _compare(path, time_training=not options.no_train))]
    print(f"{'mean':16} {np.mean(differences):+.4f}, worst set {min(differences):+.4f}")
    if not wanted:
        _spam(SHARED / "data/spam-dataset.csv")


def _compare(path: Path, *, time_training: bool) -> float:
    """Print the row of one set; return how much more accurate the default model is than the SVM."""
    texts, labels = _read(path)
    fold_of = np.zeros(len(texts), np.intp)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for fold, (_, inside) in enumerate(folds.split(texts, labels)):
        fold_of[inside] = fold
    svm = _accuracy(_svm_labels, texts, labels, fold_of)
    ours = _accuracy(_own_labels, texts, labels, fold_of)
    classic = _classic_accuracy(texts, labels, fold_of)
    fasttext = _fasttext()
    other = "       –" if fasttext is None else f"{_accuracy(fasttext, texts, labels, fold_of):8.4f}"
    ratio = f"{_training_seconds(path) / _svm_seconds(texts, labels):.1f}" if time_training else "–"
    counts = f"{len(texts):6} {len(set(labels)):6}"
    figures = f"{svm:.4f} {ours:.4f}  {classic:.4f} {other}     {ours - svm:+.4f} {ratio:>15}"
    print(f"{path.stem:16} {counts} {figures}", flush=True)
    return ours - svm


def _read(path: Path) -> tuple[list[str], list[str]]:
    """Return the rows of labels that every fold can hold."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(canonical(row["text"]), row["label"]) for row in csv.DictReader(file)]
    counts = Counter(label for _, label in rows)
    kept = [row for row in rows if counts[row[1]] >= FOLDS]
    return [text for text, _ in kept], [label for _, label in kept]


def _accuracy(predict: Predict, texts: list[str], labels: list[str], fold_of: np.ndarray) -> float:
    right = 0
    for fold in range(FOLDS):
        outside, inside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        found = predict(
            [texts[row] for row in outside], [labels[row] for row in outside], [texts[row] for row in inside]
        )
        right += sum(label == labels[row] for label, row in zip(found, inside, strict=True))
    return right / len(texts)


def _own_labels(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str]) -> Sequence[str]:
    groups = [str(group) for group in near_duplicate_groups(texts).tolist()]
    data = Dataset(list(texts), list(labels), list(range(1, len(texts) + 1)), groups=groups)
    fitted = fit(data, TrainSettings())
    found: Sequence[str] = np.array(fitted.model.classes_)[
        fitted.probabilities(asked).argmax(axis=1)
    ].tolist()
    return found


def _classic_accuracy(texts: list[str], labels: list[str], fold_of: np.ndarray) -> float:
    model = make_trainer("linear", preset("linear", "classic"), seed=42)
    logits = model.cross_fit(texts, labels, fold_of)
    classes = np.array(sorted(set(labels)))
    return float((classes[logits.argmax(axis=1)] == np.array(labels)).mean())


def _svm() -> Pipeline:
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=rf"(?u)\b\w\w+\b|{_IDEOGRAPH}")
    return make_pipeline(words, LinearSVC(C=1))


def _spaced(texts: Sequence[str]) -> list[str]:
    return [re.sub(f"({_IDEOGRAPH})", r" \1 ", text) for text in texts]


def _svm_labels(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str]) -> Sequence[str]:
    found: Sequence[str] = _svm().fit(_spaced(texts), labels).predict(_spaced(asked)).tolist()
    return found


def _svm_seconds(texts: Sequence[str], labels: Sequence[str]) -> float:
    started = time.process_time()
    _svm().fit(_spaced(texts), labels)
    return time.process_time() - started


def _fasttext() -> Predict | None:
    try:
        import fasttext
    except ModuleNotFoundError:
        return None

    def predict(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str]) -> Sequence[str]:
        names = sorted(set(labels))
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            for text, label in zip(_spaced(texts), labels, strict=True):
                file.write(f"__label__{names.index(label)} {_one_line(text)}\n")
            file.flush()
            model = fasttext.train_supervised(
                file.name, wordNgrams=2, minn=2, maxn=5, epoch=25, lr=0.5, verbose=0
            )
        found = [model.f.predict(_one_line(text) + "\n", 1, 0.0, "strict") for text in _spaced(asked)]
        return [names[int(pairs[0][1].removeprefix("__label__"))] if pairs else names[0] for pairs in found]

    return predict


def _one_line(text: str) -> str:
    return text.lower().encode("utf-8", "replace").decode().replace("\n", " ")


def _training_seconds(path: Path) -> float:
    """Return the processor time of the whole `tamis train`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _train(path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _train(path: Path, *options: str) -> dict[str, Any]:
    """Train and return the evaluation of the held-out part."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "tamis",
            "train",
            str(path),
            "-o",
            f"{folder}/model",
            "--json",
            *options,
        ]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_ENV)
    evaluation: dict[str, Any] = json.loads(run.stdout)["evaluation"]
    return evaluation


def _spam(path: Path) -> None:
    """Print the two figures of the mixed spam CSV, and the time of the whole command."""
    started = time.monotonic()
    mixed = _train(path, "--split", "random")
    print(f"mixed spam CSV, random split: accuracy {mixed['accuracy']['value']:.4f}, ", end="")
    print(f"{time.monotonic() - started:.1f} s for the whole command")
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8", newline="") as file:
        with path.open(encoding="utf-8", newline="") as source:
            rows = csv.DictReader(source)
            writer = csv.DictWriter(file, ["label", "text"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in rows if row["source"] == "sms-spam")
        file.flush()
        point = _train(Path(file.name))["operating_point"]
    recall, rate = point["recall"]["value"], point["false_positive_rate"]["value"]
    print(f"SMS, near duplicates together: recall {recall:.3f} at {rate:.2%} false positives")


if __name__ == "__main__":
    main()
