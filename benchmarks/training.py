"""Measures how fast the workshop's network is learned, beside the workshop's own way of doing it.

    python benchmarks/training.py [--data FILE.csv] [--rounds 1] [--repeats 3] [--epochs 3]

Everything is a whole process, from its start to its end, and reads the same rows of the same split
(random, a third to test, seed 42). In a round the workshop's way runs once, which takes minutes, and
then each of ours `--repeats` times; what counts is the ratio to the workshop's run of that round.

    workshop    Keras on TensorFlow, padded to 300: one fit, one look at the test part
    one fit     the same work with Tamis's preset `workshop`, and nothing more
    tamis train the whole command: two fits, since one calibrates, intervals, report, model card, files

"empty" and "warm" say whether JAX finds what an earlier run compiled. TensorFlow lives in an
environment of its own, made on the first call in .venv/bench from requirements/bench-tensorflow.txt.
Without --data it is the mixed CSV of the folder that TAMIS_SHARED names, or else made-up messages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".venv" / "bench"
REQUIREMENTS = HERE.parent / "requirements" / "bench-tensorflow.txt"
WORKSHOP = "workshop, TensorFlow"
SPLIT = ("--split", "random", "--test-size", "0.33", "--seed", "42")


@dataclass(frozen=True)
class Run:
    """One process from its start to its end."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    accuracy: float


@dataclass(frozen=True)
class Folders:
    """Where the runs find their data and leave what they make."""

    data: Path
    prepared: Path
    scratch: Path


def run(command: Sequence[str | Path], cache: Path) -> Run:
    """Run a process whose last output is JSON with the accuracy in it."""
    environ = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in command], stdout=said, env=environ | {"XDG_CACHE_HOME": str(cache)}
        )
        _, status, usage = os.wait4(process.pid, 0)  # of the process and of those that it waited for
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        output = said.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed: {output}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, _accuracy(output))


def _accuracy(output: str) -> float:
    found = json.loads(output[output.index("{") :])
    return float(found["accuracy"] if "accuracy" in found else found["evaluation"]["accuracy"]["value"])


def measure_round(folders: Folders, tensorflow: Path, *, epochs: int, repeats: int) -> dict[str, list[Run]]:
    """Run the workshop's way once and each of ours `repeats` times."""
    results: dict[str, list[Run]] = defaultdict(list)

    def take(name: str, command: Sequence[str | Path], cache: Path) -> None:
        results[name].append(run(command, cache))
        took = results[name][-1]
        print(f"  {name}: {took.seconds:.1f} s, accuracy {took.accuracy:.4f}", file=sys.stderr)

    take(WORKSHOP, [tensorflow, HERE / "workshop.py", folders.prepared, str(epochs)], folders.scratch)
    for _ in range(repeats):
        one_fit = [sys.executable, HERE / "one_fit.py", folders.prepared, str(epochs)]
        network = [*_train(folders), "--model", "lstm", "--preset", "workshop", "--set", f"epochs={epochs}"]
        for name, command in (("one fit", one_fit), ("tamis train", network)):
            cache = Path(tempfile.mkdtemp(dir=folders.scratch))
            take(f"{name}, empty cache", command, cache)
            take(f"{name}, warm cache", command, cache)
        take("tamis train, linear", _train(folders), folders.scratch)
    return results


def _train(folders: Folders) -> list[str | Path]:
    output = folders.scratch / "model"
    return [sys.executable, "-m", "tamis", "train", folders.data, "-o", output, *SPLIT, "--json"]


def print_table(rounds: Sequence[dict[str, list[Run]]]) -> None:
    """Print medians, and the ratios to the workshop's run of the same round with their spread."""
    print(f"{'':26}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}{'accuracy':>10}{'faster':>21}{'less CPU':>21}")
    for name in rounds[0]:
        runs = [(own, results[WORKSHOP][0]) for results in rounds for own in results[name]]
        middle = [
            statistics.median(getattr(own, field) for own, _ in runs)
            for field in ("seconds", "cpu_seconds", "peak_mb", "accuracy")
        ]
        faster = _spread([base.seconds / own.seconds for own, base in runs])
        less = _spread([base.cpu_seconds / own.cpu_seconds for own, base in runs])
        print(
            f"{name:26}{middle[0]:9.1f}{middle[1]:8.1f}{middle[2]:9.0f}{middle[3]:10.4f}{faster:>21}{less:>21}"
        )


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})"


def tensorflow_python() -> Path:
    """Return the interpreter of TensorFlow's environment, made anew when its requirements changed."""
    folder = ENVIRONMENTS / f"tensorflow-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install = ["pip", "install", "--quiet", "--require-hashes", "-r", str(REQUIREMENTS)]
        subprocess.run([python, "-m", *install], check=True)
        (folder / "complete").touch()
    return python


def _data(named: str | None, scratch: Path) -> Path:
    shared = os.environ.get("TAMIS_SHARED") or HERE.parents[1] / "shared"
    mixed = Path(named) if named else Path(shared) / "data" / "spam-dataset.csv"
    if named or mixed.exists():
        return mixed
    from tests.support.samples import messages, write_csv

    print(f"{mixed} is not there: measured on made-up messages, whose accuracy means nothing")
    return write_csv(messages(7_500), scratch / "messages.csv")


def main() -> None:
    """Prepare the data, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="FILE.csv")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each of ours in a round")
    parser.add_argument("--epochs", type=int, default=3, help="fewer than 3 for a quick look, on both sides")
    arguments = parser.parse_args()
    tensorflow = tensorflow_python()
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        folders = Folders(_data(arguments.data, scratch), scratch / "prepared", scratch)
        prepare = ["prepare", folders.data, "-o", folders.prepared, *SPLIT]
        subprocess.run([sys.executable, "-m", "tamis", *map(str, prepare)], check=True, capture_output=True)
        rounds = [
            measure_round(folders, tensorflow, epochs=arguments.epochs, repeats=arguments.repeats)
            for _ in range(arguments.rounds)
        ]
    print(f"\n{folders.data.name}, {arguments.epochs} epochs")
    print_table(rounds)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
