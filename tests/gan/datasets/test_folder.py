from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cvkit._errors import DataError, ImageError
from cvkit.gan.datasets import from_arrays, from_folder
from cvkit.gan.datasets.folder import as_image_set


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("dog", 2), ("cat", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_of_folders_is_a_set(pictures):
    data = from_folder(pictures, size=(16, 24))
    assert data.names == ("cat", "dog")
    assert data.labels.tolist() == [0, 1, 1]
    assert data.images.shape == (3, 16, 24)


def test_colour_and_order_of_classes(pictures):
    data = from_folder(pictures, channels=3, classes=["dog", "cat"])
    assert data.images.shape == (3, 3, 28, 28)
    assert data.names == ("dog", "cat")


def test_the_whole_picture_is_kept_and_the_rest_is_border(tmp_path):
    (tmp_path / "a").mkdir()
    picture = np.full((10, 20), 200, np.uint8)
    picture[3:7, 4:16] = 50
    Image.fromarray(picture).save(tmp_path / "a" / "x.png")
    (image,) = from_folder(tmp_path, size=20).images
    assert (image[:5] == 200).all()
    assert (image[15:] == 200).all()
    assert image[5:15].tolist() == picture.tolist()
    (inverted,) = from_folder(tmp_path, size=20, invert=True).images
    assert (inverted == 255 - image).all()


def test_missing_things_are_data_errors_that_name_the_folder(tmp_path, pictures):
    with pytest.raises(DataError, match="nowhere"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="bird"):
        from_folder(pictures, classes=["bird"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="one a class"):
        from_folder(tmp_path / "empty")


def test_a_damaged_image_is_named(pictures):
    (pictures / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"0\.png"):
        from_folder(pictures)


def test_arrays_get_numbers_for_names():
    data = from_arrays(torch.zeros(2, 8, 8, dtype=torch.uint8), torch.tensor([0, 2]))
    assert data.names == ("0", "1", "2")
    with pytest.raises(TypeError, match="labels"):
        from_arrays(np.zeros((1, 8, 8), np.uint8), np.array([0.0]))


def test_anything_with_images_labels_and_names_is_a_set():
    images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    one = as_image_set(SimpleNamespace(images=images, labels=labels, names=["a", "b"]))
    assert one.names == ("a", "b")
    assert as_image_set((images, labels)).names == ("0", "1")
    assert as_image_set(one) is one
    with pytest.raises(TypeError, match="data"):
        as_image_set([images, labels])
