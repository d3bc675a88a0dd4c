"""Prints what sizes cost: texts per second by length and kind of model, and learning from many rows.

    python benchmarks/scale.py --lengths [--kinds linear lstm] [--model models/spam]
    python benchmarks/scale.py --rows 200000 --labels 20

`--lengths` scores by `Classifier.score_table` on one core, with a small model of each kind, trained here,
or with `--model`; linear models also without the compiled library, as the pure wheel scores.

`--rows` trains on made-up rows. Words are made of syllables and drawn by rank (Zipf's law); a row has some
words of its label's topic. A child process trains, so that the memory is that of training alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

sys.path.append(str(Path(__file__).parents[1]))  # not first: PYTHONPATH may name another copy of the package

from tamis.inference.classifier import Classifier
from tamis.native import is_compiled
from tests.support.samples import messages, write_csv

PACKAGE = Path(__file__).parents[1] / "src" / "tamis"

_SYLLABLES = ("ka", "lo", "mi", "ter", "ban", "so", "ri", "del", "vu", "na", "ches", "po", "gri", "en")
_N_WORDS, _N_TOPIC_WORDS = 60_000, 400


_LENGTHS = (20, 60, 200, 1_000, 10_000)
_ROUNDS, _MAX_TEXTS = 5, 16_384
_LEARN_LITTLE = {"lstm": ["--set", "epochs=1"]}
"""Of a network the number of weights counts, not what they learned."""


def main() -> None:
    """Measure what the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lengths", action="store_true")
    parser.add_argument("--kinds", nargs="+", default=["linear", "lstm"])
    parser.add_argument("--seconds", type=float, default=0.3, help="of one of five rounds")
    parser.add_argument("--model", help="a model's folder in place of those trained here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            _print_speeds(options.model, Path(options.model).name, options.seconds)
        elif options.lengths:
            _compare_kinds(Path(folder), options.kinds, options.seconds)
        else:
            _learn(Path(folder), options.rows, options.labels, options.seed)


def _compare_kinds(folder: Path, kinds: Sequence[str], seconds: float) -> None:
    data = write_csv(messages(2_000), folder / "train.csv")
    for kind in kinds:
        model = str(folder / kind)
        learn = [sys.executable, "-m", "tamis", "train", str(data), "-o", model, "--model", kind]
        subprocess.run([*learn, *_LEARN_LITTLE.get(kind, [])], check=True, capture_output=True)
        _print_speeds(model, kind, seconds)
        if kind == "linear":
            shutil.copytree(PACKAGE, folder / "pure" / "tamis", ignore=shutil.ignore_patterns("*.so"))
            again = [sys.executable, __file__, "--model", model, "--seconds", str(seconds)]
            subprocess.run(again, env=os.environ | {"PYTHONPATH": str(folder / "pure")}, check=True)


def _print_speeds(model: str, name: str, seconds: float) -> None:
    """Print texts per CPU second by length, of ASCII texts and of texts with one accent each."""
    classifier = Classifier.load(model)
    title = f"{name}{'' if is_compiled() else ', not compiled'}"
    for length in _LENGTHS:
        shown = [f"{_texts_per_cpu_second(classifier, seconds, length, end):>9,.0f}" for end in ("x", "é")]
        print(
            f"{title:22} {length:6,} characters: {shown[0]} texts per CPU second, {shown[1]} with an accent",
            flush=True,
        )


def _texts_per_cpu_second(classifier: Classifier, seconds: float, length: int, end: str) -> float:
    """Return the median of some rounds, which an interrupted one does not move."""
    _cpu_seconds(classifier, _texts(64, length, end))  # warms up
    few = _cpu_seconds(classifier, _texts(64, length, end))
    n_texts = min(_MAX_TEXTS, max(64, int(64 * seconds / few)))
    texts = _texts(n_texts, length, end)
    return n_texts / statistics.median(_cpu_seconds(classifier, texts) for _ in range(_ROUNDS))


def _cpu_seconds(classifier: Classifier, texts: Any) -> float:
    began = time.process_time()
    classifier.score_table(texts)
    return time.process_time() - began


def _texts(n_texts: int, length: int, end: str) -> Any:
    """Return a table of different texts of exactly this length."""
    pool = [
        text.encode("ascii", "replace").decode() for text in messages(n_texts + length // 20, seed=3).texts
    ]
    joined = (" ".join(pool[n : n + 1 + length // 20])[: length - 1] for n in range(n_texts))
    return pyarrow.table({"text": [text.ljust(length - 1, "x") + end for text in joined]})


def _learn(folder: Path, n_rows: int, n_labels: int, seed: int) -> None:
    """Train on made-up rows and print time and memory."""
    data = folder / "rows.csv"
    write_rows(data, n_rows, n_labels, seed)
    command = [sys.executable, "-m", "tamis", "train", str(data), "-o", str(folder / "model")]
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    elapsed = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = sum(path.stat().st_size for path in folder.glob("model/1/weights.safetensors"))
    print(
        f"{n_rows:,} rows, {n_labels} labels: {elapsed:.0f} s on {os.cpu_count()} processors, "
        f"{used.ru_utime + used.ru_stime:.0f} s of processor time, "
        f"{used.ru_maxrss / 1e6:.2f} GB at most, weights {size / 1e6:.1f} MB"
    )


def write_rows(path: Path, n_rows: int, n_labels: int, seed: int) -> None:
    """Write a CSV file of made-up rows, some eight words each."""
    random = np.random.default_rng(seed)
    words = np.array(sorted({_word(random) for _ in range(2 * _N_WORDS)}))
    random.shuffle(words)
    topics = [random.choice(words, _N_TOPIC_WORDS, replace=False) for _ in range(n_labels)]
    labels = random.zipf(1.3, n_rows * 2) - 1
    labels = labels[labels < n_labels][:n_rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "text"])
        for label in labels.tolist():
            common = words[np.minimum(random.zipf(1.2, random.poisson(6) + 1), words.size) - 1]
            own = topics[label][np.minimum(random.zipf(1.4, random.poisson(1.5)), _N_TOPIC_WORDS) - 1]
            text = random.permutation(np.concatenate([common, own]))
            writer.writerow([f"label {label}", " ".join(text)])


def _word(random: np.random.Generator) -> str:
    return "".join(random.choice(_SYLLABLES, random.integers(1, 5)))


if __name__ == "__main__":
    main()
