import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cvkit.pose import SoftmaxCodec


@given(u=st.floats(0, 1), v=st.floats(0, 1))
@example(0.0, 1.0)
@example(1.0, 1.0)
def test_round_trip_over_the_whole_map(u, v):
    codec = SoftmaxCodec((256, 192), (64, 48))
    point = torch.tensor([[[-0.45 + u * 191.9, -0.45 + v * 255.9]]])
    assert (codec.decode(codec.ideal_output(codec.encode(point))).keypoints - point).abs().max() <= 1e-4


@given(shift=st.floats(-100, 100))
def test_logits_may_be_shifted(shift):
    codec = SoftmaxCodec((32, 32), (8, 8))
    logits = torch.randn(1, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(codec.decode(logits + shift).keypoints, codec.decode(logits).keypoints)


def test_of_two_peaks_the_higher_is_taken_and_the_score_says_so():
    codec = SoftmaxCodec((64, 64), (16, 16))
    one, other = (codec.encode(torch.tensor([[place]])).heatmaps for place in ([10.0, 12.0], [50.0, 40.0]))
    found = codec.decode((0.7 * one + 0.3 * other).clamp_min(1e-30).log())
    assert (found.keypoints - torch.tensor([10.0, 12.0])).norm() < 0.1
    alone = codec.decode(codec.ideal_output(codec.encode(torch.tensor([[[10.0, 12.0]]]))))
    assert float(found.scores / alone.scores) == pytest.approx(0.7, abs=0.02)


def test_cross_entropy_moves_a_confidently_wrong_map_quickly():
    codec = SoftmaxCodec((32, 32), (8, 8))
    targets = codec.encode(torch.tensor([[[25.0, 9.0]]]))
    logits = torch.zeros(1, 1, 8, 8)
    logits[0, 0, 7, 0] = 20.0
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        codec.loss(logits, targets).backward()
        optimizer.step()
    assert (codec.decode(logits.detach()).keypoints - torch.tensor([25.0, 9.0])).norm() < 0.5


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="sigma"):
        SoftmaxCodec((8, 8), (4, 4), sigma=0.1)
