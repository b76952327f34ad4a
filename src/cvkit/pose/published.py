"""Published hourglass weights, in both layouts and with whatever prefixes they were saved, as estimators."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from cvkit import weights
from cvkit._checks import check_instance, shown
from cvkit._errors import WeightsError
from cvkit.pose.codecs import GaussianCodec
from cvkit.pose.hourglass import StackedHourglass, Stem, reset_convolution
from cvkit.pose.predict import Estimator
from cvkit.pose.preprocess import Preprocess
from cvkit.pose.skeleton import Skeleton
from cvkit.pose.skeletons import MPII

if TYPE_CHECKING:
    from cvkit._types import StrPath

__all__ = ["load_published"]

logger = logging.getLogger(__name__)

_PREFIXES = ("model.module.", "module.", "model.", "_orig_mod.")
# Layout "bearpaw" subtracts this mean; the deviation that its programs hand around is never divided by.
_MEANS: dict[Stem, tuple[float, float, float]] = {"bearpaw": (0.4404, 0.4440, 0.4327), "newell": (0.0, 0.0, 0.0)}


def load_published(
    source: StrPath | Mapping[str, object],
    *,
    skeleton: Skeleton | None = None,
    sha256: str | None = None,
    generator: torch.Generator | None = None,
) -> Estimator:
    """Load published weights of a stacked hourglass.

    Both layouts are known by their names: ``"bearpaw"`` (``layer1.0.conv1.weight``, ``hg.0.hg.0...``) and ``"newell"``
    (``pre.0.conv.weight``, ``hgs.0.0.up1...``), with the prefixes that training on several devices leaves. Number of
    stacks, depth, features, blocks and joints are read from the tensors. What belongs to the weights comes with them:
    the first layout subtracts a mean and does not divide, the second takes pictures in [0, 1] as they are.

    Parameters
    ----------
    source : path or mapping of str to Tensor
        A ``.safetensors`` file, a PyTorch file (read without running code in it), or the state dict itself; a dict that
        holds it as ``"state_dict"`` will do.
    skeleton : Skeleton, optional
        By default MPII's for 16 joints, else numbered points. If it has another number of joints than the weights, the
        layers that give and read heatmaps are made anew, ready for fine-tuning.
    sha256 : str, optional
        The file's SHA-256 in hexadecimal digits or its beginning, at least eight of them, as the names of several
        published files have it (``...-15e342d9.pth``): another file is refused before it is read.
    generator : torch.Generator, optional
        Source of those new weights; by default a fresh one with seed 0.

    Returns
    -------
    Estimator
        In eval mode, for input of 256 x 256. Its ``network`` gives all stacks, ``(N, S, J, H/4, W/4)``, for
        preprocessed input.

    Raises
    ------
    WeightsError
        If the file is missing or damaged, is another one than `sha256` says, or its tensors are no stacked hourglass;
        says which don't fit.
    ValueError
        If `sha256` is no beginning of a hash.
    TypeError
        If `sha256` is given and `source` is no file.

    Notes
    -----
    The second layout stores a projection in every residual, used or not. Those that are never used are dropped, and the
    logger ``cvkit.pose.published`` says how many numbers went.

    References
    ----------
    .. [1] A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016.

    Examples
    --------
    >>> from cvkit.pose import StackedHourglass, load_published
    >>> state = StackedHourglass(16, stacks=1, features=16).state_dict()
    >>> estimator = load_published({"state_dict": {f"module.{name}": value for name, value in state.items()}})
    >>> estimator.skeleton.name, estimator.network.stacks, estimator.preprocess.mean
    ('mpii', 1, (0.4404, 0.444, 0.4327))
    """
    name = "the state dict" if isinstance(source, Mapping) else str(source)
    if sha256 is not None:
        _check_hash(source, sha256)
    tensors = _strip(_tensors(name, source if isinstance(source, Mapping) else _read(source)))
    if any(key.startswith("pre.") for key in tensors):
        tensors = _from_newell(name, tensors)
    network = _fitting(name, tensors)
    joints = network.joints if skeleton is None else len(skeleton)
    if skeleton is None:
        skeleton = MPII if joints == len(MPII) else Skeleton("published", [f"point {i}" for i in range(joints)])
    if joints != network.joints:
        network = _with_joints(network, joints, generator)
    preprocess = Preprocess((256, 256), mean=_MEANS[network.stem])
    return Estimator(network.eval(), GaussianCodec((256, 256), (64, 64), sigma=1.0), skeleton, preprocess)


def _check_hash(source: object, sha256: str) -> None:
    """Refuse a file whose SHA-256 begins otherwise."""
    wanted = check_instance("sha256", sha256, str, "a string of hexadecimal digits").lower()
    if not re.fullmatch(r"[0-9a-f]{8,64}", wanted):
        raise ValueError(f"`sha256` must be 8 to 64 hexadecimal digits; got {shown(sha256)}")
    if isinstance(source, Mapping):
        raise TypeError("`sha256` needs a file as `source`; got a state dict")
    found = weights.sha256(cast("StrPath", source))
    if not found.startswith(wanted):
        raise WeightsError(f"{source}: is another file than expected; its SHA-256 is {found}, not {wanted}")


def _read(path: StrPath) -> object:
    return weights.load_tensors(path) if Path(path).suffix == ".safetensors" else weights.import_torch(path)


def _tensors(name: str, state: object) -> dict[str, Tensor]:
    """Return the state dict that an object is or holds."""
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{name}: must be a state dict; got {shown(state)}")
    wrong = [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if wrong:
        raise WeightsError(f"{name}: must hold tensors alone; {shown(wrong[0])} is none")
    for key, value in state.items():
        number = value.is_floating_point() or key.endswith("num_batches_tracked")
        if value.layout != torch.strided or value.is_meta or not number:
            raise WeightsError(f"{name}: must hold plain floating tensors; {key} is of {value.dtype}, {value.layout}")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():  # a few bytes that pose as many
            raise WeightsError(f"{name}: {key} has {value.numel()} numbers in less memory than they need")
    return dict(state)


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix that all names share, if it is one of those that wrappers leave."""
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            return _strip({key[len(prefix) :]: value for key, value in tensors.items()})
    return tensors


def _from_newell(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the second layout's tensors to the first one's and drop projections that are never used."""
    renamed, dead = {}, {}
    depth = max(key.count("low2.") for key in tensors)
    for key, value in tensors.items():
        new = _newell_name(key, depth)
        if new is None:
            raise WeightsError(f"{name}: unknown tensor {key}")
        renamed[new] = value
    for key in [key for key in renamed if key.endswith(".downsample.0.weight")]:
        if renamed[key].shape[0] == renamed[key].shape[1]:
            for part in (key, key.removesuffix("weight") + "bias"):
                if part in renamed:
                    dead[part] = renamed.pop(part)
    if dead:
        count = sum(value.numel() for value in dead.values())
        logger.info("%s: dropped %d tensors (%d numbers) of projections that are never used", name, len(dead), count)
    return renamed


_HEADS = (
    (r"pre\.0\.conv\.", "conv1."),
    (r"pre\.0\.bn\.", "bn1."),
    (r"pre\.1\.", "layer1.0."),
    (r"pre\.3\.", "layer2.0."),
    (r"pre\.4\.", "layer3.0."),
    (r"features\.(\d+)\.0\.", r"res.\1.0."),
    (r"features\.(\d+)\.1\.conv\.", r"fc.\1.0."),
    (r"features\.(\d+)\.1\.bn\.", r"fc.\1.1."),
    (r"outs\.(\d+)\.conv\.", r"score.\1."),
    (r"merge_features\.(\d+)\.conv\.conv\.", r"fc_.\1."),
    (r"merge_preds\.(\d+)\.conv\.conv\.", r"score_.\1."),
)
_RESIDUAL = re.compile(r"(bn[123]|conv[123]\.conv|skip_layer\.conv)\.(\w+)")


def _newell_name(key: str, depth: int) -> str | None:
    """Return the first layout's name of a tensor, None if it is not known."""
    inside = re.fullmatch(r"hgs\.(\d+)\.0\.((?:low2\.)*)(?:(up1|low1|low3)\.)?(.*)", key)
    if inside:
        stack, nested, place, rest = inside.groups()
        below = nested.count("low2.")
        if place is None:  # the innermost residual is the last low2 itself
            below, place = below - 1, "low2"
        level = depth - 1 - below
        if level < 0 or (place == "low2" and level):
            return None
        branch = {"up1": 0, "low1": 1, "low3": 2, "low2": 3}[place]
        head = f"hg.{stack}.hg.{level}.{branch}.0."
        return _residual_name(head, rest)
    for pattern, new in _HEADS:
        found = re.match(pattern, key)
        if found:
            head, rest = found.expand(new), key[found.end() :]
            plain = "." not in rest
            return head + rest if plain else _residual_name(head, rest)
    return None


def _residual_name(head: str, rest: str) -> str | None:
    found = _RESIDUAL.fullmatch(rest)
    if not found:
        return None
    layer = found[1].removesuffix(".conv")
    return f"{head}{'downsample.0' if layer == 'skip_layer' else layer}.{found[2]}"


def _fitting(name: str, tensors: dict[str, Tensor]) -> StackedHourglass:
    """Return the network that the tensors belong to, with them in it."""
    needed = ("conv1.weight", "fc.0.0.weight", "score.0.weight", "layer2.0.conv3.weight")
    missing = [key for key in needed if key not in tensors]
    if missing:
        raise WeightsError(f"{name}: is no stacked hourglass; it lacks {', '.join(missing)}")
    shapes = {key: tuple(tensors[key].shape) for key in needed}
    flat = [key for key, shape in shapes.items() if len(shape) != 4]
    if flat:
        raise WeightsError(f"{name}: is no stacked hourglass; {flat[0]} has shape {shapes[flat[0]]}")
    features = shapes["fc.0.0.weight"][0]
    stem: Stem = "bearpaw" if shapes["layer2.0.conv3.weight"][0] == features else "newell"
    try:
        with torch.device("meta"):  # memory is asked for once the tensors are known to fit
            network = StackedHourglass(
                shapes["score.0.weight"][0],
                stacks=_count(tensors, r"score\.(\d+)\.weight"),
                depth=_count(tensors, r"hg\.0\.hg\.(\d+)\.0\.0\.bn1\.weight"),
                features=features,
                blocks=_count(tensors, r"res\.0\.(\d+)\.bn1\.weight"),
                channels=shapes["conv1.weight"][1],
                stem=stem,
            )
    except ValueError as error:
        raise WeightsError(f"{name}: is no stacked hourglass ({error})") from error
    own = network.state_dict()
    for key in own:  # older files have no counters
        if key.endswith("num_batches_tracked") and key not in tensors:
            tensors[key] = torch.zeros((), dtype=torch.int64)
    absent, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    wrong = [key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape]
    for what, keys in (("lacks", absent), ("has unknown tensors", unknown), ("has tensors of another shape", wrong)):
        if keys:
            raise WeightsError(f"{name}: {what}: {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}")
    network.to_empty(device=torch.get_default_device())
    network.load_state_dict({key: tensors[key] for key in own})
    return network


def _count(tensors: dict[str, Tensor], pattern: str) -> int:
    """Return how many different numbers the names hold at a place, at least 1."""
    return max(1, len({found[1] for key in tensors if (found := re.fullmatch(pattern, key))}))


def _with_joints(network: StackedHourglass, joints: int, generator: torch.Generator | None) -> StackedHourglass:
    """Return a network with another number of heatmaps that shares nothing with the old one: only its heads are new."""
    config = {**network.config, "joints": joints}
    changed = StackedHourglass(**config)  # type: ignore[arg-type]
    old = network.state_dict()
    fresh = {key: value for key, value in old.items() if not re.match(r"score(_\.\d+\.weight|\.)", key)}
    changed.load_state_dict(fresh, strict=False)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    for head in (*changed.score, *changed.score_):
        assert isinstance(head, torch.nn.Conv2d)
        reset_convolution(head, generator)
    return changed
