import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit import pose
from cvkit._errors import DataError


def picture(path, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_points_csv_of_every_shape(tmp_path):
    picture(tmp_path / "sub" / "a.png")
    picture(tmp_path / "b.jpg")
    rows = "a.png,1,2,3.5,-4\nb.jpg,,7,-1,-1\n"
    for header in ("", "name,x0,y0,x1,y1\n", ",0,1,2,3\n"):
        (tmp_path / "points.csv").write_text(header + rows)
        data = pose.read_landmarks(tmp_path)
        assert [p.name for p in data.images] == ["a.png", "b.jpg"]
        assert data.keypoints[0].tolist() == [[1, 2], [3.5, -4]]
        assert np.isnan(data.keypoints[1]).all()
        assert data.visibility.tolist() == [[2, 2], [0, 0]]
        assert data.boxes is None


def test_deeplabcut_csv_with_gaps_and_sides(tmp_path):
    picture(tmp_path / "labeled-data" / "img1.png")
    text = "scorer,me,me,me,me,me,me\nbodyparts,snout,snout,leftear,leftear,rightear,rightear\ncoords,x,y,x,y,x,y\n"
    (tmp_path / "CollectedData.csv").write_text(text + "labeled-data/img1.png,1,2,,,5,6\n")
    data = pose.read_landmarks(tmp_path)
    assert data.skeleton.joints == ("snout", "leftear", "rightear")
    assert data.skeleton.flip == (0, 2, 1)
    assert data.visibility.tolist() == [[2, 0, 2]]
    # The newer form has the folders in columns of their own.
    split = "scorer,,,me,me\nbodyparts,,,snout,snout\ncoords,,,x,y\nlabeled-data,s,img1.png,3,4\n"
    (tmp_path / "CollectedData.csv").write_text(split)
    assert pose.read_landmarks(tmp_path).keypoints.tolist() == [[[3, 4]]]


def coco(joints=3, **changes):
    person = {
        "id": 1,
        "image_id": 5,
        "category_id": 1,
        "keypoints": [1, 2, 2, 0, 0, 0, 4, 5, 1][: 3 * joints],
        "bbox": [0, 1, 6, 4],
    }
    names = ["nose", "left eye", "right eye"][:joints]
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2], [1, 3]]}
    return {"images": [{"id": 5, "file_name": "a.png"}], "annotations": [person], "categories": [category], **changes}


def test_coco_json(tmp_path):
    picture(tmp_path / "images" / "a.png")
    document = coco()
    document["annotations"] += [
        {**document["annotations"][0], "iscrowd": 1},
        {**document["annotations"][0], "keypoints": [0] * 9},
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "people.json").write_text(json.dumps(document))
    data = pose.read_coco(tmp_path / "annotations" / "people.json", images=tmp_path)
    assert len(data) == 1
    assert data.skeleton.joints == ("nose", "left eye", "right eye")
    assert data.skeleton.flip == (0, 2, 1)
    assert data.skeleton.lines == ((0, 1), (0, 2))
    assert data.boxes.tolist() == [[0, 1, 6, 5]]
    assert data.visibility.tolist() == [[2, 0, 1]]
    assert math.isnan(data.keypoints[0, 1, 0])
    no_box = coco()
    del no_box["annotations"][0]["bbox"]
    (tmp_path / "people.json").write_text(json.dumps(no_box))
    assert pose.read_coco(tmp_path / "people.json").boxes.tolist() == [[1, 2, 4, 5]]


def test_pts_files_count_from_one(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.pts").write_text("version: 1\nn_points: 2\n{\n1.0 2.0\n3 4\n}\n")
    data = pose.read_landmarks(tmp_path)
    assert data.keypoints[0].tolist() == [[0, 1], [2, 3]]
    assert data.boxes[0].tolist() == [0, 1, 2, 3]


def test_known_numbers_of_points_bring_their_skeleton(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "p.csv").write_text("a.png," + ",".join("1" for _ in range(136)) + "\n")
    assert pose.read_landmarks(tmp_path).skeleton is pose.FACE68
    mine = pose.Skeleton("mine", [f"p{i}" for i in range(68)])
    assert pose.read_landmarks(tmp_path / "p.csv", skeleton=mine).skeleton is mine


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "", "no rows"),
        ("p.csv", "a.png,1\n", "pairs"),
        ("p.csv", "a.png,1,2,3\n", "pairs"),
        ("p.csv", "a.png,1,2\na.png,1\n", "row 2"),
        ("p.csv", "a.png,1,2\na.png,x,2\n", "no number"),
        ("p.csv", "gone.png,1,2\n", "no picture 'gone.png'"),
        ("p.csv", '"a.png,1,2\n', "no CSV"),
        ("p.csv", "../outside.png,1,2\n", "no picture"),
        ("p.csv", "/etc/passwd,1,2\n", "no picture"),
        ("p.csv", "scorer,m,m\nbodyparts,a,a\n", "must begin"),
        ("p.csv", "scorer,m,m\nbodyparts,a,a\ncoords,x,y\n", "no labels"),
        ("p.csv", "scorer,m,m\nindividuals,a,a\nbodyparts,a,a\ncoords,x,y\na.png,1,2\n", "several individuals"),
        ("p.csv", "scorer,m,m\nbodyparts,a,a\ncoords,x,y\na.png,1\n", "picture 1"),
        ("p.csv", "scorer,m,m,m,m\nbodyparts,a,a,a,a\ncoords,x,y,x,y\na.png,1,2,3,4\n", "different names"),
        ("p.json", "{", "no COCO json"),
        ("p.json", "[]", "no COCO json"),
        ("p.json", json.dumps(coco(annotations=[])), "3 numbers"),
        ("p.json", json.dumps(coco(annotations=[{"image_id": 5, "keypoints": [1, 2]}])), "3 numbers"),
        ("p.json", json.dumps(coco(annotations=[{"image_id": 5, "keypoints": [1, 2, 0]}])), "no labelled"),
        ("p.json", json.dumps(coco(images=[])), "no COCO json"),
        ("p.json", "[" * 10**5, "no COCO json"),
        ("a.pts", "no points", "no .pts file"),
        ("a.pts", "{ 1 2 3 }", "no .pts file"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text, message):
    picture(tmp_path / "data" / "a.png")
    picture(tmp_path / "outside.png")
    (tmp_path / "data" / name).write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        pose.read_landmarks(tmp_path / "data")
    assert name in str(raised.value)


def test_missing_and_strange_folders(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        pose.read_landmarks(tmp_path / "gone")
    with pytest.raises(DataError, match="no landmarks"):
        pose.read_landmarks(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"\.csv or \.json"):
        pose.read_landmarks(tmp_path / "notes.txt")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.csv"):
        pose.read_landmarks(tmp_path)
    with pytest.raises(DataError, match=r"\.pts"):
        pose.read_pts(tmp_path)
    (tmp_path / "b.pts").write_text("{ 1 2 }")
    with pytest.raises(DataError, match="no picture of that name"):
        pose.read_pts(tmp_path)
    picture(tmp_path / "b.png")
    picture(tmp_path / "c.png")
    (tmp_path / "c.pts").write_text("{ 1 2 3 4 }")
    with pytest.raises(DataError, match="2 points"):
        pose.read_pts(tmp_path)


def test_too_large_a_label_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cvkit.pose.datasets.readers._LARGEST", 10)
    (tmp_path / "p.csv").write_text("a.png,1,2,3,4\n")
    with pytest.raises(DataError, match="larger"):
        pose.read_landmarks(tmp_path)


@given(st.binary(max_size=200), st.sampled_from(["p.csv", "p.json", "a.pts"]))
def test_any_bytes_end_in_one_named_error_or_in_data(tmp_path_factory, content, name):
    folder = tmp_path_factory.mktemp("any")
    picture(folder / "a.png")
    (folder / name).write_bytes(content)
    try:
        count = len(pose.read_landmarks(folder))
    except DataError as error:
        count = int(name in str(error))
    assert count > 0


def test_real_faces_and_mice(real_data):
    faces = pose.read_landmarks(real_data / "landmarks" / "udacity")
    assert (len(faces), len(faces.skeleton)) == (300, 68)
    assert (faces.visibility == 2).all()
    mice = pose.read_landmarks(real_data / "landmarks" / "mirror_mouse")
    assert (len(mice), len(mice.skeleton)) == (90, 17)
    assert 0 < (mice.visibility == 0).mean() < 0.2
    people = pose.read_landmarks(real_data / "landmarks" / "mmpose" / "coco" / "test_coco.json")
    assert people.skeleton is pose.COCO17
    assert (people.boxes[:, 2:] > people.boxes[:, :2]).all()
    assert len(pose.read_landmarks(real_data / "landmarks" / "mmpose" / "wflw").skeleton) == 98


ANIMAL = ["left_eye", "right_eye", "nose", "neck", "root_of_tail"] + [
    f"{side}_{part}"
    for part in ("shoulder", "elbow", "front_paw", "hip", "knee", "back_paw")
    for side in ("left", "right")
]


def _picture(path, color=(0, 0, 0)):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (20, 16), color).save(path)


def test_coco_names_of_their_own_win_over_a_known_skeleton_of_as_many_joints(tmp_path):
    _picture(tmp_path / "a.png")
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "animal", "keypoints": ANIMAL, "skeleton": [[1, 2], [1, 3]]}],
        "annotations": [{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 2] * 17, "bbox": [0, 0, 8, 8]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(document))
    skeleton = pose.read_coco(tmp_path / "labels.json").skeleton
    assert skeleton.joints == tuple(ANIMAL)
    assert skeleton.flip[0] == 1
    assert skeleton.flip[2] == 2
    assert skeleton.lines == ((0, 1), (0, 2))
    document["categories"][0]["keypoints"] = [joint.replace(" ", "_") for joint in pose.COCO17.joints]
    (tmp_path / "labels.json").write_text(json.dumps(document))
    assert pose.read_coco(tmp_path / "labels.json").skeleton is pose.COCO17


@pytest.mark.parametrize("form", ["{}_x,{}_y", "x_{},y_{}", "{}.X,{}.Y", "{} x,{} y"])
def test_names_in_a_csv_header_are_the_joints(tmp_path, form):
    _picture(tmp_path / "a.png")
    header = ",".join(form.format(name, name) for name in ANIMAL)
    (tmp_path / "labels.csv").write_text(f"name,{header}\na.png,{','.join(['1,2'] * 17)}\n")
    skeleton = pose.read_points_csv(tmp_path / "labels.csv").skeleton
    assert skeleton.joints == tuple(ANIMAL)
    assert skeleton.can_flip
    assert skeleton.flip[:3] == (1, 0, 2)


@pytest.mark.parametrize("form", ["x{0},y{0}", "p{0}_x,p{0}_y", "x_{0},y_{0}", "a,b"])
def test_a_header_of_numbers_leaves_the_count_to_say_what_they_are(tmp_path, form):
    _picture(tmp_path / "a.png")
    header = ",".join(form.format(i) for i in range(68))
    (tmp_path / "labels.csv").write_text(f"name,{header}\na.png,{','.join(['1,2'] * 68)}\n")
    assert pose.read_points_csv(tmp_path / "labels.csv").skeleton is pose.FACE68


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (["hip_l", "hip_r", "nose"], (1, 0, 2)),
        (["nose", "LEar", "REar"], (0, 2, 1)),
        (["L1", "L2", "L3"], (0, 1, 2)),
        (["rhip", "neck", "lhip"], (2, 1, 0)),
    ],
)
def test_single_letters_make_pairs_too(tmp_path, names, flip):
    _picture(tmp_path / "a.png")
    header = ",".join(f"{name}_x,{name}_y" for name in [*names, "tail"])
    (tmp_path / "labels.csv").write_text(f"name,{header}\na.png,1,2,3,4,5,6,7,8\n")
    skeleton = pose.read_points_csv(tmp_path / "labels.csv").skeleton
    assert skeleton.can_flip
    assert skeleton.flip[:3] == flip


def test_pts_files_take_the_picture_beside_them(tmp_path):
    _picture(tmp_path / "a.png", (255, 0, 0))
    _picture(tmp_path / "z" / "a.png", (0, 255, 0))
    (tmp_path / "a.pts").write_text("version: 1\nn_points: 2\n{\n2 3\n4 5\n}\n")
    assert pose.read_pts(tmp_path).images == [tmp_path / "a.png"]
    _picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="several pictures"):
        pose.read_pts(tmp_path)


def test_a_pts_file_with_fewer_points_than_it_says_is_damaged(tmp_path):
    _picture(tmp_path / "a.png")
    (tmp_path / "a.pts").write_text("version: 1\nn_points: 3\n{\n2 3\n4 5\n}\n")
    with pytest.raises(DataError, match="has 2 points, not 3"):
        pose.read_pts(tmp_path)


def test_of_pictures_of_one_name_the_nearest_path_is_taken_or_none(tmp_path):
    _picture(tmp_path / "one" / "a.png")
    _picture(tmp_path / "two" / "a.png")
    (tmp_path / "labels.csv").write_text("name,x0,y0\nC:\\data\\two\\a.png,1,2\n")
    assert pose.read_points_csv(tmp_path / "labels.csv").images == [tmp_path / "two" / "a.png"]
    (tmp_path / "labels.csv").write_text("name,x0,y0\na.png,1,2\n")
    with pytest.raises(DataError, match=r"several pictures 'a\.png'"):
        pose.read_points_csv(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    "categories",
    [
        5,
        [{"keypoints": 3}],
        [{"keypoints": ["a", "b", "c"], "skeleton": [[1]]}],
        [{"keypoints": ["a", "b", "c"], "skeleton": 7}],
    ],
)
def test_damaged_categories_are_one_named_error(tmp_path, categories):
    document = coco(3)
    document["categories"] = categories
    (tmp_path / "labels.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"labels.json: has damaged categories"):
        pose.read_coco(tmp_path / "labels.json")
