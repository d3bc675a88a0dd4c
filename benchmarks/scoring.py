"""Texts per second of `tamis score` from CSV to Parquet, interleaved with what else scores such rows.

    python benchmarks/scoring.py [--rows 200000] [--rounds 3]
    python benchmarks/scoring.py --full [ROWS ...] [--engine ray]

Compares with the native scorer alone in a loop, with scikit-learn's vectorizer and SVM on the same rows
read by pandas, and with fastText's `predict` on a list. pandas and fastText are optional: their lines say so.
`--full` scores one and then ten million rows, or those named: time, and peak memory of all processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tamis.inference.classifier import Classifier
from tamis.training.train import train
from tests.support.process_stats import family_mb
from tests.support.samples import messages, write_csv

_CHARACTERS = 60
_BATCH_TEXTS = 1024
_PEER_ROWS = 30_000
"""Rows for (b) and (c), which are slow; their speed does not depend on the number."""
_UNITS = ("second", "CPU second")


def main() -> None:
    """Print one line per scorer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="local", choices=["local", "ray"])
    parser.add_argument("--full", type=int, nargs="*", metavar="ROWS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(write_csv(messages(5_000), folder / "train.csv"), folder / "m")
        if options.full is not None:
            for n_rows in options.full or (1_000_000, 10_000_000):
                _measure_full(folder, n_rows, options.engine)
            return
        _compare(folder, options.rows, options.rounds, options.engine)


def _compare(folder: Path, n_rows: int, rounds: int, engine: str) -> None:
    path = write_rows(folder / "in.csv", n_rows)
    texts = list(_texts(n_rows))
    few, few_rows = texts[:_PEER_ROWS], write_rows(folder / "few.csv", min(n_rows, _PEER_ROWS))
    scorers = {
        f"tamis score --engine {engine}": lambda: _run_score(path, folder, engine),
        "(a) native scorer alone": _native(folder, texts),
        "(a) a process on every core": _native_on_every_core(folder, texts),
        "(b) scikit-learn with pandas": _scikit_learn(folder, few_rows),
        "(c) fastText on a list": _fasttext(folder, few),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in scorers}
    for _ in range(rounds):
        for name, scorer in scorers.items():
            if scorer is not None:
                times[name].append(_costs(scorer))
    cores = len(os.sched_getaffinity(0))
    print(f"{n_rows:,} rows, {cores} cores, median of {rounds} rounds; ratios ours : theirs")
    ours: tuple[float, ...] = ()
    for name, found in times.items():
        scored = len(few) if name.startswith(("(b)", "(c)")) else n_rows
        rates = tuple(scored / statistics.median(column) for column in zip(*found, strict=True))
        ours = ours or rates
        shown = [
            f"{rate:>11,.0f} texts per {unit} {mine / rate:6.2f}x"
            for rate, unit, mine in zip(rates, _UNITS, ours, strict=False)
        ]
        print(f"{name:30} {'  '.join(shown) or 'not installed'}")


def _costs(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds, and seconds of all processors together, of processes that were started too."""
    began, before = time.perf_counter(), _cpu_seconds()
    work()
    return time.perf_counter() - began, _cpu_seconds() - before


def _cpu_seconds() -> float:
    # not `os.times`: little data takes less than its hundredth of a second
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _texts(n_rows: int) -> Iterator[str]:
    """Yield texts of 60 characters, all different."""
    pool = [f"{text} and some more words to fill it up"[:52] for text in messages(20_000, seed=3).texts]
    for n in range(n_rows):
        yield f"{pool[n * 7919 % len(pool)]} {n % 10_000_000:07d}".ljust(_CHARACTERS, "x")


def write_rows(path: Path, n_rows: int) -> Path:
    """Write a CSV file of `id` and `text`; return its path."""
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text\n")
        file.writelines(f'{n},"{text}"\n' for n, text in enumerate(_texts(n_rows)))
    return path


def _run_score(path: Path, folder: Path, engine: str) -> tuple[float, float]:
    """Return seconds, start of the processes included, and the peak of their memory in MB."""
    output = folder / "out.parquet"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tamis", "score", str(folder / "m"), str(path), "-o", str(output)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--engine", engine], stderr=subprocess.PIPE)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, family_mb(process.pid))
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
    if process.returncode:
        raise SystemExit(process.stderr.read().decode() if process.stderr else "failed")
    return time.perf_counter() - began, peak


def _measure_full(folder: Path, n_rows: int, engine: str) -> None:
    path = write_rows(folder / "in.csv", n_rows)
    before = os.times()
    seconds, peak = _run_score(path, folder, engine)
    cpu = sum(os.times()[2:4]) - sum(before[2:4])
    rates = f"{n_rows / seconds:,.0f} rows/s, {cpu:.1f} CPU seconds"
    print(f"{n_rows:,} rows: {seconds:.1f} s, {rates}, peak {peak:,.0f} MB", flush=True)


def _native(folder: Path, texts: list[str]) -> Callable[[], object]:
    classifier = Classifier.load(folder / "m")

    def work() -> None:
        for start in range(0, len(texts), _BATCH_TEXTS):
            classifier.score_canonical(texts[start : start + _BATCH_TEXTS])

    return work


def _native_on_every_core(folder: Path, texts: list[str]) -> Callable[[], object]:
    """Return (a) in a process per core, a share each: two threads of one core are slower than two cores."""
    cores = len(os.sched_getaffinity(0))
    shares = [_native(folder, texts[core::cores]) for core in range(cores)]

    def work() -> None:
        scorers = [multiprocessing.get_context("fork").Process(target=share) for share in shares]
        for scorer in scorers:
            scorer.start()
        for scorer in scorers:
            scorer.join()
        if any(scorer.exitcode for scorer in scorers):
            raise RuntimeError("a process of the native scorer failed")

    return work


def _scikit_learn(folder: Path, path: Path) -> Callable[[], object] | None:
    try:
        import pandas
    except ModuleNotFoundError:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union
    from sklearn.svm import LinearSVC

    data = messages(5_000)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    vectorizer = make_union(words, characters)
    model = LinearSVC().fit(vectorizer.fit_transform(list(data.texts)), data.labels)

    def work() -> None:
        frame = pandas.read_csv(path)
        frame["score"] = model.decision_function(vectorizer.transform(frame["text"]))
        frame.to_parquet(folder / "scikit.parquet")

    return work


def _fasttext(folder: Path, texts: list[str]) -> Callable[[], object] | None:
    try:
        import fasttext
    except ModuleNotFoundError:
        return None
    data = messages(5_000)
    lines = (f"__label__{label} {text}\n" for label, text in zip(data.labels, data.texts, strict=True))
    (folder / "fasttext.txt").write_text("".join(lines), encoding="utf-8")
    model = fasttext.train_supervised(str(folder / "fasttext.txt"), wordNgrams=2, minn=2, maxn=5, verbose=0)
    return lambda: model.predict(texts)


if __name__ == "__main__":
    main()
