import contextlib
import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit._errors import DataError
from cvkit.pose import COCO17, CocoAP, coco_evaluate, oks
from reference import pose_metrics

KEYS = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]


def scene(seed, images=4, joints=17):
    """People and detections in one to a few images: crowds, nobody labelled, equal scores, misses and inventions."""
    rng = np.random.default_rng(seed)
    truth = {"images": [{"id": int(i)} for i in rng.permutation(images)], "annotations": []}
    truth["categories"] = [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}]
    found = []

    def detect(image, points):
        points = np.concatenate([points, np.ones((joints, 1))], 1)
        score = float(np.round(rng.random(), 1))
        found.append({"image_id": image, "category_id": 1, "keypoints": points.ravel().tolist(), "score": score})

    for image in range(images):
        for _ in range(rng.integers(0, 5)):
            size, corner = rng.uniform(10, 200), rng.uniform(0, 300, 2)
            points = np.concatenate([corner + size * rng.random((joints, 2)), rng.integers(0, 3, (joints, 1))], 1)
            if rng.random() < 0.15:
                points[:, 2] = 0
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "area": float(0.6 * size**2),
                    "bbox": [*corner, size, size],
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
            for _ in range(rng.integers(0, 4)):
                detect(
                    image, points[:, :2] + rng.normal(size=(joints, 2)) * size * rng.choice([0, 0.01, 0.05, 0.1, 0.3])
                )
        for _ in range(rng.integers(0, 3) if rng.random() < 0.9 else 25):
            detect(image, rng.uniform(0, 400, (joints, 2)))
    return truth, [found[i] for i in rng.permutation(len(found))]


def peer(truth, found, sigmas=None):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth_side = COCO()
        truth_side.dataset = json.loads(json.dumps(truth))
        truth_side.createIndex()
        evaluation = COCOeval(truth_side, truth_side.loadRes([dict(f) for f in found]), "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_equals_the_reference_program(seed, images):
    truth, found = scene(seed, images)
    if found:
        ours = coco_evaluate(truth, found)
        assert list(ours) == KEYS
        np.testing.assert_allclose(list(ours.values()), peer(truth, found), rtol=0, atol=1e-9)


@pytest.mark.fault("cocodataset/cocoapi#269")
@pytest.mark.fault("facebookresearch/detectron2#4767")
@pytest.mark.fault("cocodataset/cocoapi#264")
@pytest.mark.fault("facebookresearch/detectron2#377")
def test_equals_the_reference_program_with_other_joints():
    sigmas = np.linspace(0.02, 0.1, 5)
    truth, found = scene(11, 8, joints=5)
    ours = coco_evaluate(truth, found, sigmas=sigmas.tolist())
    np.testing.assert_allclose(list(ours.values()), peer(truth, found, sigmas), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="3 x 17"):
        coco_evaluate(truth, found)


@pytest.mark.fault("cocodataset/cocoapi#354")
@pytest.mark.fault("cocodataset/cocoapi#421")
@pytest.mark.fault("open-mmlab/mmpose#677")
@pytest.mark.fault("open-mmlab/mmpose#1874")
@pytest.mark.fault("open-mmlab/mmpose#3234")
@pytest.mark.fault("open-mmlab/mmpose#3250")
@pytest.mark.fault("open-mmlab/mmcv#3096")
def test_needs_no_package_but_torch_and_numpy():
    program = """
import sys
for name in ("cv2", "matplotlib", "mmcv", "mmengine", "munkres", "pandas", "pycocotools", "scipy", "skimage",
             "torchvision", "xtcocotools"):
    sys.modules[name] = None  # importing it fails
import numpy as np
from cvkit import pose
points = np.arange(34.0, dtype=np.float32).reshape(1, 17, 2)
codec = pose.GaussianCodec((64, 48), (16, 12))
found = codec.decode(codec.encode(points).heatmaps).keypoints
assert np.abs(found.numpy() - points).max() < 1e-4
flat = np.concatenate([points[0], np.full((17, 1), 2)], 1).ravel()
person = {"id": np.int64(1), "image_id": np.int64(7), "category_id": 1, "keypoints": flat, "area": np.float32(999),
          "bbox": np.zeros(4)}
truth = {"images": [{"id": np.int64(7)}], "annotations": [person], "categories": [{"id": 1}]}
result = pose.coco_evaluate(truth, [{"image_id": 7, "category_id": 1, "keypoints": flat, "score": np.float32(1)}])
print(round(result["AP"], 6))
"""
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == "1.0"


def test_published_example(real_data):
    folder = real_data / "landmarks" / "coco_metric"
    found = coco_evaluate(folder / "example_coco_val.json", folder / "example_coco_preds.json")
    expected = [0.86089, 0.993145, 0.910891, 0.775578, 0.937252, 0.875, 1, 0.916667, 0.78, 0.942857]
    np.testing.assert_allclose(list(found.values()), expected, rtol=0, atol=6e-6)
    truth = json.loads((folder / "example_coco_val.json").read_text())
    detections = json.loads((folder / "example_coco_preds.json").read_text())
    np.testing.assert_allclose(list(found.values()), peer(truth, detections), rtol=0, atol=1e-9)


def test_published_example_shifted_and_seeded_perturbations(real_data):
    truth = json.loads((real_data / "landmarks" / "coco_metric" / "example_coco_val.json").read_text())

    def moved(shift, rng=None):
        found = []
        for person in (p for p in truth["annotations"] if p["num_keypoints"]):
            points = np.reshape(person["keypoints"], (-1, 3)).astype(float)
            offset = shift if rng is None else rng.normal(0, shift, (17, 2))
            points[:, :2] += np.sqrt(person["area"]) * offset
            score = 1.0 if rng is None else float(rng.random())
            found.append(
                {"image_id": person["image_id"], "category_id": 1, "keypoints": points.ravel().tolist(), "score": score}
            )
        return found

    expected = [0.614356, 1, 1, 0.620792, 0.61396, 0.633333, 1, 1, 0.62, 0.642857]
    np.testing.assert_allclose(list(coco_evaluate(truth, moved(0.05)).values()), expected, rtol=0, atol=6e-7)
    for seed in range(3):
        found = moved(0.04, np.random.default_rng(seed))
        np.testing.assert_allclose(list(coco_evaluate(truth, found).values()), peer(truth, found), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("share", "both", "expected"),
    [
        (0.01, True, 0.988060),
        (0.05, True, 0.776402),
        (0.1, True, 0.496669),
        (0.01, False, 0.993990),
        (0.05, False, 0.871155),
        (0.1, False, 0.646995),
    ],
)
def test_closed_form_similarity_of_a_shift(share, both, expected):
    labels = np.random.default_rng(0).uniform(0, 99, (1, 17, 2))
    found = oks(labels + np.array([1.0, float(both)]) * share * 50, labels, None, [2500.0])
    assert float(found[0]) == pytest.approx(expected, abs=5e-7)


@given(st.integers(0, 10**6))
def test_similarity_agrees_with_the_formula(seed):
    rng = np.random.default_rng(seed)
    labels, seen = rng.uniform(0, 50, (3, 17, 2)), rng.integers(0, 3, (3, 17))
    predicted, areas = labels + rng.normal(0, 3, labels.shape), rng.uniform(100, 5000, 3)
    found = oks(predicted, labels, seen, areas)
    for i in range(3):
        slow = pose_metrics.oks(predicted[i], labels[i], seen[i], areas[i], COCO17.sigmas)
        assert found[i] == pytest.approx(slow, nan_ok=True)


@pytest.mark.fault("jin-s13/xtcocoapi#23")
def test_nothing_visible_is_nan_not_one():
    assert np.isnan(oks(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), np.zeros((1, 17)), [100.0])).all()


def test_missing_predictions_are_not_similar():
    predicted = np.zeros((1, 17, 2))
    predicted[0, :8] = np.nan
    assert oks(predicted, np.zeros((1, 17, 2)), None, [100.0])[0] == pytest.approx(9 / 17)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_split_over_accumulators_in_any_order(seed, parts):
    truth, found = scene(seed, images=5)
    rng = np.random.default_rng(seed)
    home = dict(zip(rng.permutation(5).tolist(), rng.integers(0, parts, 5).tolist(), strict=True))
    merged = CocoAP()
    for part in rng.permutation(parts):
        metric = CocoAP()
        here = {image for image, p in home.items() if p == part}
        metric.update(
            {
                **truth,
                "images": [{"id": i} for i in here],
                "annotations": [a for a in truth["annotations"] if a["image_id"] in here],
            },
            [f for f in found if f["image_id"] in here],
        )
        merged = metric.merge(merged)
    whole = CocoAP()
    whole.update(truth, found)
    # Equal scores on different images are ordered by image, as the reference program has them, whatever came first.
    assert merged.compute() == whole.compute()


def test_undefined_figures_are_minus_one():
    truth = {"images": [{"id": 1}, {"id": "two"}], "annotations": [], "categories": [{"id": 1}]}
    assert set(coco_evaluate(truth, []).values()) == {-1.0}
    points = [5.0, 5.0, 1.0] * 17
    assert set(
        coco_evaluate(truth, [{"image_id": 1, "category_id": 1, "keypoints": points, "score": 1.0}]).values()
    ) == {-1.0}
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points, "area": 5000.0, "bbox": [0, 0, 9, 9]}
    nothing_found = coco_evaluate({**truth, "annotations": [person]}, [])
    assert (nothing_found["AP"], nothing_found["AR"], nothing_found["APL"]) == (0.0, 0.0, -1.0)


def test_several_categories_are_averaged():
    truth, found = scene(3, images=6)
    for i, entry in enumerate(truth["annotations"]):
        entry["category_id"] = 1 + i % 2
    for i, entry in enumerate(found):
        entry["category_id"] = 1 + i % 2
    truth["categories"].append({"id": 2, "name": "other", "keypoints": [], "skeleton": []})
    np.testing.assert_allclose(list(coco_evaluate(truth, found).values()), peer(truth, found), rtol=0, atol=1e-9)


def test_arguments_are_left_alone():
    truth, found = scene(5)
    before = json.dumps([truth, found])
    coco_evaluate(truth, found)
    assert json.dumps([truth, found]) == before


def test_errors_are_named(tmp_path):
    truth, found = scene(1)
    with pytest.raises(DataError, match=r"gone\.json"):
        coco_evaluate(tmp_path / "gone.json", found)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match=r"bad\.json"):
        coco_evaluate(truth, tmp_path / "bad.json")
    with pytest.raises(ValueError, match="annotations"):
        coco_evaluate({"images": []}, [])
    with pytest.raises(TypeError, match="ground_truth"):
        CocoAP().update([1], [])
    for field in ("image_id", "category_id", "keypoints", "score"):
        broken = {k: v for k, v in found[0].items() if k != field}
        with pytest.raises(ValueError, match=field):
            coco_evaluate(truth, [broken])
    with pytest.raises(ValueError, match="images of `ground_truth`"):
        coco_evaluate(truth, [{**found[0], "image_id": 99}])
    with pytest.raises(ValueError, match="sigmas"):
        oks(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)), None, [1.0])
    with pytest.raises(ValueError, match="areas"):
        oks(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), None, [1.0, 2.0])
    with pytest.raises(ValueError, match="predicted"):
        oks(np.zeros((1, 16, 2)), np.zeros((1, 17, 2)), None, [1.0])
    metric = CocoAP()
    metric.update(truth, found)
    with pytest.raises(ValueError, match="twice"):
        metric.update(truth, found)
    with pytest.raises(ValueError, match="other images"):
        metric.merge(metric)
    with pytest.raises(ValueError, match="sigmas"):
        metric.merge(CocoAP(sigmas=[0.1]))


@pytest.mark.slow
def test_not_slower_than_the_reference_program_on_5000_detections():
    truth, found = scene(0, images=900)
    found = found[:5000]
    assert len(found) == 5000
    best = {}
    for name, run in (("ours", coco_evaluate), ("peer", peer)):
        times = []
        for _ in range(3):
            start = time.process_time()
            run(truth, found)
            times.append(time.process_time() - start)
        best[name] = min(times)
    assert best["ours"] <= best["peer"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda truth, found: truth["images"][0].pop("id"), ValueError, "`id` in each of its images"),
        (lambda truth, found: truth["categories"][0].pop("id"), ValueError, "`id` in each of its categories"),
        (lambda truth, found: truth["annotations"][0].pop("image_id"), ValueError, "`image_id` in each"),
        (lambda truth, found: truth["annotations"][0].pop("bbox"), ValueError, "field 'bbox'"),
        (lambda truth, found: truth["annotations"][0].pop("keypoints"), ValueError, "field 'keypoints'"),
        (lambda truth, found: truth["annotations"][0].update(bbox=[1, 2, 3]), ValueError, "`bbox`"),
        (lambda truth, found: found[0].pop("score"), ValueError, "field 'score'"),
        (lambda truth, found: found.append("person"), TypeError, "`detections` must be entries"),
    ],
)
def test_every_missing_field_is_named(change, error, message):
    flat = [1.0, 2.0, 2.0] * 17
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "keypoints": flat, "area": 9.0, "bbox": [0, 0, 3, 3]}],
    }
    found = [{"image_id": 1, "category_id": 1, "keypoints": flat, "score": 1.0}]
    change(truth, found)
    with pytest.raises(error, match=message):
        coco_evaluate(truth, found)


def test_a_list_as_ground_truth_is_named():
    with pytest.raises(TypeError, match="`ground_truth` must be a mapping"):
        coco_evaluate([], [])


@pytest.mark.parametrize("sigmas", [[0.0, 0.1], [0.1, -0.1], [np.nan, 0.1], [0.1]])
def test_sigmas_are_positive(sigmas):
    points = np.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="`sigmas` must be 2 positive numbers"):
        oks(points, points, None, [1.0], sigmas=sigmas)


def test_areas_are_not_negative():
    points = np.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="`areas` must be"):
        oks(points, points, None, [-1.0], sigmas=[0.1, 0.1])
