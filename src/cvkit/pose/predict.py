"""A trained landmark network with all that belongs to it: one frozen record that predicts in a photograph's pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from cvkit import geometry, weights
from cvkit._checks import check_instance, check_integer, shown
from cvkit._errors import WeightsError
from cvkit.io import load_image
from cvkit.pose.codecs import (
    Codec,
    GaussianCodec,
    IntegralCodec,
    OneHotCodec,
    SimCCCodec,
    SimCCHead,
    SoftmaxCodec,
    UDPCodec,
)
from cvkit.pose.hourglass import StackedHourglass, fold_batch_norm
from cvkit.pose.preprocess import Preprocess
from cvkit.pose.skeleton import Skeleton

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cvkit._types import Array, ArrayLike, Image, StrPath

__all__ = ["Estimator", "Prediction"]

CODECS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (GaussianCodec, UDPCodec, IntegralCodec, SimCCCodec, OneHotCodec, SoftmaxCodec)
}
"""Codecs that a file may name."""


class Prediction(NamedTuple):
    """Landmarks in photographs.

    Attributes
    ----------
    keypoints : ndarray of shape (N, J, 2)
        float64 places ``(x, y)`` in each photograph's pixels; NaN where nothing was found.
    scores : ndarray of shape (N, J)
        float64, see the codec; 0 where nothing was found.
    """

    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Estimator:
    """A network, the codec that reads its output, the skeleton, and how its input is prepared.

    Parameters
    ----------
    network : Module
        Gives outputs ``(N, S, ...)`` for preprocessed pictures; the last of S is read.
    codec : Codec
        Its `input_size` is the network's.
    skeleton : Skeleton
        The joints.
    preprocess : Preprocess
        Framing and normalisation.

    Raises
    ------
    ValueError
        If codec and preprocessing disagree on the input size.
    TypeError
        If a part is not of its kind.

    Examples
    --------
    >>> from cvkit import pose
    >>> codec = pose.GaussianCodec((64, 64), (16, 16), sigma=1.0)
    >>> network = pose.StackedHourglass(11, stacks=1, depth=2, features=16)
    >>> estimator = pose.Estimator(network, codec, pose.STICK_FIGURE, pose.Preprocess((64, 64)))
    >>> found = estimator.predict(pose.stick_figures(2, size=(90, 120)).images)
    >>> found.keypoints.shape, found.scores.shape
    ((2, 11, 2), (2, 11))
    """

    network: nn.Module
    codec: Codec
    skeleton: Skeleton
    preprocess: Preprocess

    def __post_init__(self) -> None:
        """Check the fields."""
        check_instance("network", self.network, nn.Module, "a torch module")
        check_instance("codec", self.codec, Codec, "a codec")  # type: ignore[type-abstract]
        check_instance("skeleton", self.skeleton, Skeleton)
        check_instance("preprocess", self.preprocess, Preprocess)
        if tuple(self.codec.input_size) != tuple(self.preprocess.input_size):
            raise ValueError(
                f"`codec` must have the input size of `preprocess`, {self.preprocess.input_size}; "
                f"got {self.codec.input_size}"
            )

    @torch.no_grad()
    def predict(
        self,
        photos: StrPath | Image | Sequence[StrPath | Image],
        *,
        boxes: ArrayLike | Sequence[Sequence[float]] | None = None,
        flip_test: bool = False,
        batch_size: int = 32,
    ) -> Prediction:
        """Find the landmarks in photographs.

        Parameters
        ----------
        photos : path, Pillow image, array, Tensor, or a sequence of these
            One photograph or several: arrays ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``, tensors ``(C, H, W)`` or
            ``(N, C, H, W)``; uint8, uint16 or floats in [0, 1].
        boxes : array of shape (N, 4), optional
            ``(left, top, right, bottom)`` of the object in each photograph, or of N objects in one photograph. By
            default photographs are used whole.
        flip_test : bool, default False
            Average the outputs for each picture and its mirror image.
        batch_size : int, default 32
            Pictures that go through the network at once.

        Returns
        -------
        Prediction
            ``keypoints (N, J, 2)`` in the photographs' pixels and ``scores (N, J)``; N is 1 for a single photograph.

        Raises
        ------
        ImageError
            If a file is no readable picture.
        ValueError
            If boxes don't fit the photographs, or mirroring would mix left and right.
        """
        check_integer("batch_size", batch_size, minimum=1)
        pictures = _listed(photos)
        frames = [None] * len(pictures) if boxes is None else _boxes(boxes)
        if boxes is not None and len(pictures) == 1:
            pictures = [_open(pictures[0])] * len(frames)  # read once, however many objects
        if len(frames) != len(pictures):
            raise ValueError(f"`boxes` must be one a photograph, {len(pictures)}; got {len(frames)}")
        order = self.skeleton.check_flip() if flip_test else None
        parts = [Prediction(np.zeros((0, len(self.skeleton), 2)), np.zeros((0, len(self.skeleton))))]
        with _Evaluating(self.network):
            for start in range(0, len(pictures), batch_size):
                chosen = slice(start, start + batch_size)
                parts.append(self._predict(pictures[chosen], frames[chosen], order))
        return Prediction(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _predict(self, photos: Sequence[Any], boxes: Sequence[Any], order: tuple[int, ...] | None) -> Prediction:
        framed = [self.preprocess.frame(_open(photo), box) for photo, box in zip(photos, boxes, strict=True)]
        parameter = next(self.network.parameters(), torch.zeros(()))
        images = torch.cat([frame.tensor for frame in framed]).to(parameter.device)
        images = self.preprocess.normalize(images).to(parameter.dtype)
        outputs = self._outputs(images, order)
        found = self.codec.decode(outputs.float() if outputs.dtype != torch.float64 else outputs)
        back = np.stack([frame.to_photo for frame in framed])
        keypoints = geometry.transform_points(back, found.keypoints.double().cpu().numpy())
        return Prediction(keypoints, found.scores.double().cpu().numpy())

    def _outputs(self, images: Tensor, order: tuple[int, ...] | None) -> Tensor:
        """Return the last stack's output, averaged with that of the mirror images if there is an order of joints."""
        batch = images if order is None else torch.cat((images, geometry.flip(images)))
        plain = isinstance(self.network, StackedHourglass)
        outputs = cast("Tensor", self.network(batch, last_only=True) if plain else self.network(batch))[:, -1]
        if order is None:
            return outputs
        straight, mirrored = outputs.chunk(2)
        return (straight + self.codec.mirror(mirrored, order)) / 2

    @property
    def config(self) -> dict[str, Any]:
        """All but the weights, in plain JSON types."""
        codec: dict[str, Any] = asdict(cast("Any", self.codec)) if hasattr(self.codec, "__dataclass_fields__") else {}
        config = {
            "network": _network_config(self.network),
            "codec": {"kind": type(self.codec).__name__, **codec},
            "skeleton": self.skeleton.config,
            "preprocess": self.preprocess.config,
        }
        return cast("dict[str, Any]", json.loads(json.dumps(config)))  # tuples become lists, as they will in a file

    def save(self, path: StrPath) -> None:
        """Write the estimator to one safetensors file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            The file, usually ``.safetensors``.

        Raises
        ------
        WeightsError
            If it cannot be written.
        """
        state = {name: value for name, value in self.network.state_dict().items() if isinstance(value, Tensor)}
        weights.save_tensors(path, state, metadata={"estimator": json.dumps(self.config)})

    @classmethod
    def load(cls, path: StrPath, *, network: nn.Module | None = None, device: torch.device | str = "cpu") -> Estimator:
        """Read an estimator: a file that `save` wrote, a checkpoint, or the folder of a run (its newest one).

        Parameters
        ----------
        path : str or path-like
            File or folder.
        network : Module, optional
            Needed if the network is one of your own: built as it was, its weights are replaced.
        device : torch.device or str, default "cpu"
            Where the network goes.

        Returns
        -------
        Estimator
            In eval mode.

        Raises
        ------
        CheckpointError, WeightsError
            If something is missing, damaged, or no estimator.
        """
        place = Path(path)
        if place.is_dir():
            from cvkit import training

            document = training.read_document(place, "meta")
            config = document.get("estimator") if isinstance(document, Mapping) else None
            averaged = isinstance(document, Mapping) and document.get("averaged") is True
            tensors = training.read_tensors(place, "averages.network" if averaged else "modules.network")
        else:
            tensors = weights.load_tensors(place)
            try:
                config = json.loads(weights.load_metadata(place).get("estimator", "null"))
            except ValueError as error:
                raise WeightsError(f"{place}: its description is no JSON ({error})") from error
        if not isinstance(config, Mapping):
            raise WeightsError(f"{place}: holds no estimator")
        return _built(place, config, tensors, network, device)


def _built(
    place: Path,
    config: Mapping[str, Any],
    tensors: dict[str, Tensor],
    network: nn.Module | None,
    device: torch.device | str,
) -> Estimator:
    """Put an estimator together from what a file says; one error that names the file if it doesn't fit."""
    try:
        codec_config = dict(config["codec"])
        kind = codec_config.pop("kind")
        if kind not in CODECS:
            raise ValueError(f"unknown codec {shown(kind)}")
        codec = CODECS[kind](**codec_config)
        skeleton, preprocess = Skeleton(**config["skeleton"]), Preprocess(**config["preprocess"])
        if network is None:
            network = _fitting(config["network"], codec, tensors)
            network.load_state_dict(tensors, assign=True)  # in the dtypes and memory formats of the file
        else:
            network.load_state_dict(tensors)
        return Estimator(network.to(device).eval(), codec, skeleton, preprocess)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{place}: does not hold a fitting estimator ({error})") from error


def _fitting(config: Mapping[str, Any], codec: Codec, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the network that a file describes, without weights and without asking for their memory.

    A file may say anything: thousands of millions of stacks, of which it holds none.
    """
    inner = config["network"] if isinstance(config.get("network"), Mapping) else config
    for name in ("stacks", "blocks"):
        if check_integer(name, inner.get(name, 1)) > len(tensors):
            raise ValueError(f"its network has {inner[name]} {name}, the file {len(tensors)} tensors")
    with torch.device("meta"):
        network = _network(config, codec)
    wanted = {name: _kind(value) for name, value in network.state_dict().items()}
    held = {name: _kind(value) for name, value in tensors.items()}
    wrong = sorted(name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(f"{name} should be {wanted.get(name, 'absent')} and is {held.get(name, 'absent')}")
    return network


def _kind(tensor: Tensor) -> str:
    return f"{'floating' if tensor.is_floating_point() else tensor.dtype} {tuple(tensor.shape)}"


def _network_config(network: nn.Module) -> dict[str, Any]:
    if isinstance(network, StackedHourglass):
        return {"kind": "StackedHourglass", **_hourglass_config(network)}
    if isinstance(network, SimCCHead) and isinstance(network.network, StackedHourglass):
        inner = _hourglass_config(network.network)
        return {"kind": "SimCCHead", "network": inner, "heatmap_size": list(network.heatmap_size)}
    return {"kind": type(network).__name__}


def _hourglass_config(network: StackedHourglass) -> dict[str, Any]:
    folded = isinstance(network.bn1, nn.Identity)
    return {**network.config, "folded": True} if folded else dict(network.config)


def _hourglass(config: Mapping[str, Any]) -> StackedHourglass:
    network = StackedHourglass(**{name: value for name, value in config.items() if name != "folded"})
    return fold_batch_norm(network) if config.get("folded") else network


def _network(config: Mapping[str, Any], codec: Codec) -> nn.Module:
    options = {name: value for name, value in config.items() if name != "kind"}
    if config["kind"] == "StackedHourglass":
        return _hourglass(options)
    if config["kind"] == "SimCCHead" and isinstance(codec, SimCCCodec):
        return SimCCHead(_hourglass(options["network"]), codec, options["heatmap_size"])
    raise ValueError(f"its network is a {config['kind']}; pass one as `network`")


class _Evaluating:
    """Run modules in eval mode and bring each one back to its own mode."""

    def __init__(self, network: nn.Module) -> None:
        self.modes = [(module, module.training) for module in network.modules()]

    def __enter__(self) -> None:
        for module, _ in self.modes:
            module.training = False

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode


def _listed(photos: StrPath | Image | Sequence[StrPath | Image]) -> list[Any]:
    """Return photographs one by one."""
    if isinstance(photos, np.ndarray | Tensor):
        return list(photos) if photos.ndim == 4 else [photos]
    if isinstance(photos, str | bytes) or hasattr(photos, "__fspath__") or not isinstance(photos, Iterable):
        return [photos]
    return list(photos)


def _open(photo: Any) -> Any:
    return load_image(photo, mode="RGB") if isinstance(photo, str) or hasattr(photo, "__fspath__") else photo


def _boxes(boxes: ArrayLike | Sequence[Sequence[float]]) -> list[Array]:
    array = np.asarray(boxes.detach().cpu() if isinstance(boxes, Tensor) else boxes, np.float64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"`boxes` must be (N, 4); got {shown(array)}")
    return list(array)
