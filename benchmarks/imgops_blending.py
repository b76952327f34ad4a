"""Blending beside OpenCV, Pillow, blend_modes and kornia, those installed; `bench_imgops.py` collects these rows."""

from __future__ import annotations

import importlib.util
import time
import tracemalloc
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageChops
from rows import Row, measure

from cvkit import imgops

SIZES = {"512x512": (512, 512), "4000x3000": (3000, 4000)}

Peers = dict[str, Callable[[], object]]


def pictures(size: tuple[int, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    source, backdrop = rng.integers(0, 256, (2, *size, 4), dtype=np.uint8)
    opaque = backdrop.copy()
    opaque[..., 3] = 255
    mask = np.ascontiguousarray(source[..., 3])
    return {
        "rgba": source,
        "rgba_below": backdrop,
        "opaque_below": opaque,
        "rgb": np.ascontiguousarray(source[..., :3]),
        "rgb_below": np.ascontiguousarray(backdrop[..., :3]),
        "mask": mask,
        "weights": mask / np.float32(255),
    }


def opencv_pyramid_blend(first: np.ndarray, second: np.ndarray, weights: np.ndarray, levels: int) -> np.ndarray:
    """The usual recipe: two Laplacian pyramids, a Gaussian one, collapse."""

    def bands(image: np.ndarray) -> list[np.ndarray]:
        found, fine = [], image.astype(np.float32)
        for _ in range(levels):
            coarse = cv2.pyrDown(fine)
            found.append(fine - cv2.pyrUp(coarse, dstsize=fine.shape[1::-1]))
            fine = coarse
        return [*found, fine]

    masks = [weights]
    for _ in range(levels):
        masks.append(cv2.pyrDown(masks[-1]))
    mixed = [
        a * m[..., None] + b * (1 - m[..., None]) for a, b, m in zip(bands(first), bands(second), masks, strict=True)
    ]
    result = mixed.pop()
    while mixed:
        band = mixed.pop()
        result = band + cv2.pyrUp(result, dstsize=band.shape[1::-1])
    return np.clip(result, 0, 255).astype(np.uint8)


def jobs(
    p: dict[str, np.ndarray], size: tuple[int, int]
) -> list[tuple[str, Callable[[], object], Peers, dict[str, float]]]:
    """Name, our call, the peers' calls, goals of 4000x3000 as time / the peer's."""
    s, b = p["rgb"], p["rgb_below"]
    picture = {name: Image.fromarray(p[name]) for name in ("rgba", "rgba_below", "opaque_below", "rgb", "rgb_below")}
    above, below, opaque = picture["rgba"], picture["rgba_below"], picture["opaque_below"]

    def pillow_over(backdrop: Image.Image) -> Peers:
        return {"Pillow": lambda: Image.alpha_composite(backdrop, above)}

    multiply: Peers = {
        "OpenCV": lambda: cv2.multiply(s, b, scale=1 / 255),
        "Pillow": lambda: ImageChops.multiply(picture["rgb_below"], picture["rgb"]),
    }
    if importlib.util.find_spec("blend_modes") and size[0] <= 512:
        import blend_modes

        source, backdrop = p["rgba"].astype(float), p["opaque_below"].astype(float)
        multiply["blend_modes"] = lambda: blend_modes.multiply(backdrop, source, 1.0)
    gaussian: Peers = {"OpenCV": lambda: cv2.GaussianBlur(s, (0, 0), 3)}
    if importlib.util.find_spec("kornia") and size[0] <= 512:
        import kornia
        import torch

        tensor = torch.from_numpy(s).permute(2, 0, 1)[None].float() / 255
        gaussian["kornia"] = lambda: kornia.filters.gaussian_blur2d(tensor, (25, 25), (3.0, 3.0))
    soft = {"Pillow": lambda: ImageChops.soft_light(picture["rgb_below"], picture["rgb"])}
    found = [
        ("multiply", lambda: imgops.composite(s, b, mode="multiply"), multiply, {"OpenCV": 1.9}),
        ("add", lambda: imgops.composite(s, b, operator="lighter"), {"OpenCV": lambda: cv2.add(s, b)}, {"OpenCV": 1.4}),
        ("difference", lambda: imgops.composite(s, b, mode="difference"),
         {"OpenCV": lambda: cv2.absdiff(s, b)}, {"OpenCV": 1.4}),
        ("lighten", lambda: imgops.composite(s, b, mode="lighten"), {"OpenCV": lambda: cv2.max(s, b)}, {}),
        ("dissolve", lambda: imgops.dissolve(s, b, 0.3),
         {"OpenCV": lambda: cv2.addWeighted(s, 0.7, b, 0.3, 0)}, {"OpenCV": 2.6}),
        ("soft-light (any separable mode)", lambda: imgops.composite(s, b, mode="soft-light"), soft, {"Pillow": 0.35}),
        ("mask blend", lambda: imgops.composite(s, b, mask=p["mask"]),
         {"OpenCV": lambda: cv2.blendLinear(s, b, p["weights"], 1 - p["weights"])}, {"OpenCV": 1.0}),
        ("over, opaque backdrop", lambda: imgops.composite(p["rgba"], p["opaque_below"]),
         pillow_over(opaque), {"Pillow": 1.0}),
        ("over, translucent backdrop", lambda: imgops.composite(p["rgba"], p["rgba_below"]),
         pillow_over(below), {"Pillow": 3.0}),
        ("over, method='pillow'", lambda: imgops.composite(p["rgba"], p["rgba_below"], method="pillow"),
         pillow_over(below), {"Pillow": 1.1}),
        ("Gaussian, sigma 3", lambda: imgops.gaussian_blur(s, 3.0), gaussian, {"OpenCV": 2.5}),
        ("pyramid blend, 5 levels", lambda: imgops.pyramid_blend(s, b, p["weights"], levels=5),
         {"OpenCV": lambda: opencv_pyramid_blend(s, b, p["weights"], 5)}, {"OpenCV": 1.4}),
    ]  # fmt: skip
    region = np.full(size, 255, np.uint8)
    region[[0, -1]] = region[:, [0, -1]] = 0
    center = (size[1] // 2, size[0] // 2)
    clone = lambda: cv2.seamlessClone(s, b, region.copy(), center, cv2.NORMAL_CLONE)  # noqa: E731
    found.append(("Poisson", lambda: imgops.poisson_blend(s, b, region), {"OpenCV": clone}, {"OpenCV": 0.8}))
    return found


def tried(call: Callable[[], object]) -> tuple[float, float]:
    """Return a call's extra memory in MB at its peak, result included (NumPy's and Python's), and its seconds."""
    start = time.perf_counter()
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6, time.perf_counter() - start


def measured(
    job: str,
    size: str,
    ours: Callable[[], object],
    peers: Peers,
    goals: dict[str, float],
    rounds: int,
    image: np.ndarray,
) -> list[Row]:
    """Measure a job: calls of less than twenty milliseconds several on end, up to twenty."""
    peak, first = tried(ours)
    if first < 0.5:
        ours()
        start = time.perf_counter()
        ours()
        first = time.perf_counter() - start
    calls = max(1, min(20, int(0.02 / first)))
    rounds = 1 if first > 2 else rounds
    note = f"peak {peak:.0f} MB of {image.nbytes / 1e6:.1f}"
    return measure(job, size, ours, peers, rounds=rounds, calls=calls, goals=goals, note=note)


def blending_rows(rounds: dict[str, int] | None = None, only: str = "") -> list[Row]:
    """Measure the jobs at both sizes, or those with a word in their name."""
    cv2.setNumThreads(1)
    rounds = rounds or {"512x512": 15, "4000x3000": 3}
    found: list[Row] = []
    for name, size in SIZES.items():
        if not rounds.get(name):
            continue
        p = pictures(size)
        for job, ours, peers, goals in jobs(p, size):
            if only not in job:
                continue
            # The goals are for 12 million pixels; small pictures may take one and a half times as long.
            limits = {peer: goal * (1.5 if name == "512x512" else 1.0) for peer, goal in goals.items()}
            image = p["rgba" if "over" in job else "rgb"]
            found += measured(job, name, ours, peers, limits, rounds[name], image)
    return found


if __name__ == "__main__":
    from rows import report

    report(blending_rows(), "imgops_blending")
