"""Texts written for these tests: small grammars that give as many labelled messages as a test needs."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from tamis.types import Dataset

_GRAMMAR = {
    "spam": [
        "WIN a {prize} now! Text {word} to {number}",
        "URGENT! Your {prize} is waiting, call {number} before {day}",
        "FREE {prize} for the first {count} callers: {number}. T&Cs apply",
        "Congratulations {name}, you won {count}00 euro. Claim at {number}",
        "Last chance!!! {prize} at half price, reply {word} to {number}",
    ],
    "ham": [
        "are you coming to the {place} on {day}?",
        "{name} says the {place} is closed, see you at {count}",
        "sorry, I missed the bus. back from the {place} in {count} minutes",
        "can you bring {thing} to the {place} please",
        "ok {name}, call me when you are at the {place} :)",
        "I left {thing} with {name}, thanks for {day}",
    ],
    "question": [
        "how do I return {thing}?",
        "what time does the {place} open on {day}?",
        "is {thing} still in stock, {name}?",
        "why was my order of {thing} sent to the {place}?",
    ],
}
_FILLERS = {
    "prize": ["phone", "holiday for two", "voucher", "games console", "ticket", "camera", "gold watch"],
    "word": ["WIN", "YES", "GO", "PRIZE", "CASH"],
    "day": ["monday", "tuesday", "friday", "the weekend", "sunday night"],
    "name": ["Anna", "Ben", "Chidi", "Dora", "Émile", "Farid", "Grete"],
    "place": ["library", "station", "market", "harbour", "gym", "bakery", "old bridge"],
    "thing": ["the umbrella", "some bread", "two lamps", "your keys", "a blue jacket", "the map"],
}


def messages(n: int, *, labels: tuple[str, ...] = ("ham", "spam"), seed: int = 7) -> Dataset:
    """Return `n` messages, the labels taking turns, with two sources; some of them are near twins."""
    rng = random.Random(seed)
    rows = [(labels[i % len(labels)], _message(labels[i % len(labels)], rng)) for i in range(n)]
    return Dataset(
        texts=[text for _, text in rows],
        labels=[label for label, _ in rows],
        rows=list(range(1, n + 1)),
        sources=["phone" if i % 3 else "web" for i in range(n)],
    )


def write_csv(dataset: Dataset, path: Path) -> Path:
    """Write label, text and source as a plain CSV file, by the standard library alone."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "text", "source"])
        sources = dataset.sources or [""] * len(dataset)
        writer.writerows(zip(dataset.labels, dataset.texts, sources, strict=True))
    return path


def _message(label: str, rng: random.Random) -> str:
    fillers = {name: rng.choice(values) for name, values in _FILLERS.items()}
    number, count = f"0{rng.randrange(10**8, 10**9)}", rng.randrange(2, 60)
    return rng.choice(_GRAMMAR[label]).format(number=number, count=count, **fillers)
