from __future__ import annotations

import numpy as np
import pytest

from cvkit.gan import quickdraw
from cvkit.gan.datasets import ImageSet
from cvkit.gan.metrics import classification_accuracy
from cvkit.gan.metrics.classification import by_class


def test_each_class_and_the_worst():
    result = by_class(np.array([True, False, True, True]), np.array([0, 0, 2, 2]), 3)
    assert result.accuracy == 0.75
    assert result.by_class.tolist() == pytest.approx([0.5, np.nan, 1.0], nan_ok=True)
    assert result.worst == 0.5


def test_right_labels_are_learnt_and_wrong_labels_show():
    train, test = quickdraw.generate(["sun", "ladder", "star"], 60).split(test=0.5)
    assert classification_accuracy(train, test, steps=40, batch_size=32).accuracy > 0.85
    wrong = ImageSet(train.images, (train.labels + 1) % 3, train.names)
    assert classification_accuracy(wrong, test, steps=40, batch_size=32).accuracy < 0.2


def test_nothing_to_test_is_refused():
    data = quickdraw.generate(["sun"], 4)
    with pytest.raises(ValueError, match="test"):
        classification_accuracy(data, data[:0], steps=1, batch_size=2)
