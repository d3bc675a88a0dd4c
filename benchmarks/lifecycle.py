"""What many models, drift, switches and shadows cost.

    python benchmarks/lifecycle.py [--rounds 7] [drift pool switch idle shadow]

drift:    CPU seconds a text to note, count and compare predictions, 1, 8 and 32 answered together
pool:     CPU seconds of a request to a service of three models against a service of one, interleaved
switch:   from the time of `aliases.json` to the log line of the last of two workers, a linear model of 1 MB
idle:     CPU seconds of a service of two workers without requests, in 20 s
shadow:   p50 and p99 of responses beside a shadow that takes 50 ms a text against none, interleaved
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx

from tamis.artifact import set_alias
from tamis.artifact.traffic import set_shadow, stop_shadow
from tamis.clock import SystemClock
from tamis.events import Events, TextsAnswered
from tamis.inference.classifier import Classifier
from tamis.inference.drift_report import DriftLimits
from tamis.inference.model_pool import ModelPool
from tamis.inference.served_model import ModelLoader
from tamis.service.drift import DriftMonitor
from tamis.training.train import train
from tamis.types import Dataset
from tests.support.artifacts import save_model
from tests.support.networks import save_network, small_lstm
from tests.support.process_stats import cpu_seconds
from tests.support.processes import Service, serving, waiting_for
from tests.support.samples import messages, write_csv

_TEXTS = 32_000
_TEXTS_A_SECOND = 5_000
"""What a busy worker answers; it counts every 0.5 s."""
_REQUESTS = 1_500
_LONG_TEXT = "WIN a free phone now please call " * 45


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("parts", nargs="*", default=["drift", "pool", "switch", "idle", "shadow"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in ("spam", "mail", "chat"):
            data = write_csv(messages(8_000, seed=len(model)), folder / f"{model}.csv")
            train(data, folder / "models" / model)
        for part in options.parts:
            _PARTS[part](folder, options.rounds)


def _measure_drift(folder: Path, rounds: int) -> None:
    for size in (1, 8, 32):
        found = [asyncio.run(_drift_seconds(folder, size)) for _ in range(rounds)]
        middle, least = 1e6 * statistics.median(found), 1e6 * min(found)
        print(f"drift, {size} texts at once: {middle:.2f} us a text, at least {least:.2f}")


async def _drift_seconds(folder: Path, size: int) -> float:
    classifier = Classifier.load(folder / "models" / "spam")
    events, clock = Events(), SystemClock()
    pool = ModelPool(ModelLoader(clock, 1.0, events))
    pool.add_classifier(classifier)
    drift = DriftMonitor(pool, clock, directory=folder / "drift", window=1_000, limits=DriftLimits(0.1, 0.05))
    drift.subscribe_to(events)
    texts = messages(_TEXTS, seed=9).texts
    predictions, lengths = classifier.predict_many(texts), [*map(len, texts)]
    parts = [slice(start, start + size) for start in range(0, _TEXTS, size)]
    requests = [(texts[part], lengths[part], predictions[part]) for part in parts]  # as the service has them
    events.emit(TextsAnswered(classifier.identity, *requests[0]))
    await drift.count()  # reads the profile and makes the file, once
    began, counted = time.process_time(), 0
    for start, request in zip(range(0, _TEXTS, size), requests, strict=True):
        events.emit(TextsAnswered(classifier.identity, *request))
        if start - counted >= _TEXTS_A_SECOND / 2:
            counted = start
            await drift.count()
    await drift.count()
    for _ in range(_TEXTS // (5 * _TEXTS_A_SECOND)):  # every 5 s
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
            ratios.append(_seconds_of_requests(pool) / _seconds_of_requests(single))
    print(f"pool of three against one: {statistics.median(ratios):.3f} of the CPU time of a request")


def _seconds_of_requests(service: Service) -> float:
    before = cpu_seconds(service.process.pid)
    with httpx.Client(base_url=service.address, timeout=60) as client:
        for number in range(_REQUESTS):
            client.post("/prediction", json={"text": f"WIN a FREE phone {number} {time.monotonic_ns()}"})
    return cpu_seconds(service.process.pid) - before


def _measure_switch(folder: Path, rounds: int) -> None:
    model, found = folder / "models" / "large", []
    words = random.Random(5)
    texts = [" ".join(f"{words.getrandbits(40):x}" for _ in range(12)) for _ in range(1_300)]
    rows = Dataset(texts, ["ham", "spam"] * 650, [*range(1, 1_301)], ["made"] * 1_300)
    for _ in range(2):
        train(write_csv(rows, folder / "large.csv"), model)
    size = (model / "1" / "weights.safetensors").stat().st_size / 2**20
    set_alias(f"{model}@1", "champion")
    with serving(folder, f"{model}@champion", "--workers", "2", TAMIS_STORE="memory:") as service:
        _wait_for_lines(service, "started", 2)
        for number in range(4 * rounds):
            set_alias(f"{model}@{2 - number % 2}", "champion")
            began = (model / "aliases.json").stat().st_mtime
            last = _wait_for_lines(service, "model switched", 2 * (number + 1))
            found.append(1_000 * (datetime.fromisoformat(last.split()[0]).timestamp() - began))
    middle, longest = statistics.median(found), max(found)
    print(f"switch of {size:.1f} MB: median {middle:.0f} ms, at most {longest:.0f} ms, of {len(found)}")


def _wait_for_lines(service: Service, event: str, number: int) -> str:
    """Return the line of the log that completes this number of events."""
    for _ in waiting_for(service.process):
        lines = [line for line in service.said.splitlines() if event in line]
        if len(lines) >= number:
            return lines[number - 1]
    raise RuntimeError(service.said)


def _measure_idle(folder: Path, rounds: int) -> None:
    with serving(folder, str(folder / "models" / "spam"), "--workers", "2", TAMIS_STORE="memory:") as service:
        _wait_for_lines(service, "started", 2)
        time.sleep(2)
        before = sum(map(cpu_seconds, service.workers()))
        time.sleep(20)
        print(f"idle: {sum(map(cpu_seconds, service.workers())) - before:.2f} CPU seconds in 20 s")


def _measure_shadow(folder: Path, rounds: int) -> None:
    model = folder / "models" / "shadowed"
    save_model(model)
    network = small_lstm(units=512, embedding=32, max_tokens=300, buckets="300", epochs=1)
    classifier = Classifier.load(save_network(network, model))
    began = time.thread_time()
    classifier.predict(_LONG_TEXT)
    print(f"shadow: {1_000 * (time.thread_time() - began):.0f} ms a text")
    found: dict[bool, list[list[float]]] = {False: [], True: []}
    with serving(folder, f"{model}@1", TAMIS_STORE="memory:") as service:
        for number in range(2 * rounds):
            is_on = number % 2 == 1
            set_shadow(f"{model}@2") if is_on else stop_shadow(model)
            _wait_for_lines(service, "traffic changed", number + 1)
            found[is_on].append(sorted(_latencies(service)))
        page = httpx.get(f"{service.address}/models/shadowed").text
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        without, beside = (
            statistics.median(one[int(share * len(one))] for one in found[is_on]) for is_on in (False, True)
        )
        ratio = f"{beside / without:.3f} of {1_000 * without:.2f} ms"
        print(f"shadow, {name}: {ratio}")
    print(f"shadow: {page.partition('comparisons')[2][:80]}")


def _latencies(service: Service) -> list[float]:
    found = []
    with httpx.Client(base_url=service.address, timeout=60) as client:
        for number in range(_REQUESTS):
            began = time.perf_counter()
            client.post("/prediction", json={"text": f"{_LONG_TEXT} {number}", "skip_cache": True})
            found.append(time.perf_counter() - began)
    return found


_PARTS = {
    "drift": _measure_drift,
    "pool": _measure_pool,
    "switch": _measure_switch,
    "idle": _measure_idle,
    "shadow": _measure_shadow,
}


if __name__ == "__main__":
    main()
