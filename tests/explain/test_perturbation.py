"""Scores of altered copies: against slow oracles, by algebra, and where a restart at the layer would go wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvkit.explain import ISCAM, SSCAM, AblationCAM, GroupCAM, ScoreCAM, capture, explain
from cvkit.explain._method import draw_normal
from cvkit.explain.perturbation import blur_image
from reference import explain_slow as slow
from reference.explain_models import MLPHead, Net, OwnSize, Skip, images, seeded


def curved(rank=2):
    """A model whose score is not linear in the layer, in float64."""
    return seeded(MLPHead(rank), 3, torch.float64)


def parts(model, x, layer, target=1):
    """Return activations, gradients and a scoring function of images, in NumPy."""
    with capture(model, layer) as seen:
        logits = model(x)
    A, g = seen.activation(), seen.gradient(logits[:, target])

    def score(image, kind=lambda logits: logits[0, target]):
        with torch.no_grad():
            return kind(model(torch.from_numpy(image)[None])).item()

    return A.detach().numpy(), g.numpy(), score


def close(result, expected, tolerance=1e-7):
    raw = result.raw.numpy()
    np.testing.assert_allclose(raw, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_ablationcam_equals_channels_taken_out_one_by_one(rank):
    model, x = curved(rank), images(rank, rows=2, dtype=torch.float64)
    A, _, _ = parts(model, x, "body.3")

    def head(activation):
        with torch.no_grad():
            return model.head(model.tail(torch.from_numpy(activation)[None]).flatten(2).mean(2))[0, 1].item()

    expected = np.stack([slow.cam(a, slow.ablation_weights(a, head)) for a in A])
    for chunk in (None, 1, 3):
        close(explain(model, x, method=AblationCAM(), layer="body.3", target=1, chunk=chunk), expected)


def test_ablationcam_on_a_linear_head_gives_the_layers_weights_times_the_channels_means():
    model, x = seeded(Net(), 0, torch.float64), images(dtype=torch.float64)
    with capture(model, "relu2") as seen:
        model(x)
    A = seen.activation().detach()
    weights = model.head.weight[1].detach() * A.mean((2, 3))
    expected = torch.einsum("nc,nchw->nhw", weights, A)
    torch.testing.assert_close(explain(model, x, method="ablationcam", layer="relu2", target=1).raw, expected)


@pytest.mark.fault("jacobgil/pytorch-grad-cam#412")
def test_ablationcam_does_not_turn_over_where_the_score_is_negative():
    model, x = seeded(Net(), 0, torch.float64), images(dtype=torch.float64)
    plain = explain(model, x, method="ablationcam", layer="relu2", target=1)
    with torch.no_grad():
        model.head.bias[1] -= 100
    lowered = explain(model, x, method="ablationcam", layer="relu2", target=1)
    assert (lowered.scores < 0).all()
    torch.testing.assert_close(lowered.raw, plain.raw)


def test_a_skip_connection_around_the_layer_is_seen():
    model, x = seeded(Skip(), 1, torch.float64), images(rows=3, dtype=torch.float64)

    def fall(n, k):
        def without(module, inputs, output):
            output = output.clone()
            output[:, k] = 0
            return output

        with torch.no_grad():
            full = model(x[n : n + 1])[0, 1]
            handle = model.inner.register_forward_hook(without)
            less = model(x[n : n + 1])[0, 1]
            handle.remove()
        return (full - less).item()

    with capture(model, "inner") as seen:
        model(x)
    A = seen.activation().detach().numpy()
    expected = np.stack([slow.cam(A[n], [fall(n, k) for k in range(4)]) for n in range(3)])
    for chunk in (None, 1, 2):
        close(explain(model, x, method="ablationcam", layer="inner", target=1, chunk=chunk), expected)


def test_an_ablation_costs_one_pass_below_the_layer_for_many_channels():
    model, x = curved(), images(rows=1, dtype=torch.float64)
    below, above = [], []
    model.body[0].register_forward_hook(lambda m, i, o: below.append(len(o)))
    model.tail.register_forward_hook(lambda m, i, o: above.append(len(o)))
    explain(model, x, method="ablationcam", layer="body.3", target=1)
    assert below == [1, 1]  # the trace, and all six channels beside an unaltered copy
    assert above == [1, 7]


@pytest.mark.parametrize(("branches", "expected"), [(False, [1, 1, 1]), (True, [1, 1, 1, 6])])
def test_a_head_that_reads_the_batchs_size_costs_no_more_below_the_layer_unless_it_looks_at_values(branches, expected):
    model, x = seeded(OwnSize(branches), 3, torch.float64), images(rows=1, dtype=torch.float64)
    below = []
    handle = model.body[0].register_forward_hook(lambda m, i, o: below.append(len(o)))
    found = explain(model, x, method="ablationcam", layer="body.3", target=1)
    handle.remove()
    assert below == expected  # the trace, the altered copies by themselves (refused), mapped, and whole
    A = model.body(x).detach()
    falls = model.head.weight[1].detach() * A.mean((2, 3))
    torch.testing.assert_close(found.raw, torch.einsum("nc,nchw->nhw", falls, A))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_scorecam_equals_the_algorithm_written_out(rank):
    model, x = curved(rank), images(rank, rows=2, dtype=torch.float64)
    A, _, score = parts(model, x, "tail.1")
    expected = np.stack([slow.scorecam(a, image, score) for a, image in zip(A, x.numpy(), strict=True)])
    for chunk in (None, 1, 3):
        close(explain(model, x, method="scorecam", layer="tail.1", target=1, chunk=chunk), expected)


def test_scorecam_of_a_score_linear_in_the_input_averages_the_scores_parts_under_each_mask():
    # y = sum_p r_p with r_p the part of position p, so that f(x * H_k) = sum_p H_k(p) r_p.
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.Conv2d(4, 5, 1, bias=False), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(5, 3, bias=False),
    )  # fmt: skip
    model, x = seeded(model, 1, torch.float64), images(rows=2, dtype=torch.float64)
    A = model[0](x).detach()
    row = model[4].weight[1] @ model[1].weight[..., 0, 0] @ model[0].weight[..., 0, 0]
    share = torch.einsum("c,nchw->nhw", row.detach(), x) / x[0, 0].numel()
    low, high = A.flatten(2).amin(2)[..., None, None], A.flatten(2).amax(2)[..., None, None]
    weights = torch.einsum("nkhw,nhw->nk", (A - low) / (high - low), share).softmax(1)
    found = explain(model, x, method="scorecam", layer="0", target=1)
    torch.testing.assert_close(found.raw, torch.einsum("nk,nkhw->nhw", weights, A))


@pytest.mark.fault("haofanwang/Score-CAM#6")
@pytest.mark.fault("frgfm/torch-cam#141")
def test_the_other_published_scorecam_is_there_by_name():
    model, x = curved(), images(rows=2, dtype=torch.float64)
    A, _, score = parts(model, x, "tail.1")

    def probability(image):
        return score(image, lambda logits: logits.softmax(1)[0, 1])

    expected = np.stack([slow.scorecam_class(a, image, probability) for a, image in zip(A, x.numpy(), strict=True)])
    close(explain(model, x, method=ScoreCAM(softmax="class"), layer="tail.1", target=1), expected)
    close(explain(model, x, method="scorecam-class", layer="tail.1", target=1), expected)


def dead_channels(model):
    with torch.no_grad():
        model.tail[0].weight[1] = 0
        model.tail[0].bias[1] = -1
        model.tail[0].weight[2] = 0
        model.tail[0].bias[2] = 2
    return model


@pytest.mark.parametrize("method", ["scorecam", "scorecam-class"])
def test_constant_channels_cost_nothing_and_change_nothing(method):
    model, x = dead_channels(curved()), images(rows=2, dtype=torch.float64)
    A, _, score = parts(model, x, "tail.1")
    forwards = []
    model.head.register_forward_hook(lambda m, i, o: forwards.append(len(o)))
    result = explain(model, x, method=method, layer="tail.1", target=1)
    counted = sum(forwards)
    assert counted <= 2 + 2 * 2 + (2 if method == "scorecam" else 0)
    if method == "scorecam":
        expected = np.stack([slow.scorecam(a, image, score) for a, image in zip(A, x.numpy(), strict=True)])
    else:
        expected = np.stack(
            [
                slow.scorecam_class(a, image, lambda i: score(i, lambda logits: logits.softmax(1)[0, 1]))
                for a, image in zip(A, x.numpy(), strict=True)
            ]
        )
    close(result, expected)


@pytest.mark.fault("jacobgil/pytorch-grad-cam#243")
def test_scorecam_depends_on_the_layer_it_is_given():
    model, x = curved(), images(rows=1, dtype=torch.float64)
    a, b = (explain(model, x, method="scorecam", layer=layer, target=1).maps for layer in ("body.1", "tail.1"))
    assert (a - b).abs().max() > 0.05


def test_iscam_equals_the_way_written_out():
    model, x = curved(), images(rows=2, dtype=torch.float64)
    A, _, score = parts(model, x, "tail.1")
    expected = np.stack([slow.iscam(a, image, score, 3) for a, image in zip(A, x.numpy(), strict=True)])
    close(explain(model, x, method=ISCAM(samples=3), layer="tail.1", target=1, chunk=5), expected)


def test_iscam_of_one_step_and_sscam_without_noise_are_scorecam():
    model, x = curved(), images(rows=2, dtype=torch.float64)
    expected = explain(model, x, method="scorecam", layer="tail.1", target=1).raw.numpy()
    for method in (ISCAM(samples=1), SSCAM(samples=2, sigma=0.0), SSCAM(samples=1, sigma=0.0, noise="input")):
        close(explain(model, x, method=method, layer="tail.1", target=1), expected)


@pytest.mark.parametrize("noise", ["mask", "input"])
def test_sscam_equals_its_noise_written_out(noise):
    model, x = curved(), images(rows=2, dtype=torch.float64)
    A, _, score = parts(model, x, "tail.1")
    sigma, samples = 0.5, 3
    drawn = torch.Generator().manual_seed(9)
    seeds_ = [int(torch.randint(2**62, (), generator=drawn)) for _ in range(2)]
    expected = []
    for n in range(2):
        own = torch.Generator().manual_seed(seeds_[n])
        image = x[n].numpy()
        scores = []
        for k in range(A.shape[1]):
            mask = slow.unit(slow.resize(A[n, k], image.shape[1:]))
            total = 0.0
            for _ in range(samples):
                if noise == "mask":
                    total += score(image * (mask + sigma * draw_normal([own], x[:1, :1])[0].numpy()))
                else:
                    total += score(image * mask + sigma * draw_normal([own], x[:1])[0].numpy())
            scores.append(total / samples)
        expected.append(slow.cam(A[n], slow.softmax(scores)))
    method = SSCAM(samples=samples, sigma=sigma, noise=noise)
    generator = torch.Generator().manual_seed(9)
    close(explain(model, x, method=method, layer="tail.1", target=1, generator=generator), np.stack(expected))


def test_groupcam_equals_the_paper_written_out():
    model, x = curved(), images(rows=2, dtype=torch.float64)
    A, g, score = parts(model, x, "tail.1")
    blurred = blur_image(x, 0.22).numpy()
    expected = np.stack([slow.groupcam(A[n], g[n], x[n].numpy(), blurred[n], score, 3, 0.5) for n in range(2)])
    for chunk in (None, 1, 5):
        close(
            explain(model, x, method=GroupCAM(groups=3, quantile=0.5), layer="tail.1", target=1, chunk=chunk), expected
        )


def test_blur_keeps_constants_and_means_and_any_rank():
    for rank in (1, 2, 3):
        x = images(rank, rows=1, dtype=torch.float64)
        flat = torch.full_like(x, 0.3)
        torch.testing.assert_close(blur_image(flat, 0.4), flat)
        assert blur_image(x, 0.4).std() < x.std()
    assert blur_image(torch.ones(1, 1, 1, 5), 2.0).shape == (1, 1, 1, 5)


def test_the_cheap_pass_is_exact_with_scores_that_are_functions():
    model, x = curved(), images(rows=3, dtype=torch.float64)
    for method in ("ablationcam", "scorecam"):
        expected = explain(model, x, method=method, layer="tail.1", target=1)
        by_function = explain(model, x, method=method, layer="tail.1", target=lambda out: out[:, 1])
        close(by_function, expected.raw.numpy())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScoreCAM(softmax="both"), "`softmax` must be one of"),
        (lambda: SSCAM(samples=0), "`samples` must be at least 1"),
        (lambda: SSCAM(noise="both"), "`noise` must be one of"),
        (lambda: SSCAM(sigma=-1.0), "`sigma` must lie in"),
        (lambda: ISCAM(samples=0), "`samples` must be at least 1"),
        (lambda: GroupCAM(groups=0), "`groups` must be at least 1"),
        (lambda: GroupCAM(quantile=1.0), "`quantile` must lie in"),
        (lambda: GroupCAM(blur=0.0), "`blur` must lie in"),
    ],
)
def test_wrong_constants_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_progress_bar_is_shown_only_if_asked_for(capsys):
    model, x = curved(), images(rows=1, dtype=torch.float64)
    explain(model, x, method="scorecam", layer="tail.1", target=1)
    quiet = explain(model, x, method="scorecam", layer="tail.1", target=1, progress=True)
    assert quiet.maps.shape == (1, 11, 14)
    assert capsys.readouterr().out == ""
