"""Trains on many made-up short rows and prints time and memory of the whole `tamis train`.

    python benchmarks/scale.py --rows 200000 --labels 20
    python benchmarks/scale.py --rows 1000000 --labels 20

Words are made of syllables and drawn by rank (Zipf's law); a row has some words of its label's topic. A child
process trains, so that the memory is that of training alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_SYLLABLES = ("ka", "lo", "mi", "ter", "ban", "so", "ri", "del", "vu", "na", "ches", "po", "gri", "en")
_N_WORDS, _N_TOPIC_WORDS = 60_000, 400


def main() -> None:
    """Write the rows, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.csv"
        write_rows(data, options.rows, options.labels, options.seed)
        command = [sys.executable, "-m", "tamis", "train", str(data), "-o", str(Path(folder) / "model")]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        elapsed = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = sum(path.stat().st_size for path in Path(folder).glob("model/1/weights.safetensors"))
    print(
        f"{options.rows:,} rows, {options.labels} labels: {elapsed:.0f} s on {os.cpu_count()} processors, "
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
