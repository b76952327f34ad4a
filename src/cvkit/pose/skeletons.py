"""The skeletons of the well-known data sets. Numbers follow each data set's own order, from 0."""

from __future__ import annotations

from cvkit.pose.skeleton import Skeleton

__all__ = [
    "AFLW19",
    "COCO17",
    "COCO_WHOLEBODY",
    "COFW29",
    "FACE68",
    "HAND21",
    "LSP",
    "MPII",
    "SKELETONS",
    "STICK_FIGURE",
    "WFLW98",
]


def _names(text: str) -> list[str]:
    return [name.replace("_", " ") for name in text.split()]


def _thousandths(text: str) -> tuple[float, ...]:
    return tuple(int(number) / 1000 for number in text.split())


def _sided(*names: str) -> list[tuple[str, str]]:
    return [(f"left {name}", f"right {name}") for name in names]


def _chain(*joints: int, closed: bool = False) -> list[tuple[int, int]]:
    ends = joints[1:] + (joints[:1] if closed else ())
    return list(zip(joints, ends, strict=False))


def _run(first: int, last: int, *, closed: bool = False) -> list[tuple[int, int]]:
    return _chain(*range(first, last + 1), closed=closed)


def _mirror(*runs: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Pair first..last with a run of the same length: (first, last, partner of first, step)."""
    return [(a + i, b + i * step) for a, last, b, step in runs for i in range(last - a + 1)]


MPII = Skeleton(
    "mpii",
    _names(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top "
        "right_wrist right_elbow "
        "right_shoulder left_shoulder left_elbow left_wrist"
    ),
    pairs=_sided("ankle", "knee", "hip", "wrist", "elbow", "shoulder"),
    edges=[
        *_chain(0, 1, 2, 6, 3, 4, 5),
        *_chain(6, 7, 8, 9),
        *_chain(10, 11, 12, 7, 13, 14, 15),
    ],
    sigmas=_thousandths("89 83 107 107 83 89 26 26 26 26 62 72 179 179 72 62"),
    groups={
        "head": (9,),
        "shoulder": (12, 13),
        "elbow": (11, 14),
        "wrist": (10, 15),
        "hip": (2, 3),
        "knee": (1, 4),
        "ankle": (0, 5),
        "upper": tuple(range(7, 16)),
        "lower": tuple(range(7)),
    },
)
"""Sixteen joints of MPII Human Pose."""

_BODY_SIGMAS = _thousandths("26 25 25 35 35 79 79 72 72 62 62 107 107 87 87 89 89")
_BODY = _names(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip "
    "right_hip left_knee right_knee left_ankle right_ankle"
)
_BODY_PAIRS = _sided("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_BODY_EDGES = [
    *_chain(15, 13, 11, 12, 14, 16),
    *_chain(11, 5, 6, 12),
    *_chain(5, 7, 9),
    *_chain(6, 8, 10),
    *_chain(5, 3, 1, 2, 4, 6),
    *_chain(1, 0, 2),
]

COCO17 = Skeleton(
    "coco17",
    _BODY,
    pairs=_BODY_PAIRS,
    edges=_BODY_EDGES,
    sigmas=_BODY_SIGMAS,
    groups={"upper": tuple(range(11)), "lower": tuple(range(11, 17))},
)
"""Seventeen joints of COCO key points."""

LSP = Skeleton(
    "lsp",
    _names(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
        "left_shoulder "
        "left_elbow left_wrist neck head_top"
    ),
    pairs=_sided("ankle", "knee", "hip", "wrist", "elbow", "shoulder"),
    edges=[*_chain(0, 1, 2, 3, 4, 5), *_chain(6, 7, 8, 12, 9, 10, 11), (12, 13), (8, 2), (9, 3)],
    groups={"upper": tuple(range(6, 14)), "lower": tuple(range(6))},
)
"""Fourteen joints of Leeds Sports Pose and its extension."""


def _numbered(part: str, count: int, first: int = 0) -> list[str]:
    return [f"{part} {i}" for i in range(first, first + count)]


_FACE68_PAIRS = [
    *_mirror((0, 7, 16, -1), (17, 21, 26, -1), (31, 32, 35, -1), (36, 39, 45, -1), (40, 41, 47, -1), (48, 50, 54, -1)),
    (55, 59),
    (56, 58),
    (60, 64),
    (61, 63),
    (65, 67),
]
_FACE68_EDGES = [
    *_run(0, 16),
    *_run(17, 21),
    *_run(22, 26),
    *_run(27, 30),
    *_run(31, 35),
    *_run(36, 41, closed=True),
    *_run(42, 47, closed=True),
    *_run(48, 59, closed=True),
    *_run(60, 67, closed=True),
]
_FACE68_GROUPS = {
    "jaw": range(17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}

FACE68 = Skeleton(
    "face68",
    _numbered("face", 68),
    pairs=_FACE68_PAIRS,
    edges=_FACE68_EDGES,
    groups={k: tuple(v) for k, v in _FACE68_GROUPS.items()},
)
"""Sixty-eight points of 300W (Multi-PIE mark-up): jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67."""

WFLW98 = Skeleton(
    "wflw98",
    _numbered("face", 98),
    pairs=[
        *_mirror(
            (0, 15, 32, -1),
            (33, 37, 46, -1),
            (38, 41, 50, -1),
            (60, 64, 72, -1),
            (65, 67, 75, -1),
            (76, 78, 82, -1),
            (88, 89, 92, -1),
        ),
        (55, 59),
        (56, 58),
        (83, 87),
        (84, 86),
        (93, 95),
        (96, 97),
    ],
    edges=[
        *_run(0, 32),
        *_run(33, 41, closed=True),
        *_run(42, 50, closed=True),
        *_run(51, 54),
        *_run(55, 59),
        *_run(60, 67, closed=True),
        *_run(68, 75, closed=True),
        *_run(76, 87, closed=True),
        *_run(88, 95, closed=True),
    ],
    groups={
        "jaw": tuple(range(33)),
        "brows": tuple(range(33, 51)),
        "nose": tuple(range(51, 60)),
        "eyes": (*range(60, 76), 96, 97),
        "mouth": tuple(range(76, 96)),
    },
)
"""Ninety-eight points of WFLW: jaw 0-32, brows 33-50, nose 51-59, eyes 60-75, mouth 76-95, pupils 96 and 97."""

COFW29 = Skeleton(
    "cofw29",
    _numbered("face", 29),
    pairs=[
        (0, 1),
        (2, 3),
        (4, 6),
        (5, 7),
        (8, 9),
        (10, 11),
        (12, 14),
        (13, 15),
        (16, 17),
        (18, 19),
        (22, 23),
    ],
    edges=[
        *_chain(0, 4, 2, 5, closed=True),
        *_chain(1, 6, 3, 7, closed=True),
        *_chain(8, 12, 10, 13, closed=True),
        *_chain(9, 14, 11, 15, closed=True),
        *_chain(18, 20, 19, 21, closed=True),
        *_chain(22, 24, 23, 27, closed=True),
    ],
)
"""Twenty-nine points of COFW."""

AFLW19 = Skeleton(
    "aflw19",
    _numbered("face", 19),
    pairs=[(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17)],
    edges=[*_run(0, 2), *_run(3, 5), *_run(6, 8), *_run(9, 11), *_run(12, 14), *_run(15, 17)],
)
"""Nineteen points of AFLW: brows 0-5, eyes 6-11, nose and ears 12-14, mouth 15-17, chin 18."""

_FINGERS = ("thumb", "index", "middle", "ring", "little")
_HAND = ["wrist", *(f"{finger} {i}" for finger in _FINGERS for i in range(1, 5))]
_HAND_EDGES = [edge for f in range(5) for edge in _chain(0, *range(1 + 4 * f, 5 + 4 * f))]
_HAND_SIGMAS = _thousandths("29 22 35 37 47 26 25 24 35 18 24 22 26 17 21 21 32 20 19 22 31")

HAND21 = Skeleton(
    "hand21",
    _HAND,
    edges=_HAND_EDGES,
    sigmas=_HAND_SIGMAS,
    groups={finger: tuple(range(1 + 4 * f, 5 + 4 * f)) for f, finger in enumerate(_FINGERS)},
)
"""Twenty-one joints of one hand, wrist first, each finger from its base to its tip; a mirrored hand keeps its
joints."""

_FACE_SIGMAS = _thousandths(
    "42 43 44 43 40 35 31 25 20 23 29 32 37 38 43 41 45 13 12 11 11 12 12 11 11 13 15 9 7 7 7 12 9 8 16 10 17 11 "
    "9 11 9 7 13 8 11 12 10 34 8 8 9 8 8 7 10 8 9 9 9 7 7 8 11 8 8 8 10 8"
)
_FOOT_SIGMAS = _thousandths("68 66 66 92 94 94")


def _shifted(edges: list[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    return [(a + by, b + by) for a, b in edges]


COCO_WHOLEBODY = Skeleton(
    "coco_wholebody",
    [
        *_BODY,
        *_names("left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"),
        *_numbered("face", 68),
        *(f"{side} hand {joint}" for side in ("left", "right") for joint in _HAND),
    ],
    pairs=[
        *_BODY_PAIRS,
        *_sided("big toe", "small toe", "heel"),
        *_shifted(_FACE68_PAIRS, 23),
        *((91 + i, 112 + i) for i in range(21)),
    ],
    edges=[
        *_BODY_EDGES,
        *((15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22)),
        *_shifted(_FACE68_EDGES, 23),
        *_shifted(_HAND_EDGES, 91),
        *_shifted(_HAND_EDGES, 112),
    ],
    sigmas=(*_BODY_SIGMAS, *_FOOT_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    groups={
        "body": tuple(range(17)),
        "feet": tuple(range(17, 23)),
        "face": tuple(range(23, 91)),
        "left hand": tuple(range(91, 112)),
        "right hand": tuple(range(112, 133)),
        "upper": (*range(11), *range(23, 133)),
        "lower": tuple(range(11, 23)),
    },
)
"""One hundred and thirty-three joints of COCO-WholeBody: body 0-16, feet 17-22, face 23-90, hands 91-132."""

STICK_FIGURE = Skeleton(
    "stick_figure",
    _names("head neck left_elbow left_hand right_elbow right_hand hip left_knee left_foot right_knee right_foot"),
    pairs=_sided("elbow", "hand", "knee", "foot"),
    edges=[*_chain(0, 1, 6), *_chain(1, 2, 3), *_chain(1, 4, 5), *_chain(6, 7, 8), *_chain(6, 9, 10)],
    groups={"upper": tuple(range(6)), "lower": tuple(range(6, 11))},
)
"""Eleven joints of the generated stick figures."""

SKELETONS: dict[str, Skeleton] = {
    s.name: s for s in (MPII, COCO17, LSP, FACE68, WFLW98, COFW29, AFLW19, HAND21, COCO_WHOLEBODY, STICK_FIGURE)
}
"""All of the above by name."""
