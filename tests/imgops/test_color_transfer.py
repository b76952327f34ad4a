from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import rgb_to_lab, transfer_color
from strategies import SEEDS


def clouds(seed, spread=0.08):
    """Two images whose colours stay inside the range."""
    rng = np.random.default_rng(seed)
    made = []
    for shape in ((14, 11), (9, 17)):
        mix = np.eye(3) + 0.5 * rng.normal(size=(3, 3))
        values = rng.uniform(-1, 1, (*shape, 3)) @ mix.T
        made.append(rng.uniform(0.4, 0.6, 3) + spread * values / np.abs(mix).sum())
    return made


@given(SEEDS)
def test_reinhard_matches_means_and_deviations_in_lab(seed):
    image, reference = clouds(seed)
    out = transfer_color(image, reference)
    ours, theirs = rgb_to_lab(out).reshape(-1, 3), rgb_to_lab(reference).reshape(-1, 3)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=1e-6)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=1e-6)


@given(SEEDS)
def test_monge_kantorovich_matches_means_and_covariances(seed):
    image, reference = clouds(seed)
    out = transfer_color(image, reference, method="monge-kantorovich")
    ours, theirs = out.reshape(-1, 3), reference.reshape(-1, 3)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=1e-9)
    np.testing.assert_allclose(np.cov(ours.T), np.cov(theirs.T), atol=1e-4)


@given(SEEDS)
def test_monge_kantorovich_is_the_formula_of_matrix_roots(seed):
    linalg = pytest.importorskip("scipy.linalg")
    image, reference = clouds(seed)
    x, y = image.reshape(-1, 3), reference.reshape(-1, 3)
    a, b = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    if np.linalg.eigvalsh(a)[0] < 1e-6:
        return  # roots of nearly flat covariances are ill-conditioned
    root = linalg.sqrtm(a).real
    inverse = np.linalg.inv(root)
    linear = inverse @ linalg.sqrtm(root @ b @ root).real @ inverse
    expected = (x - x.mean(0)) @ linear.T + y.mean(0)
    out = transfer_color(image, reference, method="monge-kantorovich").reshape(-1, 3)
    np.testing.assert_allclose(out, expected, atol=1e-7)


@pytest.mark.parametrize("method", ["reinhard", "monge-kantorovich"])
@pytest.mark.parametrize("space", [None, "lab", "oklab", "rgb"])
def test_to_itself_changes_nothing(method, space):
    image = np.random.default_rng(0).integers(20, 230, (8, 9, 3)).astype(np.uint8)
    assert np.abs(transfer_color(image, image, method=method, space=space).astype(int) - image).max() <= 1
    np.testing.assert_allclose(
        transfer_color(image / 255.0, image, method=method, space=space), image / 255.0, atol=1e-6
    )


@pytest.mark.fault("jrosebr1/color_transfer#1")
def test_a_flat_image_takes_the_mean_and_a_wider_reference_widens():
    flat = np.full((6, 7, 3), 100, np.uint8)
    _, reference = clouds(1)
    for method in ("reinhard", "monge-kantorovich"):
        out = transfer_color(flat / 255.0, reference, method=method, space="rgb")
        np.testing.assert_allclose(out, np.broadcast_to(reference.mean((0, 1)), out.shape), atol=1e-9)
    narrow, wide = clouds(2, 0.03)[0], clouds(2, 0.1)[1]

    def spread(x):
        return x.std((0, 1)).mean()

    assert spread(transfer_color(narrow, wide)) > 1.3 * spread(narrow)
    assert spread(transfer_color(wide, narrow)) < spread(wide) / 1.3


def test_channels_without_spread_are_only_moved():
    rng = np.random.default_rng(0)
    image = rng.uniform(0.4, 0.6, (8, 9, 3))
    image[..., 2] = 0.5
    reference = rng.uniform(0.3, 0.7, (8, 9, 3))
    out = transfer_color(image, reference, method="monge-kantorovich")
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.mean((0, 1)), reference.mean((0, 1)), atol=0.01)


def test_strength():
    image, reference = clouds(4)
    full, none = (
        transfer_color(image, reference, space="rgb"),
        transfer_color(image, reference, space="rgb", strength=0),
    )
    np.testing.assert_allclose(none, image, atol=1e-12)
    half = transfer_color(image, reference, space="rgb", strength=0.5)
    np.testing.assert_allclose(half, (full + image) / 2, atol=1e-12)


@pytest.mark.fault("chaiNNer-org/chaiNNer#2389")
@given(SEEDS, st.sampled_from(["reinhard", "monge-kantorovich"]))
def test_transparent_and_masked_pixels_are_not_looked_at(seed, method):
    image, reference = clouds(seed)
    shown = np.random.default_rng(seed).random(image.shape[:2]) > 0.4
    shown[0] = True
    spoilt = np.where(shown[..., None], image, 0.99)
    expected = transfer_color(image[shown][None], reference, method=method)[0]
    layered = np.concatenate([spoilt, shown[..., None] * 1.0], -1)
    np.testing.assert_allclose(transfer_color(spoilt, reference, method=method, mask=shown)[shown], expected, atol=1e-9)
    there = np.concatenate([spoilt, shown[..., None] * 1.0], -1)
    source = np.concatenate([reference, np.ones((*reference.shape[:2], 1))], -1)
    own = transfer_color(source, there, method=method)[..., :3]
    np.testing.assert_allclose(own, transfer_color(reference, image[shown][None], method=method), atol=1e-9)
    back = transfer_color(layered, source, method=method)
    np.testing.assert_allclose(back[shown][:, :3], expected, atol=1e-9)


def test_nothing_to_look_at_changes_nothing():
    image, reference = clouds(5)
    none = np.zeros(image.shape[:2], bool)
    np.testing.assert_allclose(transfer_color(image, reference, mask=none), image, atol=1e-9)
    hidden = np.zeros(reference.shape[:2], bool)
    np.testing.assert_allclose(transfer_color(image, reference, reference_mask=hidden), image, atol=1e-9)


def test_kinds_mix_and_batches():
    image, reference = clouds(6)
    expected = transfer_color(image, reference)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    np.testing.assert_allclose(transfer_color(tensor, reference).permute(1, 2, 0).numpy(), expected, atol=1e-9)
    there = torch.from_numpy(reference).permute(2, 0, 1).requires_grad_()
    np.testing.assert_allclose(transfer_color(image, there), expected, atol=1e-9)
    np.testing.assert_allclose(transfer_color(tensor, there).permute(1, 2, 0).detach().numpy(), expected, atol=1e-9)
    photo = Image.fromarray((image * 255).astype(np.uint8))
    out = transfer_color(photo, reference)
    assert (out.mode, out.size) == ("RGB", photo.size)
    both = transfer_color(torch.stack([tensor, tensor.flip(0)]), torch.stack([there.flip(0), there]))
    np.testing.assert_allclose(
        both[1].detach().numpy(), transfer_color(tensor.flip(0), there).detach().numpy(), atol=1e-9
    )


def test_gradients_are_finite_where_eigenvalues_meet():
    gray = torch.rand(1, 6, 5, dtype=torch.float64).expand(3, 6, 5).clone().requires_grad_()
    for image in (gray, torch.full((3, 4, 5), 0.5, dtype=torch.float64, requires_grad=True)):
        transfer_color(image, clouds(0)[1], method="monge-kantorovich").sum().backward()
        assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize(
    ("options", "word"), [({"method": "linear"}, "method"), ({"space": "hsv"}, "space"), ({"strength": 2}, "strength")]
)
def test_wrong_options(options, word):
    with pytest.raises(ValueError, match=word):
        transfer_color(*clouds(0), **options)


def test_wrong_images():
    image, reference = clouds(0)
    with pytest.raises(ValueError, match="`image` must have three"):
        transfer_color(image[..., 0], reference)
    with pytest.raises(ValueError, match="`reference` must have three"):
        transfer_color(image, reference[..., 0])
    with pytest.raises(ValueError, match="one image or as many"):
        transfer_color(torch.rand(2, 3, 4, 5), torch.rand(3, 3, 4, 5))


@pytest.mark.parametrize("method", ["reinhard", "monge-kantorovich"])
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_values_outside_the_range_count_as_its_ends(method, kind):
    rng = np.random.default_rng(0)
    image, reference = rng.random((6, 5, 3)), rng.random((4, 7, 3))
    image[0, 0, 0], image[1, 1, 1], reference[2, 2, 2] = np.inf, -4.0, -np.inf
    expected = transfer_color(np.clip(image, 0, 1), np.clip(reference, 0, 1), method=method)
    if kind == "tensor":
        image, reference = (torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (image, reference))
    result = transfer_color(image, reference, method=method)
    result = result.numpy().transpose(1, 2, 0) if kind == "tensor" else result
    np.testing.assert_allclose(result, expected, atol=1e-9)


def test_the_range_of_the_image_serves_for_a_reference_of_the_same_dtype():
    rng = np.random.default_rng(1)
    image, reference = (rng.integers(0, 4096, (5, 6, 3), dtype=np.int16) for _ in range(2))
    result = transfer_color(image, reference, data_range=(0, 4095))
    same = transfer_color(image, reference, data_range=(0, 4095), reference_range=(0, 4095))
    assert np.array_equal(result, same)
    floats = transfer_color(image / 1.0, reference / 1.0, data_range=(0, 4095))
    assert np.abs(floats - result).max() < 0.51
