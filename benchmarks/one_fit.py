"""One fit of Tamis's network and its accuracy, for `benchmarks/training.py`: the workshop's work, no more.

    python one_fit.py PREPARED_FOLDER EPOCHS

Reads, numbers the words, learns, measures on the test part once. The last line is JSON.
"""

from __future__ import annotations

import atexit
import gc
import json
import sys

from tamis.normalization import canonical
from tamis.training.prepared_folder import read_prepared
from tamis.training.trainers import make_trainer, preset


def main(folder: str, epochs: str) -> None:
    """Learn with the preset of the workshop."""
    prepared = read_prepared(folder)
    train, test = ([canonical(text) for text in part.texts] for part in (prepared.train, prepared.test))
    model = make_trainer("lstm", {**preset("lstm", "workshop"), "epochs": epochs}, seed=42)
    model.fit(train, prepared.train.labels)
    predicted = model.logits(test).argmax(axis=1)
    right = [
        model.classes_[place] == label for place, label in zip(predicted, prepared.test.labels, strict=True)
    ]
    print(json.dumps({"accuracy": sum(right) / len(right)}))


if __name__ == "__main__":
    atexit.register(gc.freeze)  # as `tamis` does
    main(*sys.argv[1:])
