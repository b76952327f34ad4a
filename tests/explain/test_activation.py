"""CAM methods on models: the algebra of linear heads, comparisons of classes, second order, products of layers."""

from __future__ import annotations

import pytest
import torch

from cvkit.explain import (
    KPCACAM,
    EigenCAM,
    FinerCAM,
    GradCAM,
    LayerCAM,
    RefineCAM,
    Saliency,
    SegXResCAM,
    ShapleyCAM,
    SmoothGradCAMPlusPlus,
    cam,
    capture,
    explain,
)
from reference.explain_models import MLPHead, Net, Skip, images, seeded


def linear():
    """Global average pooling and one linear layer, float64."""
    return seeded(Net(), 0, torch.float64)


def curved():
    return seeded(MLPHead(), 3, torch.float64)


@pytest.mark.fault("frgfm/torch-cam#50")
def test_on_a_linear_head_the_family_agrees_with_cam():
    model, x = linear(), images(dtype=torch.float64)
    raws = {
        name: explain(model, x, method=name, layer="relu2", target=1).raw
        for name in ("cam", "gradcam", "hirescam", "xgradcam", "ablationcam")
    }
    positions = raws["cam"][0].numel()
    for name in ("gradcam", "hirescam", "xgradcam"):
        torch.testing.assert_close(raws[name] * positions, raws["cam"])
    with capture(model, "relu2") as seen:
        model(x)
    expected = torch.einsum("c,nchw->nhw", model.head.weight[1], seen.activation())
    torch.testing.assert_close(raws["cam"], expected.detach())


def test_the_unrectified_sum_of_hirescam_is_the_score_without_its_bias():
    model, x = linear(), images(dtype=torch.float64)
    found = explain(model, x, method="hirescam", layer="relu2", target=1)
    torch.testing.assert_close(found.raw.flatten(1).sum(1), found.scores - model.head.bias[1].detach())


@pytest.mark.parametrize("make", [MLPHead, Skip])
def test_cam_refuses_networks_of_another_kind(make):
    model, x = seeded(make(), 3), images()
    with pytest.raises(ValueError, match="CAM needs a network that ends in global average pooling"):
        explain(model, x, method="cam", layer="body.3" if make is MLPHead else "inner")


def test_cam_refuses_a_target_that_is_not_linear():
    with pytest.raises(ValueError, match="CAM needs"):
        explain(
            linear(), images(dtype=torch.float64), method="cam", layer="relu2", target=lambda out: out.softmax(1)[:, 0]
        )


def test_scaling_and_shifting_the_logit_leaves_the_normalised_map():
    model, x = curved(), images(dtype=torch.float64)
    plain = explain(model, x, layer="body.3", target=1)
    for target in (lambda out: 7.0 * out[:, 1], lambda out: out[:, 1] - 100.0):
        torch.testing.assert_close(explain(model, x, layer="body.3", target=target).maps, plain.maps)


def test_scaling_a_relu_layer_and_undoing_it_leaves_the_map():
    model, x = curved(), images(dtype=torch.float64)
    plain = explain(model, x, layer="body.3", target=1)
    with torch.no_grad():
        model.body[2].weight *= 3.0
        model.body[2].bias *= 3.0
        model.tail[0].weight /= 3.0
    torch.testing.assert_close(explain(model, x, layer="body.3", target=1).maps, plain.maps)


def test_a_symmetric_network_gives_mirrored_maps():
    model = seeded(Net(), 0, torch.float64)
    with torch.no_grad():
        for conv in (model.conv1, model.conv2):
            conv.weight.copy_((conv.weight + conv.weight.flip(-1)) / 2)
    x = images(size=(9, 13), dtype=torch.float64)  # odd: the stride of 2 meets the same columns from both sides
    for method in ("gradcam", "gradcam++", "layercam", "eigencam", "scorecam"):
        a, b = (explain(model, image, method=method, layer="relu2", target=1).maps for image in (x, x.flip(-1)))
        torch.testing.assert_close(a.flip(-1), b, atol=1e-5, rtol=0)


@pytest.mark.fault("haofanwang/Score-CAM#5")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#42")
def test_a_map_without_a_positive_part_is_said_to_be_empty_and_its_raw_map_is_there():
    model, x = linear(), images(dtype=torch.float64)
    with torch.no_grad():
        model.head.weight[1] = -model.head.weight[1].abs() - 0.1
    found = explain(model, x, layer="relu2", target=1)
    assert found.degenerate.all()
    assert not found.maps.any()
    assert (found.raw <= 0).all()
    assert (found.raw < 0).any()
    turned = explain(model, x, layer="relu2", target=1, normalize="abs")
    assert not turned.degenerate.any()


# ---------------------------------------------------------------- comparisons


def test_finercam_is_the_map_of_the_difference_to_the_closest_classes():
    model, x = seeded(MLPHead(classes=6), 3, torch.float64), images(dtype=torch.float64)
    logits = model(x).detach()
    found = explain(model, x, method=FinerCAM(weight=0.7, references=2), layer="body.3", target=1)
    rows = []
    for n in range(3):
        others = sorted((abs(logits[n, k] - logits[n, 1]).item(), k) for k in range(6) if k != 1)[:2]
        ks = [k for _, k in others]
        rows.append(
            explain(model, x[n : n + 1], layer="body.3", target=lambda o, ks=ks: o[:, 1] - 0.7 * o[:, ks].mean(1)).raw[
                0
            ]
        )
    torch.testing.assert_close(found.raw, torch.stack(rows))
    assert found.target.tolist() == [1, 1, 1]


def test_finercam_takes_any_base_and_refuses_what_has_no_classes():
    model, x = curved(), images(dtype=torch.float64)
    base = FinerCAM(base=LayerCAM())
    assert base.traits == LayerCAM().traits
    assert explain(model, x, method=base, layer="body.3").maps.shape == (3, 11, 14)
    with pytest.raises(ValueError, match="FinerCAM compares classes"):
        explain(model, x, method=base, layer="body.3", target=lambda out: out[:, 0])
    one = explain(seeded(MLPHead(classes=1), 3), images(), method="gradcam", layer="body.3")
    assert one.target.unique().tolist() in ([0], [1], [0, 1])


def test_shapleycam_equals_its_hessian_written_out():
    model, x = curved(), images(rows=2, dtype=torch.float64)
    found = explain(model, x, method="shapleycam", layer="body.3", target=1)

    def rest(A):
        logits = model.head(model.tail(A).flatten(2).mean(2))
        return (logits + logits.log_softmax(1))[0, 1]

    for n in range(2):
        A = model.body(x[n : n + 1]).detach()
        g = torch.autograd.functional.jacobian(rest, A)
        H = torch.autograd.functional.hessian(rest, A).reshape(A.numel(), A.numel())
        product = (H @ A.flatten()).reshape(A.shape)
        assert product.abs().max() > 1e-3 * g.abs().max()
        torch.testing.assert_close(found.raw[n], cam.shapleycam(A, g, product)[0])


def test_shapleycam_of_a_piecewise_linear_score_is_gradcam():
    model, x = curved(), images(dtype=torch.float64)
    plain = explain(model, x, layer="body.3", target=lambda out: out[:, 1])
    found = explain(model, x, method=ShapleyCAM(), layer="body.3", target=lambda out: out[:, 1])
    torch.testing.assert_close(found.raw, plain.raw)


# ---------------------------------------------------------------- layers


def test_refinecam_is_the_product_of_normalised_maps():
    model, x = curved(), images()
    model = model.float()
    names = ["body.1", "tail.1"]
    single = [explain(model, x, method="gradcam++", layer=name, target=1).maps for name in names]
    product = single[0] * single[1]
    expected = product / product.flatten(1).amax(1).view(-1, 1, 1)
    found = explain(model, x, method="refinecam", layer=names, target=1)
    torch.testing.assert_close(found.maps, expected)
    assert found.layer == tuple(names)


def test_refinecam_finds_a_layer_of_each_size():
    found = explain(seeded(MLPHead(), 3), images(), method=RefineCAM(GradCAM()), target=1)
    assert found.layer == ("body", "tail")
    assert [raw.shape[1:] for raw in found.raw] == [(11, 14), (5, 6)]


@pytest.mark.parametrize("fuse", ["mean", "max", "product", "tanh-max"])
@pytest.mark.fault("jacobgil/pytorch-grad-cam#149")
def test_layers_are_normalised_and_then_fused(fuse):
    model, x = seeded(MLPHead(), 3), images()
    names = ["body.1", "body.3", "tail.1"]
    single = torch.stack([explain(model, x, layer=name, target=1).maps for name in names])
    if fuse == "mean":
        fused = single.mean(0)
    elif fuse == "max":
        fused = single.amax(0)
    elif fuse == "product":
        fused = single.prod(0)
    else:
        fused = torch.stack([torch.tanh(2 * single[0]), torch.tanh(2 * single[1]), single[2]]).amax(0)
    expected = fused / fused.flatten(1).amax(1).view(-1, 1, 1)
    found = explain(model, x, layer=names, target=1, fuse=fuse)
    torch.testing.assert_close(found.maps, expected)
    assert isinstance(found.raw, tuple)


def test_layercam_fuses_layers_as_its_paper_does():
    model, x = seeded(MLPHead(), 3), images()
    names = ["body.1", "tail.1"]
    by_default = explain(model, x, method="layercam", layer=names, target=1)
    asked = explain(model, x, method="layercam", layer=names, target=1, fuse="tanh-max")
    assert torch.equal(by_default.maps, asked.maps)


@pytest.mark.fault("jacobgil/pytorch-grad-cam#412")
def test_layers_come_back_in_the_order_in_which_they_were_asked_for():
    model, x = seeded(MLPHead(), 3), images()
    a, b = (explain(model, x, layer=names, target=1) for names in (["body.1", "tail.1"], ["tail.1", "body.1"]))
    assert a.layer == b.layer[::-1]
    assert all(torch.equal(p, q) for p, q in zip(a.raw, b.raw[::-1], strict=True))
    assert torch.equal(a.raw[0], explain(model, x, layer="body.1", target=1).raw)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FinerCAM(base="gradcam"), TypeError, "`base` must be Method"),
        (lambda: FinerCAM(weight=-1.0), ValueError, "`weight` must lie in"),
        (lambda: FinerCAM(references=0), ValueError, "`references` must be at least 1"),
        (lambda: RefineCAM(base=Saliency()), ValueError, "`base` must work at layers"),
        (lambda: SegXResCAM(window=0), ValueError, "`window` must be at least 1"),
        (lambda: KPCACAM(kernel="poly"), ValueError, "`kernel` must be one of"),
        (lambda: SmoothGradCAMPlusPlus(samples=0), ValueError, "`samples` must be at least 1"),
    ],
)
def test_wrong_constants_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_methods_are_values():
    assert EigenCAM() == EigenCAM(center=False)
    assert hash(EigenCAM()) == hash(EigenCAM())
    with pytest.raises(AttributeError):
        EigenCAM().center = True
