"""Sampling: a frozen record of a generator and what its labels mean."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvkit._checks import check_instance, check_integer, check_interval, shown
from cvkit._errors import WeightsError
from cvkit.gan.class_labels import class_indices
from cvkit.gan.latents import slerp, truncated_normal
from cvkit.gan.nets.generator import Generator, at_least_float32
from cvkit.gan.presets import Preset
from cvkit.gan.ranges import to_uint8
from cvkit.training import find_checkpoint, read_document, read_tensors
from cvkit.weights import load_metadata, load_tensors, save_tensors

if TYPE_CHECKING:
    from cvkit._types import StrPath
    from cvkit.gan.class_labels import Labels

__all__ = ["Sampler"]

_FORMAT = "cvkit.gan.sampler"
_VERSION = 1
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Sampler:
    """A generator with its class names: what draws images.

    Parameters
    ----------
    network : torch.nn.Module
        From latents (N, latent_size) and labels (N,) to images (N, C, H, W) in [-1, 1]: `Generator`, or your own.
    names : sequence of str
        The class names.
    latent_size : int
        Length of a latent vector.
    preset : Preset or None, default None
        The recipe it was trained by.

    Examples
    --------
    >>> import torch
    >>> from cvkit.gan import Generator
    >>> sampler = Sampler(Generator(classes=2, width=4), ["cat", "apple"], latent_size=64)
    >>> sampler.sample(["apple", "cat"], n=3).shape
    torch.Size([6, 1, 28, 28])
    """

    network: nn.Module
    names: tuple[str, ...]
    latent_size: int
    preset: Preset | None = None

    def __post_init__(self) -> None:
        check_instance("network", self.network, nn.Module)
        names = tuple(str(name) for name in self.names)
        if not names or len(set(names)) != len(names):
            raise ValueError(f"`names` must hold at least one name, each once; got {shown(names)}")
        classes = getattr(self.network, "classes", len(names))
        if classes != len(names):
            raise ValueError(f"`names` must hold a name for each of the network's {classes} classes; got {len(names)}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "latent_size", check_integer("latent_size", self.latent_size, minimum=1))
        if self.preset is not None:
            check_instance("preset", self.preset, Preset)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    def indices(self, labels: Labels) -> torch.Tensor:
        """Return labels or class names as class indices.

        Parameters
        ----------
        labels : int, str, sequence of either, or array or Tensor of shape (K,)
            Class indices of any integer dtype, or class names.

        Returns
        -------
        Tensor of shape (K,)
            int64, on the CPU.

        Raises
        ------
        TypeError
            If a label is neither an integer nor a string.
        ValueError
            If a label is outside 0..K-1 or a name is unknown.
        """
        return class_indices(labels, self.names)

    def latents(
        self, count: int, *, truncation: float | None = None, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw latent vectors.

        Parameters
        ----------
        count : int
            Number of vectors.
        truncation : float or None, default None
            Cut the normal distribution off at plus and minus this value. Below about 2, samples get more typical and
            less different; say so where you report measures.
        generator : torch.Generator or None, default None
            Where the numbers come from; None means a new one with seed 0. A generator that is passed advances.

        Returns
        -------
        Tensor of shape (count, latent_size)
            float32, on the network's device.
        """
        count = check_integer("count", count, minimum=0)
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        shape = (count, self.latent_size)
        if truncation is not None:
            truncation = check_interval("truncation", truncation, 0.0, low_open=True)
            return truncated_normal(shape, truncation, generator=generator, device=self.device)
        return torch.randn(shape, generator=generator, device=generator.device).to(self.device)

    def sample(
        self,
        labels: Labels,
        n: int = 1,
        *,
        truncation: float | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Draw `n` images of each class asked for, in the order asked for.

        Parameters
        ----------
        labels : int, str, sequence of either, or array or Tensor of shape (K,)
            Class indices or class names; a class may occur more than once.
        n : int, default 1
            Images a label.
        truncation : float or None, default None
            See `latents`.
        generator : torch.Generator or None, default None
            See `latents`. The same call with the same seed gives the same bytes.

        Returns
        -------
        Tensor of shape (K * n, C, H, W)
            uint8, on the network's device: `n` images of the first label, then `n` of the second, and so on.

        Raises
        ------
        TypeError, ValueError
            For a label that isn't a class.

        Examples
        --------
        >>> import torch
        >>> from cvkit.gan import Generator
        >>> sampler = Sampler(Generator(classes=2, width=4), ["cat", "apple"], latent_size=64)
        >>> again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
        >>> torch.equal(sampler.sample("cat", 2, generator=again[0]), sampler.sample(0, 2, generator=again[1]))
        True
        """
        n = check_integer("n", n, minimum=0)
        asked = self.indices(labels).repeat_interleave(n)
        latents = self.latents(len(asked), truncation=truncation, generator=generator)
        return self.decode(latents, asked)

    def decode(self, latents: torch.Tensor, labels: Labels) -> torch.Tensor:
        """Draw the images that belong to given latent vectors.

        The network runs in eval mode for the call, without gradient, a fixed number of images at a time.

        Parameters
        ----------
        latents : Tensor of shape (N, latent_size)
            Latent vectors.
        labels : int, str, sequence of either, or array or Tensor of shape (N,)
            A class for each of them, or one class for all.

        Returns
        -------
        Tensor of shape (N, C, H, W)
            uint8, on the network's device.
        """
        check_instance("latents", latents, torch.Tensor)
        if latents.ndim != 2 or latents.shape[1] != self.latent_size:
            raise ValueError(f"`latents` must have shape (N, {self.latent_size}); got {shown(latents)}")
        asked = self.indices(labels)
        if len(asked) == 1:
            asked = asked.expand(len(latents))
        if len(asked) != len(latents):
            raise ValueError(f"`labels` must hold one class, or {len(latents)}; got {len(asked)}")
        asked = asked.to(self.device)
        latents = latents.to(self.device, torch.float32)
        with evaluating(self.network), torch.no_grad():
            # One chunk at least: an empty request has a shape too.
            starts = range(0, max(len(latents), 1), _CHUNK)
            parts = [to_uint8(self.network(latents[i : i + _CHUNK], asked[i : i + _CHUNK])) for i in starts]
        return torch.cat(parts)

    def interpolate(
        self,
        start: int | str,
        end: int | str,
        steps: int = 8,
        *,
        n: int = 1,
        truncation: float | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Walk from one drawing to another, along the sphere where latents lie.

        Latents are interpolated spherically: on a straight line they would be shorter in the middle than
        any that the network was trained on. Between two classes the first half keeps the first class.

        Parameters
        ----------
        start, end : int or str
            Class at the beginning and at the end.
        steps : int, default 8
            Images a walk, both ends included; at least 2.
        n : int, default 1
            Number of walks.
        truncation, generator
            See `latents`.

        Returns
        -------
        Tensor of shape (n * steps, C, H, W)
            uint8: the first walk, then the second, and so on.

        References
        ----------
        White, "Sampling Generative Networks", 2016, arXiv:1609.04468, section 2.1.

        Examples
        --------
        >>> from cvkit.gan import Generator
        >>> sampler = Sampler(Generator(classes=2, width=4), ["cat", "apple"], latent_size=64)
        >>> sampler.interpolate("cat", "apple", steps=5).shape
        torch.Size([5, 1, 28, 28])
        """
        steps = check_integer("steps", steps, minimum=2)
        n = check_integer("n", n, minimum=0)
        first, last = (int(self.indices(label)[0]) for label in (start, end))
        ends = self.latents(2 * n, truncation=truncation, generator=generator)
        share = torch.linspace(0.0, 1.0, steps, device=ends.device)
        walks = slerp(ends[:n, None], ends[n:, None], share[None, :, None])
        labels = torch.where(share < 0.5, first, last).repeat(n)
        return self.decode(walks.reshape(n * steps, self.latent_size), labels)

    def calibrated(self, frequencies: Sequence[float] | None = None, *, images: int = 2048) -> Sampler:
        """Return a sampler whose batch norm has the statistics of what this generator itself draws.

        An averaged generator carries the running statistics of the live one, which has other weights: its blank paper
        comes out grey and its drawings too much alike. `fit` and `load` from a run call this; call it after
        changing weights by hand.

        Parameters
        ----------
        frequencies : sequence of float, optional
            How often each class occurs, in any unit, as the statistics mix the classes; by default equally often.
        images : int, default 2048
            Images to measure on, at least 256. They are drawn with a fixed seed.

        Returns
        -------
        Sampler
            With a copy of the network, in eval mode; with the same network if there is no batch norm in it.

        References
        ----------
        Brock et al., 2019, arXiv:1809.11096, section 2 and appendix F ("standing statistics").
        """
        images = check_integer("images", images, minimum=_CHUNK)
        weights = torch.ones(len(self.names)) if frequencies is None else torch.as_tensor(frequencies).double()
        if weights.shape != (len(self.names),) or not bool((weights >= 0).all()) or not float(weights.sum()) > 0:
            raise ValueError(f"`frequencies` must be a number >= 0 for each of {len(self.names)} classes, not all 0")
        network = copy.deepcopy(self.network).eval()
        norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        if not norms:
            return self
        momenta = [norm.momentum for norm in norms]
        generator = torch.Generator().manual_seed(0)
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None  # the plain mean over all batches
        with torch.no_grad():
            for _ in range(images // _CHUNK):
                labels = torch.multinomial(weights, _CHUNK, replacement=True, generator=generator)
                network(self.latents(_CHUNK, generator=generator), labels.to(self.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return replace(self, network=network.eval())

    def describe(self) -> dict[str, Any]:
        """Return what a file has to hold beside the tensors, as JSON values.

        Raises
        ------
        TypeError
            If the network is not a `Generator`: its class could not be rebuilt from data alone.
        """
        network = check_instance("network", self.network, Generator, "a Generator, to be stored")
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "generator": network.settings(),
            "names": list(self.names),
            "latent_size": self.latent_size,
            "preset": None if self.preset is None else self.preset.to_dict(),
        }

    @staticmethod
    def rebuild(description: object, tensors: Mapping[str, torch.Tensor], *, source: str) -> Sampler:
        """Return the sampler that `describe` and the network's ``state_dict`` stand for.

        Parameters
        ----------
        description : mapping
            From `describe`; it may come from a foreign file and is checked.
        tensors : mapping of str to Tensor
            The network's ``state_dict()``.
        source : str
            Name of the file, for errors.

        Raises
        ------
        WeightsError
            If the description is of another kind or version, or the tensors don't fit it.
        """
        if not isinstance(description, Mapping) or description.get("format") != _FORMAT:
            raise WeightsError(f"{source}: holds no sampler of cvkit.gan")
        if description.get("version") != _VERSION:
            raise WeightsError(f"{source}: version {description.get('version')!r}; this cvkit reads version {_VERSION}")
        try:
            recipe = description["preset"]
            preset = None if recipe is None else Preset.from_dict(recipe)
            # Without memory first: a foreign description could ask for any amount.
            with torch.device("meta"):
                network = Generator(**description["generator"])
            sampler = Sampler(network, tuple(description["names"]), description["latent_size"], preset)
            tensors = {name: at_least_float32(value) for name, value in tensors.items()}
            _check_fit(network, tensors)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WeightsError(f"{source}: {error}") from error
        network.load_state_dict(tensors, assign=True)
        network.eval().requires_grad_(False)
        return sampler

    def save(self, path: StrPath, *, half: bool = False) -> None:
        """Store the sampler in one file: safetensors with the description beside the tensors.

        Parameters
        ----------
        path : str or path-like
            Where to; by convention the name ends in ``.safetensors``.
        half : bool, default False
            Round weights to float16: half the size, and samples that differ by a grey level here and there. They are
            float32 again once loaded.

        Raises
        ------
        TypeError
            If the network is not a `Generator`.
        WeightsError
            If the file can't be written. An older file stays as it was then.
        """
        tensors: dict[str, torch.Tensor] = self.network.state_dict()
        if half:
            tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        save_tensors(path, tensors, metadata={"sampler": json.dumps(self.describe())})

    @staticmethod
    def load(path: StrPath) -> Sampler:
        """Return the sampler of a file, of a checkpoint, or of the newest checkpoint of a run.

        Parameters
        ----------
        path : str or path-like
            A file from `save`, a folder ``step-...``, or the folder of a run.

        Returns
        -------
        Sampler
            On the CPU, in eval mode.

        Raises
        ------
        WeightsError, CheckpointError
            If nothing is there, or it is damaged or of another kind. The message names the file.
        """
        path = Path(path)
        if path.is_dir():
            checkpoint = find_checkpoint(path)
            description = read_document(checkpoint, "meta")
            tensors = read_tensors(checkpoint, "averages.generator")
            sampler = Sampler.rebuild(description, tensors, source=str(checkpoint))
            try:
                return sampler.calibrated(description.get("class_counts"))
            except (TypeError, ValueError) as error:
                raise WeightsError(f"{checkpoint}: {error}") from error
        tensors = load_tensors(path)
        try:
            description = json.loads(load_metadata(path).get("sampler", "null"))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path}: damaged description: {error}") from error
        return Sampler.rebuild(description, tensors, source=str(path))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module into eval mode and give each its own mode back."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check_fit(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    own = network.state_dict()
    if own.keys() != tensors.keys():
        odd = ", ".join(sorted(own.keys() ^ tensors.keys())[:5])
        raise ValueError(f"tensors of another network; names that differ: {odd}")
    for name, value in own.items():
        if value.shape != tensors[name].shape or value.dtype != tensors[name].dtype:
            expected = f"shape {tuple(value.shape)} and dtype {value.dtype}"
            raise ValueError(f"tensor {name!r} must have {expected}; got {shown(tensors[name])}")
