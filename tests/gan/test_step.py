from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvkit import gan, training


class TinyGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 64)

    def forward(self, latents, labels):
        one_hot = F.one_hot(labels, 2).to(latents.dtype)
        return torch.tanh(self.linear(torch.cat([latents, one_hot], 1))).view(-1, 1, 8, 8)


class TinyDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(66, 1)
        self.calls = []

    def forward(self, images, labels):
        self.calls.append((len(images), torch.is_grad_enabled()))
        one_hot = F.one_hot(labels, 2).to(images.dtype)
        features = torch.cat([images.flatten(1), one_hot], 1)
        return self.linear(features).tanh()[:, 0]


def start(seed=0, batch_size=6, precision="float32", **changes):
    torch.manual_seed(seed)
    networks = {"generator": TinyGenerator(), "discriminator": TinyDiscriminator()}
    recipe = gan.preset("sketch28", **{"latent_size": 3, "warmup": 0, "r1": 0.0, "r2": 0.0, **changes})
    state = training.State(
        modules=networks,
        optimizers={name: torch.optim.Adam(module.parameters(), lr=1.0) for name, module in networks.items()},
        averages={"generator": training.Average(networks["generator"])},
        batch_size=batch_size,
        precision=precision,
    )
    return state, recipe, gan.gan_step(recipe, classes=2)


def batch(count=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return {"images": images, "labels": torch.arange(count) % 2}


def slow_step(state, recipe, data):
    """One step with separate forward passes, plain autograd and hand-made Adam, for an unpenalised recipe."""
    loss = gan.LOSSES[recipe.loss]
    generator, discriminator = state.modules["generator"], state.modules["discriminator"]
    latents = torch.randn(6, 3, generator=state.generator("latents"))
    fake = generator(latents, data["labels"])
    real = data["images"].float() / 127.5 - 1
    rates = recipe.rate(6)

    def adam(module, objective, rate):
        gradients = torch.autograd.grad(objective, list(module.parameters()), retain_graph=True)
        with torch.no_grad():
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                # First step of Adam: both moments, corrected, are the gradient and its square.
                parameter -= rate * rates * gradient / (gradient.abs() + 1e-8)

    labels = data["labels"]
    adam(
        discriminator,
        loss.discriminator(discriminator(real, labels), discriminator(fake.detach(), labels)),
        recipe.discriminator_rate,
    )
    adam(
        generator,
        loss.generator(discriminator(real, labels), discriminator(fake, labels)),
        recipe.generator_rate,
    )


@pytest.mark.parametrize("loss", list(gan.LOSSES))
def test_one_step_is_what_the_equations_say(loss):
    changes = {"loss": loss, "generator_rate": 1e-3, "discriminator_rate": 2e-3, "betas": (0.0, 0.99)}
    state, recipe, step = start(**changes)
    twin, _, _ = start(**changes)
    for module in state.optimizers.values():
        module.param_groups[0]["betas"] = recipe.betas
    slow_step(twin, recipe, batch())
    step(state, batch())
    for name in ("generator", "discriminator"):
        for one, other in zip(state.modules[name].parameters(), twin.modules[name].parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_discriminator_sees_real_and_fake_in_one_pass():
    state, _, step = start(loss="hinge")
    step(state, batch())
    assert state.modules["discriminator"].calls == [(12, True), (6, True)]
    state, _, step = start(loss="relativistic")
    step(state, batch())
    assert state.modules["discriminator"].calls == [(12, True), (6, True), (6, False)]


def test_the_generator_step_leaves_no_gradient_in_the_discriminator():
    state, _, step = start(loss="hinge")
    seen = {}

    def keep(name):
        def hook(*_):
            seen[name] = [
                None if p.grad is None else p.grad.clone() for p in state.modules["discriminator"].parameters()
            ]

        return hook

    state.optimizers["discriminator"].register_step_post_hook(keep("after discriminator"))
    state.optimizers["generator"].register_step_post_hook(keep("after generator"))
    step(state, batch())
    for before, after in zip(seen["after discriminator"], seen["after generator"], strict=True):
        assert torch.equal(before, after)


def test_penalties_are_lazy_and_multiplied_by_the_interval():
    state, recipe, step = start(r1=2.0, r2=0.5, penalty_interval=3, loss="hinge")
    present = []
    for _ in range(7):
        present.append("penalty" in step(state, batch()))
        state.step += 1
    assert present == [True, False, False, True, False, False, True]

    one, _, step_one = start(r1=2.0, penalty_interval=1, loss="hinge")
    three, _, step_three = start(r1=2.0, penalty_interval=3, loss="hinge")
    bare, _, step_bare = start(loss="hinge")
    gradients = []
    for state, step in ((one, step_one), (three, step_three), (bare, step_bare)):
        step(state, batch())
        gradients.append(torch.cat([p.grad.flatten() for p in state.modules["discriminator"].parameters()]))
    torch.testing.assert_close(gradients[1] - gradients[2], 3 * (gradients[0] - gradients[2]), atol=1e-5, rtol=1e-4)
    assert recipe.penalized


def test_each_penalty_is_on_its_own_images():
    values = {}
    for name in ("r1", "r2", "gradient_penalty"):
        state, _, step = start(**{name: 1.0}, penalty_interval=1)
        metrics = step(state, batch())
        values[name] = metrics["penalty"].item()
    state, _, step = start(r1=1.0, r2=1.0, gradient_penalty=1.0, penalty_interval=1)
    assert step(state, batch())["penalty"].item() == pytest.approx(sum(values.values()), rel=1e-5)
    assert len(set(values.values())) == 3


def test_rates_follow_images_seen_and_not_steps():
    state, recipe, step = start(warmup=600, horizon=6000, rate_share=0.1, generator_rate=1e-3, discriminator_rate=3e-3)
    state.images, state.step = 294, 10**6
    step(state, batch())
    assert state.optimizers["generator"].param_groups[0]["lr"] == 1e-3 * recipe.rate(300)
    assert state.optimizers["discriminator"].param_groups[0]["lr"] == 3e-3 * recipe.rate(300)


def test_the_average_follows_with_its_half_life():
    state, _, step = start(half_life=6, half_life_ramp=1e9, generator_rate=1e-2)
    before = [p.clone() for p in state.averages["generator"].module.parameters()]
    step(state, batch())
    live = state.modules["generator"].parameters()
    for old, new, averaged in zip(before, live, state.averages["generator"].module.parameters(), strict=True):
        torch.testing.assert_close(averaged, 0.5 * old + 0.5 * new)


@pytest.mark.fault("mit-han-lab/data-efficient-gans#84")
def test_augmentation_meets_real_and_fake_images_in_both_steps():
    class Counting(gan.DiffAugment):
        calls: list = []  # noqa: RUF012

        def __call__(self, images, draws):
            Counting.calls.append((images.requires_grad, draws.clone()))
            return super().__call__(images, draws)

    state, _, step = start(augment=Counting(translation=0.2), loss="relativistic")
    step(state, batch())
    kinds = [call[0] for call in Counting.calls]
    draws = [call[1] for call in Counting.calls]
    assert kinds == [False, False, True, False]
    assert torch.equal(draws[0], draws[1])  # a pair gets one augmentation,
    assert torch.equal(draws[2], draws[3])
    assert not torch.equal(draws[0], draws[2])  # the generator's step another


def test_a_step_depends_on_seed_and_step_alone():
    state, _, step = start(r1=1.0, augment=gan.DiffAugment())
    twin, _, twin_step = start(r1=1.0, augment=gan.DiffAugment())
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first = step(state, batch())
    assert torch.equal(torch.get_rng_state(), before)
    second = twin_step(twin, batch())
    assert all(torch.equal(first[name], second[name]) for name in first)
    twin, _, twin_step = start(r1=1.0, augment=gan.DiffAugment())
    twin.step = 4
    assert not torch.equal(twin_step(twin, batch())["loss_generator"], first["loss_generator"])


def test_metrics_are_named_finite_and_hold_no_graph():
    state, _, step = start(r1=1.0)
    metrics = step(state, batch())
    assert set(metrics) == {
        "loss_discriminator", "loss_generator", "logit_real", "logit_fake", "penalty", "spread",
        "gradient_discriminator", "gradient_generator",
    }  # fmt: skip
    for value in metrics.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert math.isfinite(value.item())


@pytest.mark.fault("POSTECH-CVLab/PyTorch-StudioGAN#175")
@pytest.mark.filterwarnings("ignore:cpu emulates bfloat16")
def test_penalties_stay_in_full_precision_under_autocast():
    exact, _, exact_step = start(r1=1.0, gradient_penalty=1.0, penalty_interval=1)
    low, _, low_step = start(r1=1.0, gradient_penalty=1.0, penalty_interval=1, precision="bfloat16")
    expected, got = exact_step(exact, batch()), low_step(low, batch())
    assert got["penalty"].dtype == torch.float32
    # Only the generated images in it were drawn in low precision.
    assert got["penalty"].item() == pytest.approx(expected["penalty"].item(), rel=1e-3)
    for _ in range(30):
        low.step += 1
        metrics = low_step(low, batch())
    assert all(math.isfinite(value.item()) for value in metrics.values())
