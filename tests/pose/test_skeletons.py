import pytest

from cvkit import pose


@pytest.mark.parametrize(
    ("name", "joints", "pairs"),
    [
        ("mpii", 16, 6),
        ("coco17", 17, 8),
        ("lsp", 14, 6),
        ("face68", 68, 29),
        ("wflw98", 98, 44),
        ("cofw29", 29, 11),
        ("aflw19", 19, 8),
        ("hand21", 21, 0),
        ("coco_wholebody", 133, 61),
        ("stick_figure", 11, 4),
    ],
)
def test_sizes(name, joints, pairs):
    skeleton = pose.SKELETONS[name]
    assert (len(skeleton), len(skeleton.pairs)) == (joints, pairs)
    assert skeleton.can_flip
    assert skeleton.lines


@pytest.mark.parametrize("skeleton", pose.SKELETONS.values(), ids=pose.SKELETONS)
def test_pairs_trade_left_and_right_and_keep_edges(skeleton):
    for i, j in enumerate(skeleton.flip):
        first, second = skeleton.joints[i], skeleton.joints[j]
        if skeleton.has_sides and "face" not in first:
            assert first.replace("left", "?").replace("right", "?") == second.replace("left", "?").replace("right", "?")
            assert (i == j) == ("left" not in first and "right" not in first)
    lines = {frozenset(line) for line in skeleton.lines}
    mirrored = {frozenset(skeleton.flip[j] for j in line) for line in lines}
    # The published runs along brows and noses are open on one side only where the mark-up itself is.
    assert len(lines - mirrored) <= 0.1 * len(lines)
    if skeleton.sigmas and not skeleton.name.startswith("coco_w"):
        assert all(skeleton.sigmas[i] == skeleton.sigmas[j] for i, j in enumerate(skeleton.flip))


def test_published_orders():
    assert pose.MPII.flip == (5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10)
    assert [round(s * 1000) for s in pose.COCO17.sigmas] == [
        26,
        25,
        25,
        35,
        35,
        79,
        79,
        72,
        72,
        62,
        62,
        107,
        107,
        87,
        87,
        89,
        89,
    ]
    assert pose.FACE68.flip[36] == 45
    assert pose.FACE68.flip[:17] == tuple(range(16, -1, -1))
    assert pose.FACE68.flip[27:31] == (27, 28, 29, 30)
    assert pose.WFLW98.flip[60] == 72
    assert pose.WFLW98.flip[96] == 97
    assert pose.COFW29.flip[8] == 9
    assert pose.LSP.joints[12:] == ("neck", "head top")
    assert pose.COCO_WHOLEBODY.flip[91] == 112
    assert pose.COCO_WHOLEBODY.sigmas[:17] == pose.COCO17.sigmas
    assert pose.MPII.groups["hip"] == (2, 3)


def test_bodies_have_halves_for_half_body_augmentation():
    for skeleton in (pose.MPII, pose.COCO17, pose.LSP, pose.COCO_WHOLEBODY, pose.STICK_FIGURE):
        upper, lower = (set(skeleton.groups[name]) for name in ("upper", "lower"))
        assert upper | lower == set(range(len(skeleton)))
        assert not upper & lower
        assert {skeleton.flip[joint] for joint in upper} == upper
    whole = pose.COCO_WHOLEBODY
    assert {"left hip", "left ankle", "right heel"} <= {whole.joints[joint] for joint in whole.groups["lower"]}
