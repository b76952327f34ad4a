from __future__ import annotations

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
