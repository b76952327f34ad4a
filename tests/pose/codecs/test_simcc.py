import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import SimCCCodec, SimCCHead, StackedHourglass


@given(u=st.floats(0, 1), v=st.floats(0, 1), split=st.integers(1, 4))
def test_round_trip_over_the_whole_picture(u, v, split):
    codec = SimCCCodec((64, 48), split)
    point = torch.tensor([[[-0.45 + u * 47.9, -0.45 + v * 63.9]]])
    targets = codec.encode(point)
    assert (codec.decode(codec.ideal_output(targets)).keypoints - point).abs().max() <= 1e-4
    argmax = SimCCCodec((64, 48), split, decoder="argmax")
    assert (argmax.decode(argmax.ideal_output(targets)).keypoints - point).abs().max() <= 0.5 / split + 1e-4


def test_labels_are_two_distributions():
    codec = SimCCCodec((20, 30), 2)
    x, y = codec.encode(torch.tensor([[[4.0, 9.0]]])).heatmaps.split(codec.bins, -1)
    assert (x.shape[-1], y.shape[-1]) == (60, 40)
    torch.testing.assert_close(x.sum(), torch.tensor(1.0))
    torch.testing.assert_close(y.sum(), torch.tensor(1.0))
    torch.testing.assert_close(x[0, 0, 8], x[0, 0, 9])  # (4 + 0.5) * 2 - 0.5 = 8.5


def test_mean_decoder_is_exact_inside():
    codec = SimCCCodec((200, 200), 1, sigma=4, decoder="mean")
    point = torch.tensor([[[100.3, 90.8]]])
    torch.testing.assert_close(
        codec.decode(codec.ideal_output(codec.encode(point))).keypoints, point, rtol=0, atol=1e-3
    )


def test_constant_vectors_have_no_peak_and_tiny_pictures_work():
    codec = SimCCCodec((4, 4))
    assert codec.decode(torch.zeros(1, 2, 16)).keypoints.isnan().all()
    assert codec.decode(torch.zeros(1, 2, 16)).scores.sum() == 0
    one = SimCCCodec((1, 1), 1)
    assert one.decode(torch.zeros(1, 1, 2)).keypoints.tolist() == [[[0.0, 0.0]]]


def test_head_reads_every_stack_and_learns():
    codec = SimCCCodec((16, 16), 1, sigma=1.0)
    network = StackedHourglass(2, stacks=2, depth=1, features=8)
    state = torch.get_rng_state()
    head = SimCCHead(network, codec, (4, 4))
    assert torch.equal(torch.get_rng_state(), state)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = codec.encode(torch.tensor([[[3.0, 9.0], [12.0, 4.0]], [[8.0, 2.0], [5.0, 14.0]]]))
    outputs = head(images)
    assert outputs.shape == (2, 2, 2, 32)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    first = float(codec.loss(outputs, targets).detach())
    for _ in range(40):
        optimizer.zero_grad()
        loss = codec.loss(head(images), targets)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2 * first


def test_errors_are_named():
    with pytest.raises(ValueError, match="split"):
        SimCCCodec((8, 8), 0)
    with pytest.raises(ValueError, match="decoder"):
        SimCCCodec((8, 8), decoder="dark")
    with pytest.raises(TypeError, match="codec"):
        SimCCHead(StackedHourglass(1, stacks=1, depth=1, features=4), "simcc", (2, 2))
    with pytest.raises(TypeError, match="network"):
        SimCCHead("network", SimCCCodec((8, 8)), (2, 2))
