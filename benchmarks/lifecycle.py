"""What many models and drift cost.

    python benchmarks/lifecycle.py [--rounds 7]

drift:    CPU seconds a text to note, count and compare predictions, in requests of one and of 32 texts
pool:     CPU seconds of a request to a service of three models against a service of one, interleaved
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx

from tamis.clock import SystemClock
from tamis.events import Events, TextsAnswered
from tamis.inference.classifier import Classifier
from tamis.inference.drift_report import DriftLimits
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ModelLoader
from tamis.service.drift import DriftMonitor
from tamis.training.train import train
from tests.support.processes import Service, serving
from tests.support.samples import messages, write_csv

_TEXTS = 32_000
_TEXTS_A_SECOND = 5_000
"""Between two counts, 0.2 s, a busy worker answers this share of texts."""
_REQUESTS = 1_500


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in ("spam", "mail", "chat"):
            data = write_csv(messages(8_000, seed=len(model)), folder / f"{model}.csv")
            train(data, folder / "models" / model)
        for size in (1, 32):
            found = [asyncio.run(_drift_seconds(folder, size)) for _ in range(options.rounds)]
            print(f"drift, {size} texts a request: {statistics.median(found) * 1e6:.2f} us a text")
        _measure_pool(folder, options.rounds)


async def _drift_seconds(folder: Path, size: int) -> float:
    classifier = Classifier.load(folder / "models" / "spam")
    events, clock = Events(), SystemClock()
    pool = ModelPool(ModelLoader(clock, 1.0, events))
    pool.add_classifier(classifier)
    drift = DriftMonitor(pool, clock, directory=folder / "drift", window=1_000, limits=DriftLimits(0.1, 0.05))
    drift.subscribe_to(events)
    texts = messages(_TEXTS, seed=9).texts
    predictions, lengths = classifier.predict_many(texts), [*map(len, texts)]
    began, counted = time.process_time(), 0
    for start in range(0, _TEXTS, size):
        part = slice(start, start + size)
        events.emit(TextsAnswered(classifier.identity, texts[part], lengths[part], predictions[part]))
        if start - counted >= _TEXTS_A_SECOND / 5:
            counted = start
            await drift.count()
    await drift.count()
    for _ in range(_TEXTS // _TEXTS_A_SECOND):
        await drift.compare()
    seconds = time.process_time() - began
    await drift.close()
    return seconds / _TEXTS


def _measure_pool(folder: Path, rounds: int) -> None:
    ratios = []
    for place in ("one", "three"):
        (folder / place).mkdir()
    one = serving(folder / "one", str(folder / "models" / "spam"), TAMIS_STORE="memory:")
    names = [str(folder / "models" / name) for name in ("spam", "mail", "chat")]
    with one as single, serving(folder / "three", *names, TAMIS_STORE="memory:") as pool:
        for _ in range(rounds):
            ratios.append(_cpu_seconds(pool) / _cpu_seconds(single))
    print(f"pool of three against one: {statistics.median(ratios):.3f} of the CPU time of a request")


def _cpu_seconds(service: Service) -> float:
    before = _processor_ticks(service)
    with httpx.Client(base_url=service.address, timeout=60) as client:
        for number in range(_REQUESTS):
            client.post("/prediction", json={"text": f"WIN a FREE phone {number} {time.monotonic_ns()}"})
    return _processor_ticks(service) - before


def _processor_ticks(service: Service) -> float:
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
