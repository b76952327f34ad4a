"""A small sketch classifier that judges what is drawn, not how cleanly it is drawn.

A classifier trained on clean drawings only is no judge of labels: faint grey noise that no eye minds makes it fail.
So training degrades most drawings it shows (noise, blur, shift, gaps, thicker lines, low contrast, grey paper), and
`robustness` states what is left of the accuracy under each fault at a fixed strength. How clean a sample is, is
measured apart, in `cvkit.gan.metrics`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvkit._checks import check_instance, check_integer, check_interval, shown
from cvkit._errors import WeightsError
from cvkit.gan.datasets.folder import DataLike, as_image_set
from cvkit.gan.datasets.imageset import ImageSet, _plain
from cvkit.gan.degrade import FAULTS, degrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cvkit._types import Array, ArrayLike, StrPath

__all__ = ["Judge", "SketchClassifier", "robustness", "train_classifier"]

_FORMAT = "cvkit-judge-1"


class SketchClassifier(nn.Module):
    """Five small convolutions, a layer of features, a layer of logits; for images of any size from 8 x 8.

    Parameters
    ----------
    classes : int
        Number of classes K.
    channels : int, default 1
        Channels of the images.
    width : int, default 16
        Channels after the first convolution.
    features : int, default 128
        Length of the feature vector D.
    generator : torch.Generator, optional
        Draws the weights. Default: a fresh one with seed 0.

    Examples
    --------
    >>> import torch
    >>> from cvkit.gan.judge import SketchClassifier
    >>> network = SketchClassifier(9).eval()
    >>> network(torch.zeros(2, 1, 28, 28)).shape, network.features(torch.zeros(2, 1, 28, 28)).shape
    (torch.Size([2, 9]), torch.Size([2, 128]))
    """

    def __init__(
        self,
        classes: int,
        *,
        channels: int = 1,
        width: int = 16,
        features: int = 128,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape = {"classes": classes, "channels": channels, "width": width, "features": features}
        for name, value in self.shape.items():
            check_integer(name, value, minimum=1)
        # Built without storage and filled below: torch's own initialisation would move the global generator.
        with torch.device("meta"):
            self.body = nn.Sequential(
                *_block(channels, width, 1),
                *_block(width, 2 * width, 2),
                *_block(2 * width, 2 * width, 1),
                *_block(2 * width, 4 * width, 2),
                *_block(4 * width, 4 * width, 1),
                nn.AdaptiveAvgPool2d(3),
                nn.Flatten(),
            )
            self.neck = nn.Linear(4 * width * 9, features)
            self.head = nn.Linear(features, classes)
        self.to_empty(device="cpu")
        self._fill(torch.Generator().manual_seed(0) if generator is None else generator)

    def _fill(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def features(self, images: Tensor) -> Tensor:
        """Return what the last layer sees.

        Parameters
        ----------
        images : Tensor of shape (N, C, H, W)
            Floats in [-1, 1], -1 is paper.

        Returns
        -------
        Tensor of shape (N, D)
            Features, not negative.
        """
        hidden: Tensor = self.neck(self.body(images))
        return F.relu(hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Parameters
        ----------
        images : Tensor of shape (N, C, H, W)
            Floats in [-1, 1], -1 is paper.

        Returns
        -------
        Tensor of shape (N, K)
            Logits.
        """
        logits: Tensor = self.head(self.features(images))
        return logits


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained classifier with the names of its classes and where it came from.

    Parameters
    ----------
    network : SketchClassifier
        The classifier.
    names : tuple of str
        The class names, in the order of the logits.
    about : mapping of str to str
        What is known of its making: data, rows, seed, accuracy.

    Examples
    --------
    >>> from cvkit import gan
    >>> data = gan.quickdraw.generate(["sun", "ladder"], 40)
    >>> judge = gan.train_classifier(data, steps=30, batch_size=32)
    >>> judge.features(data.images[:3]).shape
    (3, 128)
    """

    network: SketchClassifier
    names: tuple[str, ...]
    about: Mapping[str, str] = field(default_factory=dict)

    def logits(self, images: ArrayLike, *, batch_size: int = 512) -> Array:
        """Return logits of uint8 images.

        Parameters
        ----------
        images : ndarray or Tensor of shape (N, H, W) or (N, C, H, W)
            uint8.
        batch_size : int, default 512
            Images looked at at once.

        Returns
        -------
        ndarray of shape (N, K)
            float32.
        """
        return self._run(images, self.network.forward, len(self.names), batch_size)

    def features(self, images: ArrayLike, *, batch_size: int = 512) -> Array:
        """Return features of uint8 images, for the distances of `cvkit.gan.metrics`.

        Parameters
        ----------
        images : ndarray or Tensor of shape (N, H, W) or (N, C, H, W)
            uint8.
        batch_size : int, default 512
            Images looked at at once.

        Returns
        -------
        ndarray of shape (N, D)
            float32.
        """
        return self._run(images, self.network.features, self.network.shape["features"], batch_size)

    def predict(self, images: ArrayLike, *, batch_size: int = 512) -> Array:
        """Return the most likely class of each image.

        Parameters
        ----------
        images : ndarray or Tensor of shape (N, H, W) or (N, C, H, W)
            uint8.
        batch_size : int, default 512
            Images looked at at once.

        Returns
        -------
        ndarray of shape (N,)
            Class indices, int64.
        """
        return np.asarray(self.logits(images, batch_size=batch_size).argmax(axis=1))

    def recognized(self, data: DataLike, *, batch_size: int = 512) -> Array:
        """Return which images are taken for what they are labelled.

        Parameters
        ----------
        data : ImageSet, or tuple of images and labels
            Classes are matched by name; a tuple's labels are in the judge's order.
        batch_size : int, default 512
            Images looked at at once.

        Returns
        -------
        ndarray of shape (N,)
            bool; its mean is the accuracy.

        Raises
        ------
        ValueError
            If a class of the set is none of the judge's.
        """
        labelled = self.matched(data)
        return np.asarray(self.predict(labelled.images, batch_size=batch_size) == labelled.labels)

    def matched(self, data: DataLike) -> ImageSet:
        """Return a set with its labels in the judge's order.

        Parameters
        ----------
        data : ImageSet, or tuple of images and labels
            The set.

        Returns
        -------
        ImageSet
            The same images.

        Raises
        ------
        ValueError
            If a class of the set is none of the judge's.
        """
        if isinstance(data, tuple):
            images, labels = data
            return ImageSet(_plain(images), _plain(labels), self.names)
        known = as_image_set(data)
        unknown = [name for name in known.names if name not in self.names]
        if unknown:
            raise ValueError(f"`data` has the class {unknown[0]!r}; the judge knows {', '.join(self.names)}")
        numbers = np.array([self.names.index(name) for name in known.names], np.int64)
        return ImageSet(known.images, numbers[known.labels], self.names)

    def save(self, path: StrPath) -> None:
        """Write the judge as one safetensors file.

        Parameters
        ----------
        path : path-like
            The file, which appears whole or not at all.
        """
        from cvkit.weights import save_tensors

        head = {"format": _FORMAT, "names": json.dumps(self.names), "shape": json.dumps(self.network.shape)}
        save_tensors(path, self.network.state_dict(), metadata={**head, "about": json.dumps(dict(self.about))})

    @staticmethod
    def load(path: StrPath) -> Judge:
        """Read a judge.

        Parameters
        ----------
        path : path-like
            A file that `save` wrote.

        Returns
        -------
        Judge
            The judge, on the CPU, in eval mode.

        Raises
        ------
        WeightsError
            If the file is missing, damaged or holds no judge.
        """
        from cvkit.weights import load_metadata, load_tensors

        head = load_metadata(path)
        try:
            if head.get("format") != _FORMAT:
                raise ValueError(f"its format is {shown(head.get('format'))}")
            names = tuple(map(str, json.loads(head["names"])))
            shape = {key: int(value) for key, value in json.loads(head["shape"]).items()}
            about = {str(key): str(value) for key, value in json.loads(head["about"]).items()}
            if len(names) != shape["classes"] or math.prod(shape.values()) > 1 << 32:
                raise ValueError("names and shape do not fit")
            network = SketchClassifier(
                shape["classes"], channels=shape["channels"], width=shape["width"], features=shape["features"]
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"{Path(path)}: holds no judge: {error}") from None
        try:
            network.load_state_dict(load_tensors(path))
        except RuntimeError as error:
            raise WeightsError(f"{Path(path)}: its tensors do not fit the judge's network: {error}") from None
        return Judge(network.eval(), names, MappingProxyType(about))

    def _run(self, images: ArrayLike, call: Callable[[Tensor], Tensor], width: int, batch_size: int) -> Array:
        batch_size = check_integer("batch_size", batch_size, minimum=1)
        plain = _plain(images)
        if plain.dtype != np.uint8 or plain.ndim not in {3, 4}:
            raise TypeError(f"`images` must be uint8 of shape (N, H, W) or (N, C, H, W); got {shown(images)}")
        plain = plain[:, None] if plain.ndim == 3 else plain
        if plain.shape[1] != self.network.shape["channels"]:
            raise ValueError(f"`images` must have {self.network.shape['channels']} channels; got {shown(images)}")
        device = next(self.network.parameters()).device
        out = np.empty((len(plain), width), np.float32)
        with _evaluating(self.network), torch.inference_mode():
            for start in range(0, len(plain), batch_size):
                batch = torch.tensor(plain[start : start + batch_size], device=device)
                out[start : start + batch_size] = call(_signed(batch.float() / 255)).cpu().numpy()
        return out


class _evaluating:  # noqa: N801
    """Eval mode for a while; every module gets its own mode back."""

    def __init__(self, network: nn.Module) -> None:
        self.modes = [(module, module.training) for module in network.modules() if module.training]

    def __enter__(self) -> None:
        for module, _ in self.modes:
            module.training = False

    def __exit__(self, *_: object) -> None:
        for module, training in self.modes:
            module.training = training


def train_classifier(
    data: DataLike,
    *,
    steps: int = 500,
    batch_size: int = 128,
    seed: int = 0,
    learning_rate: float = 3e-3,
    width: int = 16,
    features: int = 128,
    degraded: float = 0.7,
) -> Judge:
    """Train a small classifier on drawings, most of them degraded.

    Parameters
    ----------
    data : ImageSet, or tuple of images and labels
        At least one image of each class.
    steps : int, default 500
        Steps of Adam; 500 take about eight seconds on two cores.
    batch_size : int, default 128
        Images a step.
    seed : int, default 0
        The same seed, thread count and processor give the same weights.
    learning_rate : float, default 3e-3
        Highest rate; it rises over the first tenth and falls to zero along a cosine.
    width : int, default 16
        Channels after the first convolution.
    features : int, default 128
        Length of the feature vector.
    degraded : float, default 0.7
        Share of the images shown with faults; 0 trains on clean drawings.

    Returns
    -------
    Judge
        The classifier, in eval mode.

    Raises
    ------
    ValueError
        If the set is empty.

    Examples
    --------
    >>> from cvkit import gan
    >>> train, test = gan.quickdraw.generate(["sun", "ladder"], 60).split(test=0.5)
    >>> judge = gan.train_classifier(train, steps=40, batch_size=32)
    >>> bool(judge.recognized(test).mean() > 0.8)
    True
    """
    labelled = as_image_set(data)
    steps, batch_size = check_integer("steps", steps, minimum=0), check_integer("batch_size", batch_size, minimum=2)
    learning_rate = check_interval("learning_rate", learning_rate, 0, low_open=True)
    degraded = check_interval("degraded", degraded, 0, 1)
    if not len(labelled):
        raise ValueError("`data` must hold at least one image")
    images = torch.tensor(labelled.images)
    images = images[:, None] if images.ndim == 3 else images
    labels = torch.tensor(labelled.labels)
    generator = torch.Generator().manual_seed(check_integer("seed", seed, minimum=0))
    network = SketchClassifier(
        len(labelled.names), channels=images.shape[1], width=width, features=features, generator=generator
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    for step, rows in zip(range(steps), _batches(len(images), batch_size, generator), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _schedule(step, steps)
        batch = images[rows].float() / 255
        shown_ = _signed(degrade(batch, degraded, generator)).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(shown_), labels[rows], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Judge(network.eval(), labelled.names)


def _schedule(step: int, steps: int) -> float:
    """Return the share of the highest learning rate: a straight rise, then half a cosine."""
    rise = max(1, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield row numbers for ever, each epoch in a new order; a last, short batch is filled from the next."""
    left = torch.zeros(0, dtype=torch.int64)
    while True:
        while len(left) < batch_size:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        yield left[:batch_size]
        left = left[batch_size:]


def _signed(images: Tensor) -> Tensor:
    """Return [0, 1] as [-1, 1]."""
    return images * 2 - 1


def robustness(judge: Judge, data: DataLike, *, generator: torch.Generator | None = None) -> dict[str, float]:
    """Return the accuracy on a set as it is and under each of `FAULTS`.

    Parameters
    ----------
    judge : Judge
        The classifier.
    data : ImageSet, or tuple of images and labels
        Drawings that it was not trained on.
    generator : torch.Generator, optional
        Draws noise, shifts and gaps. Default: a fresh one with seed 0.

    Returns
    -------
    dict of str to float
        ``"clean"`` and the names of the faults to accuracies in [0, 1].

    Examples
    --------
    >>> from cvkit import gan
    >>> data = gan.quickdraw.generate(["sun", "ladder"], 40)
    >>> judge = gan.train_classifier(data, steps=30, batch_size=32)
    >>> sorted(gan.robustness(judge, data))[:3]
    ['blur', 'clean', 'gaps']
    """
    check_instance("judge", judge, Judge)
    labelled = judge.matched(data)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    images = torch.tensor(labelled.images)
    images = images[:, None] if images.ndim == 3 else images
    table = {"clean": float(judge.recognized(labelled).mean())}
    for name, fault in FAULTS.items():
        faulty = (fault(images.float() / 255, generator) * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)
        table[name] = float((judge.predict(faulty) == labelled.labels).mean())
    return table
