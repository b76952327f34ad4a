"""What each trick of `cvkit.gan.fit` buys: one step of the recipe beside the same step without one trick.

    OMP_NUM_THREADS=2 python benchmarks/bench_gan_training.py [--write]

Data are generated; quality is not measured here (docs/explanation/gan_recipe.rst). A row's ratio is time with the trick
over time without it; `note` gives images a second with it and without it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from rows import measure, report
from torch.utils.data import DataLoader, Dataset

from cvkit import gan, training
from cvkit.gan.step import gan_step

BATCH = gan.PRESETS["sketch28"].batch_size
CLASSES = 9
RNG = np.random.default_rng(0)
IMAGES = np.where(RNG.random((4000, 1, 28, 28)) < 0.26, RNG.integers(0, 256, (4000, 1, 28, 28)), 0).astype(np.uint8)
LABELS = RNG.integers(0, CLASSES, 4000)


@dataclass(frozen=True)
class Tricks:
    """Which tricks are on."""

    fused: bool = True
    channels_last: bool = True
    shared_fakes: bool = True
    one_pass: bool = True
    lazy: bool = True
    no_sync: bool = True
    in_memory: bool = True
    precision: str = "float32"


class Pictures(Dataset):
    """One Pillow image an item, as training scripts have it."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = Image.fromarray(IMAGES[index, 0]).resize((28, 28))
        return torch.from_numpy(np.array(picture))[None], int(LABELS[index])


def start(tricks: Tricks, recipe: gan.Preset) -> training.State:
    shape = {"channels": 1, "size": (28, 28)}
    generator = gan.Generator(
        CLASSES, latent_size=recipe.latent_size, width=recipe.generator_width, max_width=recipe.generator_max_width,
        blocks=recipe.generator_blocks, headroom=recipe.headroom, **shape,
    )  # fmt: skip
    discriminator = gan.Discriminator(
        CLASSES, width=recipe.discriminator_width, max_width=recipe.discriminator_max_width,
        spectral_norm=recipe.spectral_norm, **shape,
    )  # fmt: skip
    if tricks.channels_last:
        generator.to(memory_format=torch.channels_last)
        discriminator.to(memory_format=torch.channels_last)
    modules = {"generator": generator.train(), "discriminator": discriminator.train()}
    return training.State(
        modules=modules,
        optimizers={
            name: torch.optim.Adam(
                m.parameters(),
                lr=1e-3,
                betas=recipe.betas,
                fused=tricks.fused,
                foreach=False if not tricks.fused else None,
            )
            for name, m in modules.items()
        },
        averages={"generator": training.Average(generator)},
        batch_size=BATCH,
        precision=tricks.precision,
    )


def plain_step(tricks: Tricks, recipe: gan.Preset, state: training.State, batch: dict[str, torch.Tensor]) -> None:
    """The step without shared fakes and without the common pass, as most scripts write it."""
    loss = gan.LOSSES[recipe.loss]
    generator, discriminator = state.modules["generator"], state.modules["discriminator"]
    real, labels = gan.to_signed(batch["images"]), batch["labels"]
    fake = generator(torch.randn(BATCH, recipe.latent_size), labels)
    if tricks.one_pass:
        logits = discriminator(torch.cat([real, fake.detach()]), torch.cat([labels, labels])).chunk(2)
    else:
        logits = discriminator(real, labels), discriminator(fake.detach(), labels)
    objective = loss.discriminator(*logits)
    if recipe.penalized and state.step % recipe.penalty_interval == 0:
        score = lambda x: discriminator(x, labels)  # noqa: E731
        penalty = gan.r1_penalty(score, real, gamma=recipe.r1) + gan.r2_penalty(score, fake, gamma=recipe.r2)
        objective = objective + recipe.penalty_interval * penalty
    training.update(state, "discriminator", objective)
    if not tricks.shared_fakes:
        fake = generator(torch.randn(BATCH, recipe.latent_size), labels)
    with torch.no_grad():
        real_logits = discriminator(real, labels)
    training.update(state, "generator", loss.generator(real_logits, discriminator(fake, labels)))
    state.averages["generator"].update(generator, decay=0.99)


def stepper(tricks: Tricks) -> object:
    """Return a call that trains for four steps, one round of the lazy penalties."""
    recipe = gan.PRESETS["sketch28"]
    if not tricks.lazy:
        recipe = replace(recipe, penalty_interval=1)
    state = start(tricks, recipe)
    step = gan_step(recipe, classes=CLASSES)
    held = training.InMemory({"images": IMAGES, "labels": LABELS})
    order = training.ResumableSampler(len(held), BATCH)
    loader = iter(DataLoader(Pictures(), BATCH, shuffle=True, drop_last=True))

    def batch() -> dict[str, torch.Tensor]:
        nonlocal loader
        if tricks.in_memory:
            return held(order.indices(state.step))
        images, labels = next(loader, (None, None))
        if images is None:
            loader = iter(DataLoader(Pictures(), BATCH, shuffle=True, drop_last=True))
            images, labels = next(loader)
        return {"images": images, "labels": labels}

    def run() -> None:
        for _ in range(4):
            if tricks.shared_fakes and tricks.one_pass:
                metrics = step(state, batch())
                if not tricks.no_sync:
                    print(*(float(value) for value in metrics.values()), file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
            else:
                plain_step(tricks, recipe, state, batch())
            state.step += 1

    return run


def main() -> None:
    torch.manual_seed(0)
    everything = Tricks()
    without = {
        "a second batch of fakes": replace(everything, shared_fakes=False),
        "separate passes for real and fake": replace(everything, one_pass=False),
        "contiguous instead of channels last": replace(everything, channels_last=False),
        "unfused Adam": replace(everything, fused=False),
        "penalties every step": replace(everything, lazy=False),
        "metrics read every step": replace(everything, no_sync=False),
        "DataLoader over Pillow images": replace(everything, in_memory=False),
        "bfloat16 (not a default)": replace(everything, precision="bfloat16"),
        "none of the tricks": Tricks(
            fused=False, channels_last=False, shared_fakes=False, one_pass=False, lazy=False, in_memory=False
        ),
    }
    size = f"4 x {BATCH}"
    rows = measure(
        "gan training step", size, stepper(everything), {k: stepper(v) for k, v in without.items()}, rounds=7
    )
    rows = [
        replace(row, note=f"{4 * BATCH / row.ours_ms * 1e3:.0f} img/s against {4 * BATCH / row.peer_ms * 1e3:.0f}")
        for row in rows
    ]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    report(rows, "gan_training", write="--write" in sys.argv)


if __name__ == "__main__":
    main()
