"""Learning curves: growing parts of one training part, on one test part."""

from __future__ import annotations

from tamis.training.fit import TrainSettings, learning_part
from tamis.training.learning_curve import CurvePoint, HeldOutPart, learning_curve
from tamis.training.trainers.base import EncodedTexts
from tamis.types import Dataset
from tests.support.samples import messages


def curve(train: Dataset, test: Dataset) -> tuple[CurvePoint, ...]:
    """Return the curve of the default settings."""
    settings = TrainSettings()
    held_out = HeldOutPart(EncodedTexts(test.texts), test.labels)
    return learning_curve(learning_part(train, settings), held_out, settings)


def test_more_rows_teach_more():
    points = curve(messages(600), messages(200, seed=8))
    assert [point.rows for point in points] == [30, 60, 150, 300, 600]
    assert points[-1].accuracy.value >= points[0].accuracy.value
    assert points[-1].matthews > 0.9
    for point in points:
        assert point.accuracy.low <= point.accuracy.value <= point.accuracy.high


def test_parts_without_all_labels_are_left_out():
    data = messages(40)
    rare = data.select([i for i in range(40) if data.labels[i] == "ham" or i in (1, 3)])
    points = curve(rare, messages(50, seed=8))
    assert points[-1].rows == len(rare)
    assert len(points) < 5


def test_parts_with_hardly_a_row_for_each_label_are_left_out():
    labels = [f"label {i % 20}" for i in range(400)]
    texts = [f"{'abcdefghijklmnopqrst'[i % 20] * 5} number {i}" for i in range(400)]
    data = Dataset(texts, labels, list(range(400)))
    points = curve(data, data)
    assert points
    assert all(point.rows >= 60 for point in points)


def test_there_no_curve_when_there_are_fewer_groups_than_points():
    assert curve(messages(3), messages(50, seed=8)) == ()
