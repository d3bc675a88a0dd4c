"""The workshop's way of learning, as `benchmarks/training.py` runs it in TensorFlow's own environment.

    python workshop.py PREPARED_FOLDER EPOCHS

280 words, every text padded on the left to 300 numbers that nothing masks, and Keras as it comes.
Imports nothing of Tamis. The last line that it prints is JSON.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

WORDS, LENGTH = 280, 300
SEPARATORS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))


def read(path: Path) -> tuple[list[list[str]], list[str]]:
    """Return the words of each text by the rules of Keras's classic tokenizer, and the labels."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"].lower().translate(SEPARATORS).split() for row in rows], [row["label"] for row in rows]


def pad(texts: list[list[str]], number_of: dict[str, int]) -> np.ndarray:
    """Return [texts, LENGTH] numbers of the known words, zeros before them."""
    padded = np.zeros((len(texts), LENGTH), np.int32)
    for row, words in zip(padded, texts, strict=True):
        numbers = [number_of[word] for word in words if word in number_of][-LENGTH:]
        row[LENGTH - len(numbers) :] = numbers
    return padded


def build(classes: int) -> keras.Sequential:
    """Return the workshop's network."""
    network = keras.Sequential(
        [
            keras.Input((LENGTH,)),
            keras.layers.Embedding(WORDS, 128),
            keras.layers.SpatialDropout1D(0.4),
            keras.layers.LSTM(196, dropout=0.3, recurrent_dropout=0.3),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    network.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return network


def main(folder: Path, epochs: int) -> None:
    """Learn from the training part, measure on the test part once."""
    keras.utils.set_random_seed(42)
    (train, train_labels), (test, test_labels) = (read(folder / f"{name}.csv") for name in ("train", "test"))
    counts = Counter(word for words in train for word in words)
    number_of = {word: number for number, (word, _) in enumerate(counts.most_common(WORDS - 1), 1)}
    classes = sorted(set(train_labels))
    one_hot = np.eye(len(classes))
    network = build(len(classes))
    targets = one_hot[[classes.index(label) for label in train_labels]]
    network.fit(pad(train, number_of), targets, batch_size=32, epochs=epochs, verbose=0)
    predicted = network.predict(pad(test, number_of), verbose=0).argmax(axis=1)
    right = [classes[place] == label for place, label in zip(predicted, test_labels, strict=True)]
    print(json.dumps({"accuracy": sum(right) / len(right), "parameters": network.count_params()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
