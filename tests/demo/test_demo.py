"""The demo: what it refuses, what it writes, and that its figures hold."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvkit import demo
from cvkit._errors import DataError, ImageError
from cvkit.demo import _gan, _inputs, _photo, _pose, _report, _shapes, _tone
from cvkit.demo._part import Part, Picture


@pytest.fixture
def small(monkeypatch):
    """Shrink what is trained, so that a whole run takes seconds."""
    for module, name, value in [
        (_shapes, "TRAIN", 64), (_shapes, "TEST", 24), (_pose, "TRAIN", 40), (_pose, "TEST", 13), (_pose, "STEPS", 3),
        (_gan, "STEPS", 2), (_gan, "DRAWINGS", 70), (_gan, "JUDGED", 5), (_gan, "JUDGE_STEPS", 3),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def nothing_starts(monkeypatch):
    """Fail if any part begins: wrong input has to be found before."""

    def part(*args, **kwargs):
        raise AssertionError("a part began")

    for module in (_shapes, _photo, _tone, _pose, _gan):
        monkeypatch.setattr(module, "part", part)


def photograph(path, size=(31, 47)):
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def part_of(name):
    picture = Image.fromarray(np.full((5, 7, 3), 90, np.uint8))
    return Part(
        name, "A <title>", "Some text.", {"share": 0.5}, [Picture(name, picture, "<b>bold?</b>")], [("share", "0.5")]
    )


@pytest.mark.usefixtures("nothing_starts")
class TestWrongInput:
    def test_missing_photo_is_named_and_nothing_is_written(self, tmp_path):
        with pytest.raises(ImageError, match=r"missing\.png"):
            demo.run(tmp_path / "out", photo=tmp_path / "missing.png")
        assert not (tmp_path / "out").exists()

    def test_truncated_photo_is_named(self, tmp_path):
        whole = photograph(tmp_path / "photo.png").read_bytes()
        (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ImageError, match=r"half\.png"):
            demo.run(tmp_path / "out", photo=tmp_path / "half.png")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("option", ["sketches", "landmarks"])
    def test_missing_data_is_named(self, tmp_path, option):
        with pytest.raises(DataError, match="nowhere"):
            demo.run(tmp_path / "out", **{option: tmp_path / "nowhere"})
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("option", ["sketches", "landmarks"])
    def test_foreign_data_is_named(self, tmp_path, option):
        folder = tmp_path / "foreign"
        folder.mkdir()
        (folder / "cat.npy").write_bytes(b"not an array")
        with pytest.raises(DataError, match="foreign"):
            demo.run(tmp_path / "out", **{option: folder})

    def test_out_must_not_be_a_file(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(ValueError, match="`out` must be a folder"):
            demo.run(tmp_path / "out")
        assert (tmp_path / "out").read_text() == "mine"

    def test_out_must_not_lie_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ValueError, match="cannot"):
            demo.run(tmp_path / "file" / "out")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"target": [3]}, "give `photo` too"),
            ({"target": [1000]}, "`target` must be at most 999"),
            ({"target": [-1]}, "`target` must be at least 0"),
            ({"model": "resnet"}, "`model` must be one of"),
            ({"budget": 0}, "`budget` must lie in"),
            ({"seed": -1}, "`seed` must be at least 0"),
        ],
    )
    def test_values_out_of_range_are_named(self, tmp_path, options, message):
        with pytest.raises(ValueError, match=message):
            demo.run(tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    def test_missing_extra_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_inputs, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match=r"efficientnet_lite_pytorch.*cvkit-torch\[demo\]"):
            demo.run(tmp_path / "out", photo=photograph(tmp_path / "photo.png"))
        assert not (tmp_path / "out").exists()

    def test_a_wrong_photo_is_named_before_the_missing_extra(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_inputs, "find_spec", lambda name: None)
        with pytest.raises(ImageError):
            demo.run(tmp_path / "out", photo=tmp_path / "missing.png")


class TestReport:
    def test_writes_pictures_results_and_page(self, tmp_path):
        page = _report.write(tmp_path / "new" / "out", [part_of("one"), part_of("two")])
        assert page.name == "index.html"
        assert sorted(path.name for path in page.parent.iterdir()) == [
            "index.html", "one.png", "overview.png", "results.json", "two.png",
        ]  # fmt: skip
        assert json.loads((page.parent / "results.json").read_text())["one"] == {"share": 0.5}

    def test_the_page_asks_for_nothing_outside_and_escapes_everything(self, tmp_path):
        text = _report.write(tmp_path, [part_of("one")]).read_text()
        assert "<b>bold?</b>" not in text
        assert "<script" not in text
        assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", text)

    def test_a_folder_that_exists_is_kept_and_its_demo_replaced(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        run = tmp_path / "runs" / "done"
        run.mkdir(parents=True)
        (run / "log.csv").write_text("step\n")
        first = Part("one", "One", "", {"a": 1}, part_of("one").pictures, folders={"kept-run": run})
        for _ in range(2):
            _report.write(tmp_path, [first])
        assert (tmp_path / "kept-run" / "log.csv").read_text() == "step\n"
        assert (tmp_path / "mine.txt").read_text() == "mine"
        assert not list(tmp_path.glob(".demo-*"))

    def test_a_failure_leaves_the_earlier_report(self, tmp_path):
        _report.write(tmp_path, [part_of("one")])
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        broken = Part("one", "One", "", {"a": float("nan")}, part_of("one").pictures)
        with pytest.raises(ValueError, match="JSON"):
            _report.write(tmp_path, [broken])
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class TestParts:
    def test_the_landscape_has_shadows_and_lights_and_repeats(self):
        image = demo.landscape((90, 135))
        assert image.shape == (90, 135, 3)
        assert image.dtype == np.uint8
        assert image.min() < 30
        assert image.max() > 240
        np.testing.assert_array_equal(image, demo.landscape((90, 135), rng=np.random.default_rng(0)))

    @pytest.mark.parametrize(
        "photo", [None, Image.fromarray(np.random.default_rng(1).integers(0, 256, (53, 700, 3), dtype=np.uint8))]
    )
    def test_tones_are_taken_apart_and_put_together(self, photo):
        part = _tone.part(photo, seed=1)
        assert part.results["no_edit_changes_nothing"] is True
        assert part.results["masks_sum_to_one"] is True
        assert part.results["dark_pixels_after"] < part.results["dark_pixels_before"]
        assert sum(part.results["share_of_tones"].values()) == pytest.approx(1, abs=1e-3)

    def test_spread_within_a_class_is_the_mean_distance(self):
        images = np.array([[[0, 0]], [[3, 4]], [[7, 7]], [[7, 7]]], np.uint8)
        assert _gan.spread(images, np.array([0, 0, 1, 1])) == pytest.approx(2.5)

    @pytest.mark.usefixtures("small")
    def test_a_small_run_writes_everything_and_repeats(self, tmp_path):
        pages = [demo.run(tmp_path / name, progress=False) for name in "ab"]
        results = [json.loads((page.parent / "results.json").read_text()) for page in pages]
        assert results[0] == results[1]
        assert set(results[0]) == {"cvkit", "explain", "tone", "pose", "gan"}
        assert {path.name for path in (tmp_path / "a").iterdir()} == {
            "explain.png", "tone-apart.png", "tone-result.png", "pose.png", "sketches.png", "sketches-real.png",
            "overview.png", "pose-run", "gan-run", "results.json", "index.html",
        }  # fmt: skip


@pytest.mark.slow
class TestFigures:
    @pytest.mark.timeout(1800)  # minutes of one core, on a slow one many
    def test_the_default_run_does_its_four_jobs(self, tmp_path):
        made = os.environ.get("CVKIT_DEMO")  # the folder of a default run, if there is one already
        folder = Path(made) if made else demo.run(tmp_path, progress=False).parent
        results = json.loads((folder / "results.json").read_text())
        explained, landmarks, sketches = results["explain"], results["pose"], results["gan"]
        assert explained["accuracy"] > 0.9
        assert explained["pointing_accuracy"] > 5 * explained["pointing_accuracy_random_map"]
        assert explained["energy_in_mask"] > 2 * explained["energy_in_mask_random_map"]
        assert landmarks["pck"] > landmarks["pck_mean_places"] + 0.3
        assert sketches["recognised"] > 4 * sketches["chance"]
        assert sketches["spread_against_real"] > 0.5

    def test_dog_and_cat_are_told_apart(self, tmp_path, real_data, monkeypatch):
        pytest.importorskip("efficientnet_lite_pytorch")
        photo = Image.open(real_data / "photographs" / "both.png").convert("RGB")
        part = _photo.part(photo, "efficientnet-lite0", (243, 282))
        dog, cat = zip(part.results["peak_x"], part.results["peak_y"], strict=True)
        # The dog sits behind, the cat lies before it.
        assert 75 < dog[0] < 165
        assert 10 < dog[1] < 135
        assert 35 < cat[0] < 200
        assert 130 < cat[1] < 224
        assert max(part.results["likeness_of_maps"]) < 0.2

    def test_the_most_probable_classes_are_the_default(self, real_data):
        pytest.importorskip("efficientnet_lite_pytorch")
        photo = Image.open(real_data / "photographs" / "both.png").convert("RGB")
        assert _photo.part(photo, "efficientnet-lite0", ()).results["target"][0] == 243
