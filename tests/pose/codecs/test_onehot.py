import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import OneHotCodec


@given(u=st.floats(0, 1), v=st.floats(0, 1))
def test_round_trip_to_half_a_heatmap_pixel_over_the_whole_map(u, v):
    codec = OneHotCodec((64, 48), (16, 12), sigma=1.0)
    point = torch.tensor([[[-0.45 + u * 47.9, -0.45 + v * 63.9]]])
    heatmaps = codec.encode(point).heatmaps
    assert heatmaps.max() == 1
    assert (codec.decode(heatmaps).keypoints - point).abs().max() <= 2.01


def test_peak_is_one_and_the_map_is_cut_at_the_border_not_bent():
    corner = OneHotCodec((64, 64), (16, 16)).encode(torch.tensor([[[0.0, 0.0]]])).heatmaps[0, 0]
    middle = OneHotCodec((64, 64), (16, 16)).encode(torch.tensor([[[33.0, 33.0]]])).heatmaps[0, 0]
    assert corner[0, 0] == middle[8, 8] == 1
    torch.testing.assert_close(corner[0, :6], middle[8, 8:14])
    assert middle[8, 14] == 0  # five pixels for a sigma of two


def test_bilinear_keeps_the_place():
    codec = OneHotCodec((128, 128), (32, 32), splat="bilinear")
    point = torch.tensor([[[50.9, 61.3]]])
    assert (codec.decode(codec.encode(point).heatmaps).keypoints - point).abs().max() < 0.1


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="splat"):
        OneHotCodec((8, 8), (4, 4), splat="area")
