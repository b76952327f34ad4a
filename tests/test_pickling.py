"""Everything public can be sent to a process that was spawned: objects come back from pickle and work as before.

`cvkit.training` has its own test of this kind, with runs and states.
"""

from __future__ import annotations

import inspect
import pickle
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

from cvkit import explain, gan, geometry, imgops, pose
from cvkit.explain import synthetic
from cvkit.gan import datasets, metrics, quickdraw

MODULES = (imgops, geometry, explain, synthetic, pose, gan, datasets, quickdraw, metrics)
T = torch.arange(6.0).reshape(2, 3)
POINTS = torch.tensor([[[3.0, 4.0], [9.0, 2.0]]])


def made():
    """An object of every public class that has no arguments with defaults alone."""
    size, maps = (32, 24), (8, 6)
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    codec = pose.GaussianCodec(size, maps)
    network = pose.StackedHourglass(2, stacks=1, depth=1, features=8)
    skeleton = pose.Skeleton("two", ["a", "b"], edges=[(0, 1)])
    prepare = pose.Preprocess(size)
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    known = datasets.ImageSet(images, np.arange(6) % 2, ("cat", "dog"))
    classifier = gan.SketchClassifier(2, width=4, features=8)
    net = gan.Generator(2, size=(8, 8), latent_size=4, width=4)
    return [
        imgops.histogram(image),
        imgops.joint_histogram(image, bins=4),
        imgops.Lut.gamma(2.0) @ imgops.Lut.invert(),
        explain.Comparison(1, torch.tensor([[2]])),
        explain.Contrast(1, 2),
        explain.DetectedBox(torch.ones(4)),
        explain.EmbeddingSimilarity(T),
        explain.LogitPlusLogProbability(1),
        explain.Probability(1),
        explain.Region(1, T > 2),
        explain.Capture(("a",), {"a": [T]}),
        explain.Tokens((2, 3)),
        explain.Explanation(T, T, None, T, T, None, ("a",), T > 9),
        explain.LayerInfo("a", "Conv2d", 0, (1,), (1,), True, True),
        synthetic.scenes(2),
        synthetic.pairs(2),
        network,
        codec,
        pose.IntegralCodec(size, maps),
        pose.OneHotCodec(size, maps),
        pose.SimCCCodec(size),
        pose.SoftmaxCodec(size, maps),
        pose.UDPCodec(size, maps),
        pose.SimCCHead(network, pose.SimCCCodec(size), maps),
        codec.encode(POINTS),
        codec.decode(codec.encode(POINTS).heatmaps),
        skeleton,
        pose.stick_figures(2, size=(32, 32)),
        pose.stick_figures(2, size=(32, 32)).crops(prepare),
        prepare,
        pose.Estimator(network, codec, skeleton, prepare),
        pose.Augmentation().draw(2, torch.Generator()),
        known,
        known.split(test=0.5, seed=0),
        gan.ClassProjection(4, 2),
        gan.ConditionalBatchNorm2d(4, 2),
        gan.Judge(classifier, ("cat", "dog")),
        classifier,
        net,
        gan.Discriminator(2, size=(8, 8), width=4, spectral_norm=False),
        gan.Sampler(net, ("cat", "dog"), 4),
        *quickdraw.generate_drawings("house", 1),
        quickdraw.StrokeSet.of(list(quickdraw.generate_drawings("house", 2))),
        *gan.LOSSES.values(),
    ]


def classes():
    found = {}
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and not (getattr(value, "_is_protocol", False) or inspect.isabstract(value)):
                found[value] = name
    return found


def defaults():
    """An object of every public class that needs no arguments."""
    objects = []
    for kind in classes():
        needed = [
            p
            for p in inspect.signature(kind).parameters.values()
            if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
        ]
        if not needed and not issubclass(kind, BaseException):
            objects.append(kind() if kind is not explain.Tokens else kind(channels_last=True))
    return objects


def results():
    """A result of every public kind that only holds what it is given."""
    kinds = (geometry.Prepared, pose.Peaks, pose.NMEResult, pose.PCKResult, pose.Sample, pose.Prediction)
    kinds += (gan.CleaningReport, gan.Evaluation, quickdraw.SketchParts, metrics.ClassAccuracy, metrics.DensityCoverage)
    kinds += (
        metrics.InkStatistics,
        metrics.KernelDistance,
        metrics.Measures,
        metrics.Memorization,
        metrics.PrecisionRecall,
    )
    return [kind(*(np.arange(3.0) + i for i, _ in enumerate(inspect.signature(kind).parameters))) for kind in kinds]


def same(a, b):
    """Compare values through containers, tensors, arrays, modules and plain objects."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.nn.Module):
        return repr(a) == repr(b) and same(dict(a.state_dict()), dict(b.state_dict()))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if hasattr(a, "__dict__") and not callable(a):
        return same(vars(a), vars(b))
    if hasattr(a, "__slots__"):
        return all(same(getattr(a, name), getattr(b, name)) for name in a.__slots__)
    return a == b or a != a


OBJECTS = [*made(), *defaults(), *results()]


def test_every_public_class_is_here():
    missing = {name for kind, name in classes().items() if not any(isinstance(value, kind) for value in OBJECTS)}
    assert not missing


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_it_comes_back_from_pickle(value):
    again = pickle.loads(pickle.dumps(value))
    assert same(again, value)
    assert not same([again], [value, value])


def test_the_comparison_can_fail():
    assert not same(replace(pose.Augmentation(), flip=0.0), pose.Augmentation())
    assert not same(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
