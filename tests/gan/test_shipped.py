from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cvkit import gan


@pytest.fixture(scope="module")
def sketches():
    sampler = gan.pretrained("sketch9")
    return sampler, sampler.sample(list(sampler.names), 60, generator=torch.Generator().manual_seed(1))


def test_the_shipped_generator_draws_what_it_is_asked_for(sketches):
    _, images = sketches
    labels = torch.arange(9).repeat_interleave(60)
    right = torch.as_tensor(gan.pretrained_judge().recognized((images.numpy(), labels.numpy())))
    by_class = right.float().view(9, 60).mean(1)
    assert by_class.mean() > 0.85
    assert by_class.min() > 0.5


def test_its_drawings_of_a_class_differ_and_lie_on_blank_paper(sketches):
    _, images = sketches
    assert (images == 0).float().mean() > 0.65
    for drawings in images.view(9, 60, -1).float():
        distances = torch.pdist(drawings)
        assert distances.mean() > 1500  # of 28 x 28 grey levels; real drawings lie about 2700 apart
        assert distances.min() > 300


def test_every_call_gives_a_new_one():
    assert gan.pretrained().network is not gan.pretrained().network
    with pytest.raises(ValueError, match="`name` must be one of 'sketch9'; got 'sketch10'"):
        gan.pretrained("sketch10")


@pytest.fixture(scope="module")
def nine_classes(real_data):
    """Rows 0 to 1599 of each class, and the other 400, which neither judge nor generator has seen."""
    known = gan.quickdraw.read_arrays(real_data / "quickdraw" / "bitmaps_9x2000.npz")
    return known[np.flatnonzero(known.rows < 1600)], known[np.flatnonzero(known.rows >= 1600)]


@pytest.mark.slow
def test_the_shipped_judge_is_as_good_as_its_card_says(nine_classes):
    judge = gan.pretrained_judge()
    _, test = nine_classes
    stated = json.loads(judge.about["accuracy"])
    found = gan.robustness(judge, test)
    assert found.keys() == stated.keys()
    assert stated["clean"] > 0.95
    for fault, accuracy in found.items():
        assert accuracy == pytest.approx(stated[fault], abs=0.002), fault  # a few drawings, for other builds' rounding


@pytest.mark.slow
def test_samples_measured_against_unseen_drawings_by_class(nine_classes, sketches):
    sampler, images = sketches
    _, test = nine_classes
    right, shuffled = (
        gan.evaluate(gan.datasets.ImageSet(images[:, 0].numpy(), labels, sampler.names), real=test, n=540)
        for labels in (np.arange(9).repeat(60), np.tile(np.arange(9), 60))
    )
    assert right.fake.recognized > 0.85
    assert shuffled.fake.recognized < 0.25
    assert right.floor.recognized > 0.9
    assert right.fake.frechet > right.floor.frechet


@pytest.mark.slow
def test_cleaning_finds_wrong_labels_among_real_drawings(nine_classes):
    train, test = nine_classes
    train = train[np.flatnonzero(train.rows < 400)]
    rng = np.random.default_rng(0)
    wrong = rng.random(len(train)) < 0.2
    labels = np.where(wrong, (train.labels + rng.integers(1, 9, len(train))) % 9, train.labels)
    spoilt = gan.datasets.ImageSet(train.images, labels, train.names)
    report = gan.clean(spoilt, test=test, steps=200)
    dropped = ~np.isin(np.arange(len(train)), report.kept)
    assert dropped[wrong].mean() > 0.8
    assert dropped[~wrong].mean() < 0.12
