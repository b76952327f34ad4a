"""
Draw sketches from labels
=========================

A conditional GAN draws what its label asks for. This page trains one for a few seconds, on drawings that are generated
on the spot, and then looks at one that was trained for longer and comes with the package.
"""

import tempfile

import numpy as np
import torch

from cvkit import gan

# %%
# Data
# ----
# A data set is anything with uint8 images, integer labels and class names. Here, three everyday things, drawn with a
# hand's wobble, in the format of Quick, Draw!; `cvkit.gan.quickdraw.load` reads the official files.
drawings = gan.quickdraw.generate(["sun", "envelope", "ladder"], 200, rng=np.random.default_rng(0))
rows = np.concatenate([np.flatnonzero(drawings.labels == k)[:10] for k in range(3)])
figure_data = gan.sample_sheet(drawings.images[rows], drawings.names, invert=True)

# %%
# A short training
# ----------------
# A recipe is a frozen record; ``preset`` changes settings by name and refuses unknown ones. The run writes checkpoints,
# a log and sheets of samples into its folder, and goes on from there when called again.
recipe = gan.preset("sketch28", generator_width=32, generator_max_width=64, generator_blocks=0, discriminator_width=16)
with tempfile.TemporaryDirectory() as folder:
    run = gan.fit(drawings, model=recipe, out=folder, steps=80, sheet_every=None, log_every=20, progress=False)
samples = run.model.sample(["sun", "envelope", "ladder"], n=10, generator=torch.Generator().manual_seed(1))
figure_short = gan.sample_sheet(samples.numpy(), drawings.names, invert=True)

# %%
# After five thousand images, shapes appear. The log tells how training goes: ``spread`` is how much generated
# drawings of a class differ, relative to real ones. Near 0, the generator draws one picture a class, however good
# it may look; `cvkit.gan.diagnose` says so.
for row in run.history:
    print(f"step {row['step']}: spread {row['spread']:.2f}, discriminator's loss {row['loss_discriminator']:.2f}")

# %%
# The shipped generator
# ---------------------
# The same recipe, trained for longer on nine classes of real drawings (Quick, Draw! by Google, CC BY 4.0). Labels
# are names or indices; images come in the order asked for, as bytes.
sketches = gan.pretrained("sketch9")
samples = sketches.sample(list(sketches.names), n=12, generator=torch.Generator().manual_seed(7))
figure_sketches = gan.sample_sheet(samples.numpy(), sketches.names, invert=True)

# %%
# Truncation makes drawings more typical and less different:
samples = sketches.sample(["cat"] * 3 + ["fish"] * 3, n=12, truncation=0.5, generator=torch.Generator().manual_seed(7))
figure_truncated = gan.sample_sheet(samples.numpy(), ["cat", "", "", "fish", "", ""], invert=True)

# %%
# On a walk between latents each step is a drawing too:
walks = sketches.interpolate("apple", "apple", steps=12, n=3, generator=torch.Generator().manual_seed(2))
figure_walks = gan.sample_sheet(walks.numpy(), columns=12, invert=True)
