import numpy as np
import pytest
import torch
from PIL import Image

from cvkit import geometry
from cvkit.pose import Preprocess


def test_normalize_golden():
    p = Preprocess((4, 4), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    image = torch.full((1, 3, 1, 1), 0.6)
    before = image.clone()
    torch.testing.assert_close(p.normalize(image).flatten(), torch.tensor([1.0, 1.6, 0.3]))
    assert torch.equal(image, before)  # not in place


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
def test_whole_photographs_know_the_way_back(fit):
    photo = np.zeros((60, 90, 3), np.uint8)
    photo[29:32, 44:47] = 255  # a dot at (45, 30)
    found = Preprocess((32, 40), fit=fit).frame(photo)
    heat = (found.tensor[0, 0] * (found.tensor[0, 0] != 0.5)).double()
    x = (heat.sum(0) * torch.arange(40)).sum() / heat.sum()
    y = (heat.sum(1) * torch.arange(32)).sum() / heat.sum()
    if fit != "pad":  # bars are grey, not black
        np.testing.assert_allclose(
            geometry.transform_points(found.to_photo, [[float(x), float(y)]]), [[45, 30]], atol=0.1
        )
    assert found.tensor.shape == (1, 3, 32, 40)


@pytest.mark.parametrize("kind", ["array", "pillow", "tensor", "grey"])
def test_box_is_cut_out_with_its_margin(kind):
    photo = np.zeros((80, 100, 3), np.uint8)
    photo[20:40, 30:70] = 200
    image = {
        "array": photo,
        "pillow": Image.fromarray(photo),
        "tensor": torch.from_numpy(photo).permute(2, 0, 1),
        "grey": photo[..., 0],
    }[kind]
    found = Preprocess((16, 32), margin=1.0).frame(image, box=(30, 20, 70, 40))
    assert found.tensor[0, :, 1:-1, 1:-1].min() > 0.75  # the box alone
    wide = Preprocess((16, 32), margin=2.0).frame(image, box=(30, 20, 70, 40)).tensor[0, 0]
    assert wide[8, 16] > 0.75
    assert wide[2, 4] < 0.05
    corners = geometry.transform_points(found.to_photo, [[-0.5, -0.5], [31.5, 15.5]])
    np.testing.assert_allclose(corners, [[29.5, 19.5], [69.5, 39.5]], atol=1e-9)


def test_boxes_take_the_proportions_of_the_input():
    found = Preprocess((16, 32), margin=1.0).frame(np.zeros((50, 50, 3), np.uint8), box=(10, 10, 20, 20))
    corners = geometry.transform_points(found.to_photo, [[-0.5, -0.5], [31.5, 15.5]])
    np.testing.assert_allclose(corners, [[4.5, 9.5], [24.5, 19.5]], atol=1e-9)


def test_config_builds_it_again_and_errors_are_named():
    p = Preprocess((16, 32), mean=(0.1, 0.2, 0.3), fit="crop", margin=1.5)
    assert Preprocess(**p.config) == p
    for options, message in (
        ({"mean": (1, 2)}, "mean"),
        ({"std": (1, 1, 0)}, "std"),
        ({"fit": "x"}, "fit"),
        ({"margin": 0}, "margin"),
    ):
        with pytest.raises(ValueError, match=message):
            Preprocess((8, 8), **options)
    for box in ((3, 3, 3, 9), (5, 5, 9, 4)):
        with pytest.raises(ValueError, match="box"):
            p.frame(np.zeros((9, 9, 3), np.uint8), box=box)
    with pytest.raises(ValueError, match="box"):
        p.frame(np.zeros((9, 9, 3), np.uint8), box=(0, 0, float("nan"), 3))


def test_a_box_of_three_numbers_is_named():
    with pytest.raises(ValueError, match="`box` must be \\(left, top, right, bottom\\); got"):
        Preprocess((8, 8)).frame(np.zeros((9, 9, 3), np.uint8), box=(1, 2, 3))


def _framed_whole(preprocess, photo, box):
    """The same by warping the whole photograph."""
    height, width = preprocess.input_size
    left, top, right, bottom = box
    scale = max((bottom - top) / height, (right - left) / width) * preprocess.margin
    onto = geometry.crop_matrix(
        ((left + right - 1) / 2, (top + bottom - 1) / 2), (height * scale, width * scale), preprocess.input_size
    )
    whole = geometry.prepare(photo, photo.shape[:2], fit="stretch").tensor
    return geometry.warp(whole, onto, preprocess.input_size, fill=0.5, antialias=True), geometry.invert(onto)


@pytest.mark.parametrize(
    "box",
    [(10, 12, 40, 50), (0, 0, 71, 53), (-30, -9, 20, 31), (60, 40, 90, 80), (30.3, 20.7, 31.1, 21.2), (5, 5, 900, 700),
     (-300, -300, -200, -250), (500, 10, 600, 60)],
)  # fmt: skip
def test_a_box_sees_what_it_would_see_of_the_whole_photograph(box):
    photo = np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8)
    preprocess = Preprocess((24, 32))
    tensor, back = _framed_whole(preprocess, photo, box)
    planes = torch.from_numpy(photo).permute(2, 0, 1)
    for kind in (photo, planes, Image.fromarray(photo), photo / 255.0):
        found = preprocess.frame(kind, box)
        torch.testing.assert_close(found.tensor, tensor, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(found.to_photo, back)


def test_what_is_no_picture_is_named_with_a_box_too():
    with pytest.raises(TypeError, match="a picture must be"):
        Preprocess((8, 8)).frame(None, (0, 0, 4, 4))


def test_normalising_needs_floats_of_three_channels():
    preprocess = Preprocess((8, 8), mean=(0.1, 0.2, 0.3))
    with pytest.raises(TypeError, match=r"`images` must be floating-point in \[0, 1\]; got .*uint8"):
        preprocess.normalize(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"`images` must be \(N, 3, H, W\)"):
        preprocess.normalize(torch.rand(2, 1, 8, 8))
    with pytest.raises(TypeError, match="`mean` must be three numbers; got 3"):
        Preprocess((8, 8), mean=3)
