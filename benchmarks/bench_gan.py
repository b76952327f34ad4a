"""Measures and readers of `cvkit.gan` beside peers: ``python benchmarks/bench_gan.py [--write] [--quick]``.

Peers: torchmetrics (Fréchet distance by the eigenvalues of the product), SciPy's matrix root as pytorch-fid takes it,
prdc, and for reading and drawing what a user writes by hand: json and NumPy; Pillow at full size, reduced.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from rows import Row, measure, report

from cvkit.gan import metrics, quickdraw


def scipy_frechet(a, b):
    import scipy.linalg

    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(ca @ cb)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * np.trace(root).real


def torchmetrics_frechet(a, b):
    from torchmetrics.image.fid import _compute_fid

    x, y = torch.from_numpy(a).double(), torch.from_numpy(b).double()
    return float(_compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()))


def torchmetrics_kernel(a, b):
    from torchmetrics.image.kid import poly_mmd

    return float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b)))


def prdc(a, b):
    from prdc import compute_prdc

    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        return compute_prdc(a, b, nearest_k=5)
    finally:
        sys.stdout = stdout


def all_four(a, b):
    return metrics.precision_recall(a, b, k=5), metrics.density_coverage(a, b, k=5)


def ndjson_by_hand(path):
    with path.open() as file:
        return [[np.array(stroke[:2]).T for stroke in json.loads(line)["drawing"]] for line in file]


def binary_by_hand(path):
    drawings, raw, at = [], path.read_bytes(), 0
    while at < len(raw):
        count = struct.unpack_from("<Q2sbIH", raw, at)[4]
        at += 17
        strokes = []
        for _ in range(count):
            (points,) = struct.unpack_from("<H", raw, at)
            xs = struct.unpack_from(f"{points}B", raw, at + 2)
            ys = struct.unpack_from(f"{points}B", raw, at + 2 + points)
            strokes.append(np.array([xs, ys]).T)
            at += 2 + 2 * points
        drawings.append(strokes)
    return drawings


def pillow_bitmaps(drawings):
    out = []
    for strokes in drawings:
        image = Image.new("L", (304, 304))
        draw = ImageDraw.Draw(image)
        high = np.max([stroke.max(0) for stroke in strokes], axis=0)
        for stroke in strokes:
            xy = stroke + 24 + (256 - high) / 2
            draw.line([tuple(p) for p in xy.tolist()], fill=255, width=16, joint="curve")
        out.append(np.asarray(image.resize((28, 28), Image.Resampling.BOX)))
    return np.stack(out)


def measures(n, d, rounds) -> list[Row]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(d, d)).astype(np.float32) / d**0.5
    a, b = (rng.normal(size=(n, d)).astype(np.float32) @ mix + shift for shift in (0, 0.02))
    size = f"{n}x{d}"
    rows = measure("Fréchet distance", size, lambda: metrics.frechet_distance(a, b),
                   {"scipy sqrtm": lambda: scipy_frechet(a, b), "torchmetrics": lambda: torchmetrics_frechet(a, b)},
                   rounds=rounds)  # fmt: skip
    rows += measure("kernel distance, all rows", size, lambda: metrics.kernel_distance(a, b),
                    {"torchmetrics": lambda: torchmetrics_kernel(a, b)}, rounds=rounds)  # fmt: skip
    rows += measure("P, R, density, coverage", size, lambda: all_four(a, b), {"prdc": lambda: prdc(a, b)},
                    rounds=rounds, note="prdc holds all distances")  # fmt: skip
    return rows


def readers(n, rounds) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        quickdraw.write_generated(folder, ["house", "flower"], n // 2, formats=["simplified"])
        path = Path(folder, "simplified", "house.ndjson")
        drawings = list(quickdraw.iter_ndjson(path))
        strokes = quickdraw.StrokeSet.of(drawings)
        plain = list(strokes)
        count = len(drawings)
        rows += measure("read ndjson, checked", f"{count} drawings", lambda: list(quickdraw.iter_ndjson(path)),
                        {"json and NumPy": lambda: ndjson_by_hand(path)}, rounds=rounds)  # fmt: skip
        quickdraw.write_binary(Path(folder, "house.bin"), drawings)
        binary = Path(folder, "house.bin")
        rows += measure("read bin, checked", f"{count} drawings", lambda: list(quickdraw.iter_binary(binary)),
                        {"struct, by hand": lambda: binary_by_hand(binary)}, rounds=rounds)  # fmt: skip
        rows += measure("rasterise", f"{count} drawings", lambda: quickdraw.rasterize(strokes),
                        {"Pillow, reduced": lambda: pillow_bitmaps(plain)}, rounds=rounds,
                        note="Pillow's ends are square and its joins rough")  # fmt: skip
    return [
        replace(row, note=f"{count / row.ours_ms * 1e3:,.0f} drawings a second. {row.note}".strip()) for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a fifth of the size, one round")
    options = parser.parse_args()
    n, rounds = (2000, 1) if options.quick else (10_000, 3)
    rows = measures(n, 512 if not options.quick else 128, rounds) + readers(2000 if options.quick else 6000, rounds + 2)
    report(rows, "gan", write=options.write)


if __name__ == "__main__":
    main()
