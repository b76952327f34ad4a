import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import IntegralCodec, expectation


def test_expectation_stays_inside_and_is_differentiable():
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(expectation, (logits,))
    places = expectation(logits * 100)
    assert ((places >= 0) & (places <= torch.tensor([4.0, 3.0]))).all()


@pytest.mark.fault("anibali/dsntnn#17")
@given(scale=st.floats(-50, 50), shift=st.floats(-1e4, 1e4))
def test_maps_need_not_sum_to_one(scale, shift):
    logits = torch.randn(1, 1, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * scale
    torch.testing.assert_close(expectation(logits + shift), expectation(logits), rtol=1e-6, atol=1e-6)


def test_targets_sum_to_one_where_labelled():
    targets = IntegralCodec((32, 40), (8, 10)).encode(torch.tensor([[[5.0, 6.0], [-9.0, 3.0], [39.4, 31.4]]]))
    torch.testing.assert_close(targets.heatmaps.sum((-2, -1)), torch.tensor([[1.0, 0.0, 1.0]]))


@pytest.mark.parametrize("regularizer", ["js", "kl", "variance", "none"])
def test_training_the_map_finds_the_place(regularizer):
    codec = IntegralCodec((32, 32), (8, 8), regularizer=regularizer, sigma=0.8)
    targets = codec.encode(torch.tensor([[[13.0, 19.5]]]))
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        codec.loss(logits, targets).backward()
        optimizer.step()
    found = codec.decode(logits.detach())
    assert (found.keypoints - torch.tensor([13.0, 19.5])).norm() < 0.6
    if regularizer != "none":
        assert found.scores > 0.7  # the regulariser made it one narrow peak


def test_score_says_how_narrow_the_map_is():
    codec = IntegralCodec((64, 64), (16, 16))
    sharp = codec.ideal_output(codec.encode(torch.tensor([[[30.0, 30.0]]])))
    assert codec.decode(sharp).scores > 0.99
    assert codec.decode(torch.zeros(1, 1, 16, 16)).scores < 0.3
    assert codec.decode(torch.zeros(1, 1, 16, 16)).keypoints.tolist() == [[[31.5, 31.5]]]


def test_bad_options_are_named():
    for options in ({"regularizer": "l2"}, {"strength": -1}, {"sigma": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            IntegralCodec((8, 8), (4, 4), **options)
