"""Every line of code on the pages about moving from another library runs, the peer's too where it is installed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cvkit import imgops
from reference.pages import PAGES, call, rows


def pictures():
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.random((2, 48, 64, 3)), 1), 2)
    img, other = np.floor(255 * smooth / smooth.max() + 0.5).astype(np.uint8)
    # Two humps, so that every threshold exists.
    img[:, 32:] = img[:, 32:] // 4 + 180
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 10:52] = 255
    w1 = rng.random((48, 64)).astype(np.float32)
    gray = np.ascontiguousarray(img[..., 0])
    return {
        "img": img,
        "other": other,
        "ref": other,
        "gray": gray,
        "mask": mask,
        "w1": w1,
        "w2": 1 - w1,
        "table": np.arange(255, -1, -1).astype(np.uint8),
        "heat": rng.random((48, 64)),
        "labels": (mask > 0).astype(int),
        "planes": rng.random((3, 48, 64)),
        "h": imgops.histogram(gray),
        "h2": imgops.histogram(other[..., 0]),
        "a": 0.3,
        "np": np,
    }


OURS = {**{name: getattr(imgops, name) for name in imgops.__all__}}


def codes(page):
    return [(there, here, note) for there, here, note in rows(page) if call(here)]


@pytest.mark.parametrize(("page", "least"), [("opencv.rst", 34), ("scikit_image.rst", 27)])
def test_pages_have_their_rows(page, least):
    assert len(codes(page)) >= least


@pytest.mark.parametrize(
    ("page", "there", "here", "note"), [(p, *row) for p in ("opencv.rst", "scikit_image.rst") for row in codes(p)]
)
def test_lines_run_and_agree_where_they_say_so(page, there, here, note):
    own = pictures()
    before = own["img"].copy()
    result = eval(call(here), {**OURS, **own})
    assert (own["img"] == before).all()
    if call(there) is None:
        assert "bit for bit" not in note
        return
    if page == "opencv.rst":
        cv2 = pytest.importorskip("cv2")
        names = vars(cv2)
        own["c1"], own["c2"] = (own[h].counts[0].astype(np.float32) for h in ("h", "h2"))
    else:
        skimage = pytest.importorskip("skimage")
        names = {
            name: getattr(skimage, name) for name in ("color", "exposure", "filters", "measure", "transform", "util")
        }
    if page != "opencv.rst":
        own["mask"] = own["mask"] > 0
    expected = eval(call(there), {**names, **own})
    if "bit for bit" in note:
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("page", ["opencv.rst", "scikit_image.rst", "../explanation/imgops_gradients.rst"])
def test_names_of_functions_exist(page):
    text = (PAGES / page).read_text()
    for name in re.findall(r"(?<![`:])`([a-z_]+)`(?!`)", text):
        assert name in imgops.__all__, name
