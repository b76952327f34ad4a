from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit._html import Block, code, details, figure, heading, line_plot, page, paragraph, row, table
from strategies import random_images

VOID = {"meta", "img", "br"}
SVG_EMPTY = {"line", "polyline"}


class Reader(HTMLParser):
    """Checks that tags are balanced and collects tags, attributes and text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG_EMPTY
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def read(document):
    reader = Reader()
    reader.feed(document)
    reader.close()
    assert not reader.open
    return reader


def whole(text="text"):
    picture = Image.new("RGB", (30, 20), (200, 30, 10))
    return page(
        text,
        text,
        heading(text),
        heading(text, 3),
        paragraph(text),
        code(text),
        row(figure(picture, text), figure(picture, alt=text), text),
        table([text, "n"], [[text, 1.5], [text, 2]], caption=text),
        details(text, text, paragraph(text)),
        line_plot({text: ([0, 1, 2], [0.0, 1.0, 0.5])}, text, x_label=text, y_label=text),
    )


@given(st.text(min_size=1))
def test_any_text_stays_text(text):
    plain, odd = read(whole()), read(whole(text))
    assert odd.tags == plain.tags
    assert [pair[:2] for pair in odd.attributes] == [pair[:2] for pair in plain.attributes]
    whole(text).encode("utf-8")


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "\" onload='x'", "&lt;", "a\0b\x1b", "\ud800", "</style><b>", "é €"]
)
def test_hostile_class_names_do_nothing(text):
    document = whole(text)
    assert read(document).tags == read(whole()).tags
    assert "<script" not in document
    assert "\0" not in document
    assert "\x1b" not in document
    document.encode("utf-8")


def test_text_is_shown_as_it_was_given():
    assert "a < b & c" in read(page("t", "a < b & c")).text


def test_page_asks_for_nothing_and_leads_nowhere():
    reader = read(whole())
    assert not {"script", "link", "iframe", "object", "embed", "form", "a", "base"} & set(reader.tags)
    for _, name, value in reader.attributes:
        assert not name.startswith("on")
        assert name not in {"href", "action", "srcset", "poster"}
        if name == "src":
            assert value.startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import|https?:", whole())
    policy = next(value for tag, name, value in reader.attributes if tag == "meta" and name == "content")
    assert "default-src 'none'" in policy


def test_page_suits_phones_paper_and_dark_rooms():
    document = whole()
    assert document.startswith("<!DOCTYPE html>")
    for part in ('name="viewport"', "@media print", "prefers-color-scheme: dark", 'lang="en"', 'charset="utf-8"'):
        assert part in document


def shown(block):
    data = re.search(r"base64,([^\"]+)", block)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@given(random_images(np.uint8, channels=st.sampled_from([None, 3, 4])))
def test_pictures_lie_in_the_page_pixel_for_pixel(image):
    np.testing.assert_array_equal(shown(figure(image)), image)
    np.testing.assert_array_equal(shown(figure(Image.fromarray(image))), image)
    tensor = torch.from_numpy(image if image.ndim == 2 else image.transpose(2, 0, 1).copy())
    np.testing.assert_array_equal(shown(figure(tensor)), image)


def test_small_pictures_are_enlarged_with_hard_pixels():
    assert 'class="small"' in figure(np.zeros((28, 28), np.uint8))
    assert 'width="168" height="168"' in figure(np.zeros((28, 28), np.uint8))
    assert 'class="small"' not in figure(np.zeros((300, 28), np.uint8))


def test_pictures_of_odd_modes_are_shown():
    assert shown(figure(Image.new("CMYK", (3, 2)))).shape == (2, 3, 3)
    assert shown(figure(np.full((2, 3), 65535, np.uint16))).max() == 65535


def test_alternative_text_defaults_to_the_caption():
    assert 'alt="a cat"' in figure(np.zeros((2, 2)), "a cat")
    assert 'alt="grey"' in figure(np.zeros((2, 2)), "a cat", alt="grey")


def test_table_aligns_numbers_and_shortens_floats():
    reader = read(page("t", table(["name", "x"], [["a", 0.123456], ["b", 12]])))
    assert ("th", "class", "n") in reader.attributes
    assert [pair for pair in reader.attributes if pair[:2] == ("td", "class")] == [("td", "class", "n")] * 2
    assert "0.1235" in reader.text
    assert "12" in reader.text


def test_table_shows_truth_and_nothing_as_text():
    text = read(page("t", table(["a", "b"], [[True, None]]))).text
    assert "True" in text
    assert "None" not in text


def test_ragged_tables_are_refused():
    with pytest.raises(ValueError, match="`rows` must have 2 cells each"):
        table(["a", "b"], [[1]])


def test_empty_tables_and_pages():
    read(page("t"))
    read(page("t", table(["a"], []), row(), details("more")))


def test_blocks_are_not_escaped_twice():
    assert page("t", details("s", Block("<p>x</p>"))).count("<p>x</p>") == 1


@pytest.mark.parametrize("level", [1, 5])
def test_headings_have_three_levels(level):
    with pytest.raises(ValueError, match="`level`"):
        heading("x", level)


def polylines(block):
    return [
        [tuple(map(float, pair.split(","))) for pair in points.split()]
        for points in re.findall(r'points="([^"]*)"', block)
    ]


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=20))
def test_curves_stay_inside_the_plot(points):
    xs, ys = zip(*points, strict=True)
    for line in polylines(line_plot({"a": (xs, ys)})):
        assert all(52 <= x <= 468 and 26 <= y <= 224 for x, y in line)


def test_larger_values_are_drawn_higher_and_further_right():
    (line,) = polylines(line_plot({"a": ([0, 1, 2], [0, 5, 10])}))
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)


def test_missing_values_leave_a_gap():
    block = line_plot({"a": ([0, 1, 2, 3, 4], [1.0, float("nan"), 2.0, 3.0, float("inf")])})
    assert [len(line) for line in polylines(block)] == [2, 2]  # a single point is drawn twice, so as to be seen
    assert "nan" not in block
    assert "inf" not in block


@pytest.mark.parametrize(
    "series", [{}, {"a": ([], [])}, {"a": ([1], [2])}, {"a": ([0, 1], [7, 7])}, {"a": ([0], [float("nan")])}]
)
def test_plots_of_little(series):
    read(page("t", line_plot(series)))


def test_several_curves_are_told_apart_by_colour_and_dash():
    block = line_plot({str(i): ([0, 1], [i, i + 1]) for i in range(7)})
    looks = re.findall(r'<polyline[^>]*class="([^"]+)" stroke-dasharray="([^"]*)"', block)
    assert len(set(looks[:6])) == 6
    assert read(page("t", block)).tags.count("polyline") == 7


def test_curves_need_as_many_x_as_y():
    with pytest.raises(ValueError, match=r"`series\['a'\]` must have as many x as y values; got 2 and 1"):
        line_plot({"a": ([1, 2], [1])})


def test_ticks_are_round_numbers():
    text = read(page("t", line_plot({"a": ([0, 1000], [0.0, 1.0])}))).text
    assert {"0", "200", "400", "600", "800", "1000", "0.2"} <= set(text)
