"""Build one self-contained HTML page: pictures as data URIs, curves as inline SVG; no script, no request, no link.

Every text is escaped: the functions take plain strings and return `Block`, and whatever is not a `Block` counts as
text. The page reads on a phone, in print, and in light and dark.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from typing import TYPE_CHECKING

from cvkit._checks import check_integer
from cvkit.io import to_pillow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cvkit._types import Image

__all__ = ["Block", "code", "details", "figure", "heading", "line_plot", "page", "paragraph", "row", "table"]


class Block(str):
    """A piece of finished HTML."""

    __slots__ = ()


_DASHES = ("", "6 3", "2 2", "8 2 2 2", "4 4", "1 3")  # keep curves apart in print

# The curves' colours are Okabe and Ito's, which stay apart for colour-blind readers.
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --faint: #62676d; --line: #d5d8dc; --paper: #fff; --shade: #f4f5f6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7e9; --faint: #a3a8ae; --line: #43474c; --paper: #17191b; --shade: #212427; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2.2rem 0 0.6rem; }
h1 { font-size: 1.8rem; margin-top: 0; }
h2 { font-size: 1.35rem; border-top: 1px solid var(--line); padding-top: 1.4rem; }
h3 { font-size: 1.1rem; }
p { margin: 0.6rem 0; max-width: 44rem; }
figure { margin: 1rem 0; min-width: 0; }
figure img, figure svg { display: block; max-width: 100%; height: auto; }
img.small { image-rendering: pixelated; }
figcaption { color: var(--faint); font-size: 0.875rem; margin-top: 0.35rem; max-width: 44rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); gap: 1rem;
  align-items: start; }
.row figure { margin: 0.5rem 0; }
.row figure img { width: 100%; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9375rem; }
caption { text-align: left; color: var(--faint); font-size: 0.875rem; padding-bottom: 0.35rem; }
th, td { padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; }
th.n, td.n { text-align: right; }
pre { background: var(--shade); padding: 0.7rem 0.9rem; overflow-x: auto; font-size: 0.85rem; border-radius: 4px; }
details { margin: 1rem 0; border-left: 3px solid var(--line); padding-left: 0.9rem; }
summary { cursor: pointer; font-weight: 600; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .grid { stroke: var(--line); stroke-width: 1; }
.c0 { stroke: #0072b2; }
.c1 { stroke: #d55e00; }
.c2 { stroke: #009e73; }
.c3 { stroke: #cc79a7; }
.c4 { stroke: #e69f00; }
.c5 { stroke: #56b4e9; }
@media (prefers-color-scheme: dark) {
  .c0 { stroke: #4ba6de; }
  .c1 { stroke: #ee7f33; }
  .c5 { stroke: #9adcff; }
}
@media print {
  :root { --ink: #000; --faint: #333; --line: #999; --paper: #fff; --shade: #eee; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  figure, table, pre { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  pre { white-space: pre-wrap; }
  .wide { overflow: visible; }
}
"""


def page(title: str, *blocks: str) -> str:
    """Return a whole HTML document; anything but a `Block` becomes a paragraph of text.

    Examples
    --------
    >>> "&lt;b&gt;" in page("A page", "<b>")
    True
    """
    body = "\n".join(block if isinstance(block, Block) else paragraph(block) for block in blocks)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> Block:
    """Return a heading of level 2 to 4."""
    level = check_integer("level", level, minimum=2, maximum=4)
    return Block(f"<h{level}>{_text(text)}</h{level}>")


def paragraph(text: str) -> Block:
    """Return a paragraph."""
    return Block(f"<p>{_text(text)}</p>")


def code(text: str) -> Block:
    """Return preformatted text, such as a command."""
    return Block(f"<pre><code>{_text(text)}</code></pre>")


def figure(image: Image, caption: str = "", *, alt: str | None = None) -> Block:
    """Return a picture with its caption; small pictures are shown enlarged with hard pixels.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        See `cvkit.io.to_pillow`.
    caption : str, optional
        Shown below.
    alt : str, optional
        For readers who cannot see the picture; the caption by default.
    """
    picture = to_pillow(image)
    if picture.mode not in {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}:
        picture = picture.convert("RGB")
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    width, height = picture.size
    zoom = max(1, 192 // max(width, height))
    kind = ' class="small"' if zoom > 1 else ""
    return _captioned(
        f'<img{kind} src="data:image/png;base64,{data}" width="{width * zoom}" height="{height * zoom}" '
        f'alt="{_text(caption if alt is None else alt)}">',
        caption,
    )


def row(*blocks: str) -> Block:
    """Return figures (or other blocks) side by side, as many as the screen holds."""
    inner = "\n".join(block if isinstance(block, Block) else paragraph(block) for block in blocks)
    return Block(f'<div class="row">\n{inner}\n</div>')


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str = "") -> Block:
    """Return a table; numbers are aligned right and floats shown with four digits.

    Examples
    --------
    >>> print(table(["name", "share"], [["cat", 0.25]]))
    <div class="wide"><table>
    <thead><tr><th scope="col">name</th><th scope="col" class="n">share</th></tr></thead>
    <tbody>
    <tr><td>cat</td><td class="n">0.25</td></tr>
    </tbody></table></div>
    """
    lines = [list(line) for line in rows]
    for line in lines:
        if len(line) != len(head):
            raise ValueError(f"`rows` must have {len(head)} cells each, as `head`; got {len(line)}")
    numeric = [bool(lines) and all(_is_number(line[i]) for line in lines) for i in range(len(head))]
    top = "".join(f'<th scope="col"{_right(n)}>{_text(cell)}</th>' for cell, n in zip(head, numeric, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{_right(_is_number(cell))}>{_text(_shown(cell))}</td>" for cell in line) + "</tr>"
        for line in lines
    )
    title = f"<caption>{_text(caption)}</caption>\n" if caption else ""
    return Block(
        f'<div class="wide"><table>\n{title}<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def details(summary: str, *blocks: str) -> Block:
    """Return blocks that are folded away under a line of text."""
    inner = "\n".join(block if isinstance(block, Block) else paragraph(block) for block in blocks)
    return Block(f"<details>\n<summary>{_text(summary)}</summary>\n{inner}\n</details>")


def line_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    caption: str = "",
    *,
    x_label: str = "",
    y_label: str = "",
) -> Block:
    """Return curves as an inline SVG; values that are not finite leave a gap.

    Parameters
    ----------
    series : mapping of str to (x values, y values)
        Curves by name, drawn in order.
    caption : str, optional
        Shown below.
    x_label, y_label : str, optional
        What the axes count.
    """
    width, height, left, top, bottom = 480, 270, 52, 26, 46
    right = 136 if len(series) > 1 else 12  # room for the names
    points = {name: _finite(name, xs, ys) for name, (xs, ys) in series.items()}
    places = [point for runs in points.values() for run in runs for point in run]
    x_low, x_high, x_ticks = _axis([x for x, _ in places], 6)
    y_low, y_high, y_ticks = _axis([y for _, y in places], 5)

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / (x_high - x_low), (y - y_low) / (y_high - y_low)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = []
    for tick in y_ticks:
        _, y = at(x_low, tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, _ = at(tick, y_low)
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{_text(x_label)}</text>'
    )
    parts.append(f'<text x="{left}" y="14">{_text(y_label)}</text>')
    for i, (name, runs) in enumerate(points.items()):
        look = f'class="c{i % len(_DASHES)}" stroke-dasharray="{_DASHES[i % len(_DASHES)]}"'
        for run in runs:
            path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in run)
            # A single point would draw nothing as a line.
            path = f"{path} {path}" if len(run) == 1 else path
            parts.append(f'<polyline fill="none" stroke-width="2" stroke-linecap="round" {look} points="{path}"/>')
        if len(series) > 1:
            y = top + 10 + 18 * i
            parts.append(f'<line x1="{width - 126}" x2="{width - 104}" y1="{y}" y2="{y}" stroke-width="2" {look}/>')
            parts.append(
                f'<text x="{width - 98}" y="{y + 4}">{_text(name if len(name) < 16 else name[:14] + "…")}</text>'
            )
    names = _text(", ".join(series) or "no curves")
    inner = "\n".join(parts)
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return _captioned(f'<svg {box} role="img" aria-label="{names}">\n{inner}\n</svg>', caption)


def _captioned(inner: str, caption: str) -> Block:
    below = f"\n<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return Block(f"<figure>\n{inner}{below}\n</figure>")


def _text(value: object) -> str:
    """Escape a text; characters that HTML or UTF-8 cannot hold become the replacement character."""
    plain = str(value).encode("utf-8", "replace").decode("utf-8")
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", plain), quote=True)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _shown(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _right(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _finite(name: str, xs: Sequence[float], ys: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Return a curve as runs of finite points."""
    if len(xs) != len(ys):
        raise ValueError(f"`series[{name!r}]` must have as many x as y values; got {len(xs)} and {len(ys)}")
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(map(float, xs), map(float, ys), strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _axis(values: Sequence[float], wanted: int) -> tuple[float, float, list[float]]:
    """Return the ends of an axis and round ticks on it."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    step = 10.0 ** math.floor(math.log10((high - low) / wanted))
    step = next(step * m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= wanted)
    ticks = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return low, high, ticks
