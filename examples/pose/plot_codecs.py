"""
How far off a decoder is, and where
===================================

A codec turns places into heatmaps and heatmaps back into places. Here is what is lost on the way, for a joint at
every place of the picture: dark is exact, bright is two pixels off.
"""

# %%
# A picture of 64 x 64 pixels has heatmaps of 16 x 16. We put a joint at 96 x 96 places, from the outermost corner to
# the other, and ask five decoders where it was.

import numpy as np
import torch

from cvkit import pose
from cvkit.imgops import apply_colormap, contact_sheet

side, places = 64, 96
line = torch.linspace(-0.45, side - 0.55, places)
points = torch.cartesian_prod(line, line).flip(-1)[:, None]  # (x, y), row by row
decoders = ["argmax", "quarter", "dark", "taylor", "fit"]


def error_map(codec, noise=0.0):
    """Return the distance between each place and what is decoded, in input pixels, as a picture."""
    outputs = codec.ideal_output(codec.encode(points))
    if noise:
        generator = torch.Generator().manual_seed(0)
        outputs = outputs + noise * torch.randn(outputs.shape, generator=generator)
    found = codec.decode(outputs).keypoints
    return (found - points).norm(dim=-1).reshape(places, places).numpy()


def sheet(maps, labels):
    """Show error maps on one scale, and the scale itself: 0 to 2 pixels."""
    ramp = np.tile(np.linspace(0, 2, places), (places, 1))
    pictures = [apply_colormap(np.clip(m * 127.5, 0, 255).astype(np.uint8)) for m in (*maps, ramp)]
    texts = [f"{label}: {m.mean():.3f} px" for label, m in zip(labels, maps, strict=True)]
    return contact_sheet(pictures, columns=6, labels=[*texts, "scale: 0 to 2 px"], scale=2)


# %%
# Without noise
# -------------
# The highest pixel alone is right in the middle of each heatmap pixel and two pixels off at its corners. A quarter
# pixel towards the higher neighbour halves that, except at the border. The last three are exact everywhere. Below
# each map stands its mean, in pixels of the picture.

codecs = [pose.GaussianCodec((side, side), (16, 16), sigma=1.5, decoder=decoder) for decoder in decoders]
clean = [error_map(codec) for codec in codecs]
figure_clean = sheet(clean, decoders)

# %%
# With noise
# ----------
# Networks don't give perfect Gaussians. With noise of 0.01 the Taylor step, which reads nine pixels, wavers. DARK blurs
# the map first, and is calm where it can: only in the square in the middle, since a blur that reaches over the border
# would move the peak. The fit reads twenty-five pixels, weighs each by how much of it is signal, and needs no margin.

noisy = [error_map(codec, 0.01) for codec in codecs]
figure_noisy = sheet(noisy, decoders)

for decoder, a, b in zip(decoders, clean, noisy, strict=True):
    print(f"{decoder:8} mean {a.mean():.4f}  largest {a.max():.4f}", end="   ")
    print(f"with noise: mean {b.mean():.3f}  largest {b.max():.3f}")

# %%
# Other codecs
# ------------
# The mean of a map (`IntegralCodec`) can be trained end to end, but is drawn inside where the border cuts the map.
# Offsets (`UDPCodec`) and two classifications (`SimCCCodec`) are exact up to the border; a blurred single pixel
# (`OneHotCodec`) has forgotten where in the pixel the joint was.

others = {
    "softmax": pose.SoftmaxCodec((side, side), (16, 16)),
    "integral": pose.IntegralCodec((side, side), (16, 16)),
    "UDP": pose.UDPCodec((side, side), (16, 16), radius=2.0),
    "SimCC": pose.SimCCCodec((side, side)),
    "one-hot": pose.OneHotCodec((side, side), (16, 16), sigma=1.5, splat="nearest"),
}
figure_others = sheet([error_map(codec) for codec in others.values()], list(others))
