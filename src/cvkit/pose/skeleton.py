"""Skeletons: the joints' names, which mirror each other, which a line joins, and how far annotators disagree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cvkit._checks import check_finite, check_instance, check_integer, shown

__all__ = ["Skeleton"]

# A whole word, the beginning of one (leftear), or a hump (earLeft); of single letters also a first hump (LEar).
_WORD = re.compile(r"^(left|right)|(?<![a-z])(left|right)(?![a-z])|(?<=[a-z0-9])(?-i:Left|Right)", re.IGNORECASE)
_LETTER = re.compile(
    r"(?<![a-z])[lr](?![a-z])|(?-i:(?<=[a-z0-9])[LR](?![A-Za-z])|(?<![A-Za-z])[LR](?=[A-Z][a-z]))", re.IGNORECASE
)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def sided_names(names: Sequence[str]) -> dict[str, str]:
    """Return the names that speak of a side, each with what its partner on the other side would be called.

    Single letters count only where both of them occur: L1 to L5 alone are no left ones, lhip needs rhip.
    """
    letters = {found[0].lower() for name in names if (found := _LETTER.search(name))}
    sided = {}
    for name in names:
        found = _WORD.search(name) or (_LETTER.search(name) if len(letters) == 2 else None)
        if found:
            token = found[0]
            sided[name] = name[: found.start()] + _opposite(token) + name[found.end() :]
        elif name[:1] in {"l", "r", "L", "R"} and _opposite(name[0]) + name[1:] in names:  # lhip beside rhip
            sided[name] = _opposite(name[0]) + name[1:]
    return sided


def _opposite(token: str) -> str:
    other = _OTHER[token.lower()]
    return other.upper() if token.isupper() else other.capitalize() if token[0].isupper() else other


@dataclass(frozen=True)
class Skeleton:
    """The joints of a data set, checked once and then relied on.

    Parameters
    ----------
    name : str
        What it is called.
    joints : sequence of str
        Name of each joint, all different.
    pairs : sequence of pairs of str or int
        Joints that trade places in a mirror. Joints in no pair stay what they are. Joints whose names hold "left" or
        "right" (or, of both sides, l and r: ``"hip_l"``, ``"LHip"``) need a pair; without it flipping is refused.
    edges : sequence of pairs of str or int
        Joints to be joined by a line in drawings.
    sigmas : sequence of float, optional
        One positive number a joint for object key-point similarity (COCO's sigma).
    groups : mapping of str to sequence of str or int, optional
        Named parts, for metrics that report them.

    Attributes
    ----------
    flip : tuple of int
        For each joint the one that it becomes in a mirror; its own inverse.

    Raises
    ------
    ValueError
        If names repeat, a pair names an unknown joint, a joint is in two pairs or paired with itself, or `sigmas` has
        another length.
    TypeError
        If a part is not of the kind above.

    Examples
    --------
    >>> from cvkit.pose import Skeleton
    >>> mouse = Skeleton(
    ...     "mouse", ["snout", "left ear", "right ear"], pairs=[("left ear", "right ear")], edges=[(0, 1), (0, 2)]
    ... )
    >>> mouse.flip
    (0, 2, 1)
    >>> mouse.edges
    ((0, 1), (0, 2))
    """

    name: str
    joints: Sequence[str]
    pairs: Sequence[tuple[str | int, str | int]] = ()
    edges: Sequence[tuple[str | int, str | int]] = ()
    sigmas: Sequence[float] | None = None
    groups: Mapping[str, Sequence[str | int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields and turn names into indices."""
        check_instance("name", self.name, str)
        if isinstance(self.joints, str):
            raise TypeError(f"`joints` must be a sequence of names; got the string {self.joints!r}")
        check_instance("groups", self.groups, Mapping, "a mapping of names to joints")  # type: ignore[type-abstract]
        joints = tuple(check_instance("joints", joint, str, "names of joints") for joint in self.joints)
        if not joints:
            raise ValueError("`joints` must name at least one joint; got none")
        repeated = {joint for joint in joints if joints.count(joint) > 1}
        if repeated:
            raise ValueError(f"`joints` must be different names; got {sorted(repeated)} more than once")
        object.__setattr__(self, "joints", joints)
        object.__setattr__(self, "pairs", tuple(self._pair("pairs", pair) for pair in self.pairs))
        object.__setattr__(self, "edges", tuple(self._pair("edges", edge) for edge in self.edges))
        paired = [joint for pair in self.pairs for joint in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f"`pairs` must hold each joint at most once; got {shown(self.pairs)}")
        if self.sigmas is not None:
            sigmas = tuple(check_finite("sigmas", value) for value in self.sigmas)
            if len(sigmas) != len(joints) or min(sigmas) <= 0:
                raise ValueError(f"`sigmas` must be {len(joints)} positive numbers; got {shown(sigmas)}")
            object.__setattr__(self, "sigmas", sigmas)
        groups = {name: tuple(self.index(joint) for joint in part) for name, part in self.groups.items()}
        object.__setattr__(self, "groups", groups)

    def __hash__(self) -> int:
        """Hash by name and joints (the groups are a dict)."""
        return hash((self.name, self.joints, self.pairs, self.edges, self.sigmas))

    def __len__(self) -> int:
        """Return the number of joints."""
        return len(self.joints)

    def _pair(self, name: str, pair: object) -> tuple[int, int]:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise TypeError(f"`{name}` must be pairs of joints; got {shown(pair)}")
        first, second = (self.index(joint) for joint in pair)
        if first == second:
            raise ValueError(f"`{name}` must join different joints; got {shown(pair)}")
        return first, second

    def index(self, joint: str | int) -> int:
        """Return the index of a joint given by name or index.

        Parameters
        ----------
        joint : str or int
            Name or index.

        Returns
        -------
        int
            From 0.

        Raises
        ------
        ValueError
            If there is no such joint.
        """
        if isinstance(joint, str):
            if joint not in self.joints:
                raise ValueError(f"{shown(joint)} is no joint of {self.name!r}; it has {', '.join(self.joints)}")
            return self.joints.index(joint)
        return check_integer("joint", joint, minimum=0, maximum=len(self.joints) - 1)

    @cached_property
    def flip(self) -> tuple[int, ...]:
        """For each joint the one that it becomes in a mirror."""
        order = list(range(len(self.joints)))
        for first, second in self._indices(self.pairs):
            order[first], order[second] = second, first
        return tuple(order)

    @property
    def lines(self) -> tuple[tuple[int, int], ...]:
        """The edges as indices."""
        return self._indices(self.edges)

    @staticmethod
    def _indices(pairs: Sequence[tuple[str | int, str | int]]) -> tuple[tuple[int, int], ...]:
        return tuple((int(a), int(b)) for a, b in pairs)  # names became indices on construction

    @property
    def has_sides(self) -> bool:
        """Whether names hold left and right."""
        return bool(sided_names(self.joints))

    @property
    def can_flip(self) -> bool:
        """Whether mirroring a picture keeps its labels right: every joint whose name speaks of a side is in a pair."""
        return not self._unpaired()

    def _unpaired(self) -> list[str]:
        paired = {joint for pair in self._indices(self.pairs) for joint in pair}
        return [name for name in sided_names(self.joints) if self.index(name) not in paired]

    def check_flip(self) -> tuple[int, ...]:
        """Return `flip`, or refuse where a name holds left or right but the joint is in no pair.

        Returns
        -------
        tuple of int
            For each joint the one that it becomes in a mirror.

        Raises
        ------
        ValueError
            If mirroring would call left right.
        """
        unpaired = self._unpaired()
        if unpaired:
            raise ValueError(
                f"`skeleton` {self.name!r} names left and right joints that are not in its `pairs`, "
                f"{shown(', '.join(unpaired))}: a mirrored picture would be labelled wrongly; "
                "give the pairs or don't flip"
            )
        return self.flip

    @property
    def config(self) -> dict[str, object]:
        """The arguments that build this skeleton again, in plain JSON types."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "pairs": [list(pair) for pair in self.pairs],
            "edges": [list(edge) for edge in self.edges],
            "sigmas": None if self.sigmas is None else list(self.sigmas),
            "groups": {name: list(part) for name, part in self.groups.items()},
        }
