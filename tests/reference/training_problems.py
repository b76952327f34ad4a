"""Small runs that the tests of `cvkit.training` share: a GAN with all that a state can hold, and a line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from cvkit import training

BATCH, LENGTH, FEATURES = 6, 20, 12


def fill(modules, seed=0):
    """Give parameters and buffers values that depend on the seed alone."""
    for i, tensor in enumerate(tensor for m in modules for tensor in (*m.parameters(), *m.buffers())):
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=training.generator(seed, i, "weights"))
            with torch.no_grad():
                tensor.copy_(0.3 * values)
    for module in (part for m in modules for part in m.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
        module.running_var.abs_().add_(0.5)


def quiet_init(build):
    """Build modules without moving the global random generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def gan_state(world=None, *, seed=0, batch_size=BATCH, batch_norm=True, fused=True):
    """Two networks, two optimisers of different kinds, an average, a scheduler, a number and a tensor."""
    norm = nn.BatchNorm1d(8) if batch_norm else nn.Identity()
    g, d = quiet_init(
        lambda: (
            nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), nn.Linear(8, FEATURES)),
            nn.Sequential(
                nn.utils.parametrizations.spectral_norm(nn.Linear(FEATURES, 8)),
                nn.ReLU(),
                nn.Dropout(0.0),
                nn.Linear(8, 1),
            ),
        )
    )
    fill([g, d], seed)
    adam = torch.optim.Adam(d.parameters(), lr=1e-2, betas=(0.0, 0.9), fused=fused)
    sgd = torch.optim.SGD(g.parameters(), lr=1e-2, momentum=0.9)
    return training.State(
        modules={"generator": g, "discriminator": d},
        optimizers={"generator": sgd, "discriminator": adam},
        averages={"generator": training.Average(g)},
        schedules={"generator": torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=100)},
        tensors={"sign": torch.zeros(())},
        numbers={"p": 0.0},
        seed=seed,
        batch_size=batch_size,
        world=world or training.World(),
    )


def gan_step(state, batch):
    """One update of each network, with augmentation noise and running statistics."""
    g, d = state.modules["generator"], state.modules["discriminator"]
    latents = state.share(torch.randn(state.batch_size, 4, generator=state.generator("latents")))
    noise = state.share(torch.randn(state.batch_size, FEATURES, generator=state.generator("noise")))
    real = batch["x"] + state.numbers["p"] * noise
    logits = d(torch.cat([real, g(latents).detach()]))
    real_logits, fake_logits = logits.chunk(2)
    on_d = training.update(state, "discriminator", F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())
    on_g = training.update(state, "generator", F.softplus(-d(g(latents))).mean(), clip=1.0)
    state.schedules["generator"].step()
    state.averages["generator"].update(g, decay=0.9)
    state.tensors["sign"].lerp_(state.world.mean(real_logits.sign().mean()), 0.1)
    state.numbers["p"] += 0.01
    return {"d": on_d.loss, "g": on_g.loss, "sign": state.tensors["sign"], "norm": on_g.gradient_norm}


def gan_batches(world=None, *, seed=0, batch_size=BATCH, length=LENGTH):
    data = training.InMemory({"x": torch.randn(length, FEATURES, generator=training.generator(seed, 0, "data"))})
    return training.Sampled(training.ResumableSampler(length, batch_size, seed=seed), data, world or training.World())


def gan_fit(out, steps, *, state=None, step=gan_step, **options):
    """Fit the small GAN; log every 3 steps and save every 4 unless told otherwise."""
    state = state or gan_state()
    options = {"log_every": 3, "checkpoint_every": 4, "progress": False, **options}
    batches = options.pop("batches", None) or gan_batches(state.world, seed=state.seed, batch_size=state.batch_size)
    model = state.averages["generator"].module
    return training.train(state, step, batches, model=model, out=out, steps=steps, **options)


def line_state(*, lr=0.1, seed=0, batch_size=4, dtype=torch.float32, optimizer=torch.optim.SGD, world=None, **options):
    """One linear layer."""
    network = quiet_init(lambda: nn.Linear(3, 1).to(dtype))
    fill([network], seed)
    made = optimizer(network.parameters(), lr=lr, **options)
    return training.State({"network": network}, {"network": made}, seed=seed, batch_size=batch_size,
                          world=world or training.World())  # fmt: skip


def line_step(state, batch):
    x, y = batch
    loss = F.mse_loss(state.modules["network"](x), y)
    return {"loss": training.update(state, "network", loss).loss}


def line_batches(start):
    """Batches that depend on the step alone."""
    step = start
    while True:
        x = torch.randn(4, 3, generator=training.generator(0, step, "x"))
        yield x, x.sum(1, keepdim=True)
        step += 1


def digests(run):
    """Return the SHA-256 of every file of the newest checkpoint but the manifest, which lists them."""
    checkpoint = training.find_checkpoint(run)
    files = sorted(Path(checkpoint).iterdir())
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.name != "manifest.json"}


def snapshot(state):
    """Return copies of everything in a state that numbers are made of."""
    copies = {}
    for kind, modules in (("module", state.modules), ("average", {k: a.module for k, a in state.averages.items()})):
        for name, module in modules.items():
            copies |= {f"{kind} {name} {key}": value.clone() for key, value in module.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for i, moments in optimizer.state_dict()["state"].items():
            copies |= {
                f"optimizer {name} {i} {k}": v.clone() for k, v in moments.items() if isinstance(v, torch.Tensor)
            }
    return copies


def equal(a, b):
    """Say whether two snapshots are the same bit for bit, strides too."""
    same = a.keys() == b.keys()
    return same and all(torch.equal(a[k], b[k]) and a[k].stride() == b[k].stride() for k in a)
