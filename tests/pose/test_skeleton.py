import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import Skeleton


def test_names_and_indices_mean_the_same():
    by_name = Skeleton(
        "s",
        ["a", "left b", "right b"],
        [("left b", "right b")],
        [("a", "left b")],
        [0.1, 0.2, 0.2],
        {"b": ["left b", "right b"]},
    )
    by_index = Skeleton("s", ["a", "left b", "right b"], [(1, 2)], [(0, 1)], [0.1, 0.2, 0.2], {"b": [1, 2]})
    assert by_name == by_index
    assert hash(by_name) == hash(by_index)
    assert by_name.flip == (0, 2, 1)
    assert by_name.lines == ((0, 1),)
    assert len(by_name) == 3
    assert by_name.index("right b") == by_name.index(2) == 2


@given(st.integers(1, 12), st.data())
def test_flip_is_its_own_inverse(joints, data):
    order = data.draw(st.permutations(range(joints)))
    count = data.draw(st.integers(0, joints // 2))
    skeleton = Skeleton("s", [f"j{i}" for i in range(joints)], [(order[2 * i], order[2 * i + 1]) for i in range(count)])
    assert [skeleton.flip[skeleton.flip[j]] for j in range(joints)] == list(range(joints))
    assert sum(skeleton.flip[j] != j for j in range(joints)) == 2 * count


@pytest.mark.fault("bearpaw/pytorch-pose#41")
@pytest.mark.fault("open-mmlab/mmpose#3158")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"joints": []}, ValueError, "at least one"),
        ({"joints": ["a", "a", "b"]}, ValueError, "different names"),
        ({"joints": ["a", 2, "b"]}, TypeError, "names"),
        ({"name": 3}, TypeError, "name"),
        ({"pairs": [(0, 1), (1, 2)]}, ValueError, "at most once"),
        ({"pairs": [(0, 0)]}, ValueError, "different joints"),
        ({"pairs": [(0, 3)]}, ValueError, "at most 2"),
        ({"pairs": [("a", "z")]}, ValueError, "no joint"),
        ({"pairs": [(0, 1, 2)]}, TypeError, "pairs of joints"),
        ({"pairs": ["ab"]}, TypeError, "pairs of joints"),
        ({"edges": [(1, 1)]}, ValueError, "edges"),
        ({"edges": [(-1, 1)]}, ValueError, "at least 0"),
        ({"sigmas": [0.1]}, ValueError, "3 positive"),
        ({"sigmas": [0.1, 0.1, 0]}, ValueError, "3 positive"),
        ({"sigmas": [0.1, 0.1, float("nan")]}, ValueError, "finite"),
        ({"groups": {"x": ["z"]}}, ValueError, "no joint"),
    ],
)
def test_bad_skeletons_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        Skeleton(**{"name": "s", "joints": ["a", "b", "c"], **changes})


@pytest.mark.fault("open-mmlab/mmpose#2157")
@pytest.mark.parametrize(
    ("joints", "sided"),
    [
        (["left eye", "right eye"], True),
        (["leftear", "rightear"], True),
        (["l_hip", "r_hip"], True),
        (["Left-paw", "x"], True),
        (["wrist", "thumb 1"], False),
        (["upright pole", "cleft"], False),
        (["ear", "rail"], False),
    ],
)
def test_flipping_is_refused_where_names_hold_sides_but_no_pairs(joints, sided):
    skeleton = Skeleton("s", joints)
    assert skeleton.has_sides == sided
    assert skeleton.can_flip != sided
    if sided:
        with pytest.raises(ValueError, match="pairs"):
            skeleton.check_flip()
        assert Skeleton("s", joints, [(0, 1)]).check_flip() == (1, 0)
    else:
        assert skeleton.check_flip() == (0, 1)


def test_config_builds_it_again():
    skeleton = Skeleton("s", ["a", "b"], [(0, 1)], [(0, 1)], [0.1, 0.3], {"all": [0, 1]})
    assert Skeleton(**skeleton.config) == skeleton


@pytest.mark.parametrize(
    ("names", "sided"),
    [
        (["LWrist", "RWrist"], True),
        (["wristLeft", "wristRight"], True),
        (["earL", "earR"], True),
        (["LEFT_EYE", "RIGHT_EYE"], True),
        (["hip_l", "hip_r"], True),
        (["L1", "L2", "L3"], False),  # vertebrae: there are no right ones
        (["lhip", "rhip", "neck"], True),
        (["lip", "rib", "Lear", "nose"], False),
        (["lateral", "radial", "upright", "Rear", "paw1LH_top"], False),
        (["left scar", "nose"], True),
    ],
)
def test_names_of_sides_are_seen_in_every_common_spelling(names, sided):
    skeleton = Skeleton("s", names)
    assert skeleton.has_sides is sided
    assert skeleton.can_flip is not sided


def test_a_forgotten_pair_is_refused_by_name():
    skeleton = Skeleton("s", ["left ear", "right ear", "left eye", "right eye"], pairs=[(0, 1)])
    assert not skeleton.can_flip
    with pytest.raises(ValueError, match="left eye, right eye"):
        skeleton.check_flip()


def test_a_string_is_no_sequence_of_names_and_groups_are_a_mapping():
    with pytest.raises(TypeError, match="`joints` must be a sequence of names; got the string 'abc'"):
        Skeleton("s", "abc")
    with pytest.raises(TypeError, match="`groups` must be a mapping"):
        Skeleton("s", ["a", "b"], groups=[("both", (0, 1))])
