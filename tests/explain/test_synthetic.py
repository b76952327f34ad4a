"""Generated pictures: true masks, seeds that decide, and a small network that learns them and looks at the objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvkit.explain import explain, explain_many, synthetic
from cvkit.explain.metrics import energy_in_mask, pointing_game


@pytest.mark.parametrize("size", [(24, 24), (31, 47)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_scenes(size, dtype):
    batch = synthetic.scenes(13, size=size, classes=6, dtype=dtype)
    assert batch.images.shape == (13, 3, *size)
    assert batch.images.dtype == getattr(torch, dtype)
    assert batch.labels.tolist() == [i % 6 for i in range(13)]
    assert batch.names == synthetic.SHAPES
    share = batch.masks.float().mean((1, 2))
    assert (share > 0.01).all()
    assert (share < 0.4).all()
    scale = 255.0 if dtype == "uint8" else 1.0
    values = batch.images.double() / scale
    assert values.min() >= 0
    assert values.max() <= 1
    for image, mask in zip(values, batch.masks, strict=True):  # one colour with grain, of which some is clipped
        assert image[:, mask].std(1).max() < 0.05


def test_the_same_seed_gives_the_same_pictures_and_a_passed_one_advances():
    a, b = synthetic.scenes(4), synthetic.scenes(4)
    assert torch.equal(a.images, b.images)
    rng = np.random.default_rng(0)
    c, d = synthetic.scenes(4, rng=rng), synthetic.scenes(4, rng=rng)
    assert torch.equal(a.images, c.images)
    assert not torch.equal(c.images, d.images)
    assert torch.equal(synthetic.pairs(3).images, synthetic.pairs(3).images)
    state = torch.get_rng_state()
    one, two = synthetic.ShapeNet(), synthetic.ShapeNet()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))


def test_pairs():
    batch = synthetic.pairs(9, size=(32, 48), classes=3, dtype="uint8")
    assert batch.images.dtype == torch.uint8
    assert (batch.labels[:, 0] != batch.labels[:, 1]).all()
    assert not (batch.masks[:, 0] & batch.masks[:, 1]).any()
    columns = torch.arange(48.0)
    centres = [(m.any(1).float() * columns).sum(1) / m.any(1).sum(1) for m in batch.masks.unbind(1)]
    assert (centres[0] < centres[1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "`count` must be at least 1"),
        ({"size": (10, 40)}, r"`size\[0\]` must be at least 24"),
        ({"classes": 7}, "`classes` must be at most 6"),
        ({"classes": 1}, "`classes` must be at least 2"),
        ({"distractors": -1}, "`distractors` must be at least 0"),
        ({"dtype": "float64"}, "`dtype` must be one of"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    for make in (synthetic.scenes, synthetic.pairs):
        with pytest.raises(ValueError, match=message):
            make(**{"count": 2, **options})
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        synthetic.train(synthetic.ShapeNet(width=4), synthetic.scenes(4), steps=0)


def test_training_takes_bytes_reports_and_leaves_no_gradients():
    data = synthetic.scenes(24, size=(24, 24), dtype="uint8")
    seen = []
    state = torch.get_rng_state()
    model = synthetic.ShapeNet(width=4)
    losses = synthetic.train(model, data, steps=3, batch_size=8, on_step=lambda step, loss: seen.append((step, loss)))
    assert seen == list(enumerate(losses))
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    again = synthetic.ShapeNet(width=4)
    assert synthetic.train(again, data, steps=3, batch_size=8) == losses
    assert 0.0 <= synthetic.accuracy(model, data, batch_size=7) <= 1.0


@pytest.fixture(scope="module")
def trained():
    """The demo's network, trained as the demo trains it."""
    torch.set_num_threads(1)
    model = synthetic.ShapeNet()
    synthetic.train(model, synthetic.scenes(1200))
    return model


@pytest.mark.slow
def test_the_network_learns_and_its_maps_light_the_objects(trained):
    test = synthetic.scenes(200, rng=np.random.default_rng(1))
    assert synthetic.accuracy(trained, test) > 0.95
    found = explain(trained, test.images, target=test.labels)
    area = test.masks.float().mean((1, 2))
    assert pointing_game(found.maps, test.masks).float().mean() > 0.8
    assert (energy_in_mask(found.maps, test.masks) / area).mean() > 3
    noise = torch.rand(found.maps.shape, generator=torch.Generator().manual_seed(0))
    assert pointing_game(noise, test.masks).float().mean() < 0.25


# Methods that weigh the evidence for a class channel by channel. The others follow what excites the network at all (the
# principal components, the masks' scores, absolute gradients): with two objects in the picture they light both.
DISCRIMINATIVE = (
    "cam", "gradcam", "gradcam++", "smoothgradcam++", "xgradcam", "hirescam", "elementwise", "layercam", "segxrescam",
    "shapleycam", "finercam", "refinecam", "ablationcam", "groupcam", "guidedgradcam",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", DISCRIMINATIVE)
def test_each_object_of_a_pair_is_lit_for_its_own_class(trained, method):
    test = synthetic.pairs(96, rng=np.random.default_rng(2))
    found = explain_many(trained, test.images, list(test.labels.T), method=method)
    right = 0.0
    for i in (0, 1):
        own = energy_in_mask(found[i].maps, test.masks[:, i])
        other = energy_in_mask(found[i].maps, test.masks[:, 1 - i])
        right += (own > other).float().mean().item() / 2
    assert right > 0.75
