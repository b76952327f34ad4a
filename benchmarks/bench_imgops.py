"""Histograms, tone and blending beside OpenCV, scikit-image, Pillow, kornia, torchvision, blend_modes, those installed.

    python benchmarks/bench_imgops.py [--write] [--quick] [--only WORD] [--sweeps 3]

Everything runs on one thread, ours and the peers' in turn in one process. Goals are ratios to OpenCV (or to the peer
named) at 12 million pixels; 512 x 512 may take one and a half times as long. All jobs are gone through `--sweeps`
times, each in a fresh process, and of each job the sweep with the middle ratio stands.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from imgops_blending import SIZES, blending_rows, measured
from PIL import Image, ImageOps
from rows import Row, in_processes, report

from cvkit import imgops

Peers = dict[str, Callable[[], object]]
Job = tuple[str, Callable[[], object], Peers, dict[str, float]]


def photograph(size: tuple[int, int]) -> np.ndarray:
    """A smooth, noisy picture that uses the whole range."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), dtype=np.uint8), (0, 0), 2)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)


def histogram_jobs(rgb: np.ndarray) -> list[Job]:
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    gray, wide, mask = planes[0], planes[0].astype(np.uint16) * 257, planes[1] > 127
    shown = mask.astype(np.uint8)

    def counted(plane: np.ndarray, where: np.ndarray | None = None, levels: int = 256) -> np.ndarray:
        return cv2.calcHist([plane], [0], where, [levels], [0, levels])

    photo = Image.fromarray(rgb)
    return [
        (
            "histogram RGB, interleaved",
            lambda: imgops.histogram(rgb),
            {
                "OpenCV": lambda: [cv2.calcHist([rgb], [c], None, [256], [0, 256]) for c in range(3)],
                "NumPy": lambda: [np.bincount(rgb[..., c].reshape(-1), minlength=256) for c in range(3)],
                "Pillow, packed": photo.histogram,
            },
            {"OpenCV": 1.0},
        ),
        (
            "histogram RGB, planar",
            lambda: imgops.histogram(planes, channel_axis=0),
            {"OpenCV": lambda: [counted(plane) for plane in planes]},
            {"OpenCV": 1.0},
        ),
        ("histogram grey", lambda: imgops.histogram(gray), {"OpenCV": lambda: counted(gray)}, {"OpenCV": 1.0}),
        (
            "histogram grey, masked",
            lambda: imgops.histogram(gray, mask=mask),
            {"OpenCV": lambda: counted(gray, shown)},
            {},
        ),
        (
            "histogram 16 bit, 65536 bins",
            lambda: imgops.histogram(wide),
            {"OpenCV": lambda: counted(wide, levels=65536)},
            {},
        ),
    ]


def tone_jobs(rgb: np.ndarray) -> list[Job]:
    from skimage import exposure

    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    gray = planes[0]
    table = np.floor(255 * (np.arange(256) / 255) ** 0.5 + 0.5).astype(np.uint8)
    three = np.stack([table, table[::-1], table])
    each = np.ascontiguousarray(three.T[None])
    lut, lut3 = imgops.Lut.from_table(table), imgops.Lut.from_table(three)
    adapt = cv2.createCLAHE(2.0, (8, 8))
    other = np.ascontiguousarray(rgb[::-1] // 2 + 60)
    photo = Image.fromarray(rgb)
    half = rgb.shape[0] < 1000
    jobs: list[Job] = [
        ("table, one for all", lambda: lut(rgb), {"OpenCV": lambda: cv2.LUT(rgb, table)}, {"OpenCV": 1.0}),
        ("table, one a channel", lambda: lut3(rgb), {"OpenCV": lambda: cv2.LUT(rgb, each)}, {}),
        (
            "gamma",
            lambda: imgops.gamma(rgb, 0.5),
            {"OpenCV": lambda: cv2.LUT(rgb, table), "scikit-image": lambda: exposure.adjust_gamma(rgb, 0.5)},
            {"OpenCV": 1.0},
        ),
        (
            "equalize RGB, interleaved",
            lambda: imgops.equalize(rgb),
            {
                "OpenCV": lambda: cv2.merge([cv2.equalizeHist(plane) for plane in cv2.split(rgb)]),
                "Pillow, packed": lambda: ImageOps.equalize(photo),
            },
            {"OpenCV": 1.0},
        ),
        (
            "equalize RGB, planar",
            lambda: imgops.equalize(planes, channel_axis=0),
            {"OpenCV": lambda: [cv2.equalizeHist(plane) for plane in planes]},
            {"OpenCV": 1.0},
        ),
        (
            "CLAHE grey 8x8",
            lambda: imgops.clahe(gray),
            {
                "OpenCV": lambda: adapt.apply(gray),
                **({"scikit-image": lambda: exposure.equalize_adapthist(gray)} if half else {}),
            },
            {"OpenCV": 1.6},
        ),
        (
            "match histograms RGB",
            lambda: imgops.match_histograms(rgb, other),
            {"scikit-image": lambda: exposure.match_histograms(rgb, other, channel_axis=-1)},
            {"scikit-image": 0.3},
        ),
        (
            "autocontrast RGB",
            lambda: imgops.autocontrast(rgb),
            {"Pillow, packed": lambda: ImageOps.autocontrast(photo)},
            {},
        ),
    ]
    return jobs + tensor_jobs(gray, rgb)


def tensor_jobs(gray: np.ndarray, rgb: np.ndarray) -> list[Job]:
    """Beside kornia and torchvision, where they are installed; at 512 x 512 only."""
    if rgb.shape[0] > 1000:
        return []
    import torch

    torch.set_num_threads(1)
    floats = torch.from_numpy(gray)[None, None].float() / 255
    color = torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous()
    adapt: Peers = {}
    equalize: Peers = {}
    contrast: Peers = {}
    if importlib.util.find_spec("kornia"):
        import kornia

        adapt["kornia"] = lambda: kornia.enhance.equalize_clahe(floats, 2.0, (8, 8))
        equalize["kornia"] = lambda: kornia.enhance.equalize(color.float() / 255)
    if importlib.util.find_spec("torchvision"):
        from torchvision.transforms.v2 import functional

        equalize["torchvision"] = lambda: functional.equalize(color)
        contrast["torchvision"] = lambda: functional.autocontrast(color)
    jobs: list[Job] = [
        ("CLAHE grey float tensor", lambda: imgops.clahe(floats), adapt, {}),
        ("equalize tensor", lambda: imgops.equalize(color), equalize, {}),
        ("autocontrast tensor", lambda: imgops.autocontrast(color), contrast, {}),
    ]
    return [job for job in jobs if job[2]]


def region_jobs(rgb: np.ndarray) -> list[Job]:
    negative = 255 - rgb
    mask = np.ascontiguousarray(rgb[..., 1])
    pair = [255 - mask, mask]
    first, second = 1 - mask / np.float32(255), mask / np.float32(255)
    masks = imgops.tone_masks(rgb)
    outer, middle = masks[0] + masks[2], masks[1]
    return [
        (
            "mask blend RGB, mask of bytes",
            lambda: imgops.blend_by_masks([rgb, negative], pair),
            {"OpenCV": lambda: cv2.blendLinear(rgb, negative, first, second)},
            {"OpenCV": 1.0},
        ),
        (
            "mask blend RGB, soft tone masks",
            lambda: imgops.blend_by_masks([rgb, negative], [outer, middle]),
            {"OpenCV": lambda: cv2.blendLinear(rgb, negative, outer, middle)},
            {},
        ),
    ]


def tone_rows(rounds: dict[str, int], only: str = "") -> list[Row]:
    """Measure the jobs, or those with a word in their name."""
    cv2.setNumThreads(1)
    found: list[Row] = []
    for name, size in SIZES.items():
        if not rounds.get(name):
            continue
        rgb = photograph(size)
        for job, ours, peers, goals in histogram_jobs(rgb) + tone_jobs(rgb) + region_jobs(rgb):
            if only not in job:
                continue
            limits = {peer: goal * (1.5 if name == "512x512" else 1.0) for peer, goal in goals.items()}
            found += measured(job, name, ours, peers, limits, rounds[name], rgb)
    return found


def sweep(quick: bool, only: str) -> list[Row]:
    """Measure all jobs once."""
    rounds = {"512x512": 15, "4000x3000": 0 if quick else 5}
    return tone_rows(rounds, only) + blending_rows(rounds, only)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="store the rows and the table of the docs")
    parser.add_argument("--quick", action="store_true", help="512 x 512 only")
    parser.add_argument("--only", default="", metavar="WORD", help="only the jobs with this in their name")
    parser.add_argument("--sweeps", type=int, default=3, help="how often to go through all jobs (default: 3)")
    options = parser.parse_args()
    if options.write and (options.only or options.quick):
        parser.error("--write is for all jobs at all sizes")
    report(in_processes(options.sweeps, sweep, options.quick, options.only), "imgops", write=options.write)


if __name__ == "__main__":
    main()
