"""The table of methods: what is promised is there by name, and each method says its paper and its formula."""

from __future__ import annotations

import re

import pytest

from cvkit.explain import METHODS, Method, cam
from cvkit.explain.methods import resolve_method

PROMISED = [
    "cam", "gradcam", "gradcam++", "smoothgradcam++", "xgradcam", "hirescam", "elementwise", "layercam", "eigencam",
    "eigengradcam", "kpcacam", "fem", "fullgrad", "ablationcam", "scorecam", "scorecam-class", "sscam", "iscam",
    "groupcam", "finercam", "shapleycam", "segxrescam", "refinecam", "saliency", "inputxgradient",
    "integratedgradients", "smoothgrad", "vargrad", "squaregrad", "guidedbackprop", "deconvnet", "guidedgradcam",
]  # fmt: skip


def test_what_is_promised_is_there_by_name():
    assert set(METHODS) >= set(PROMISED)
    assert all(isinstance(method, Method) for method in METHODS.values())
    assert all(resolve_method(name) is method for name, method in METHODS.items())
    with pytest.raises(TypeError):
        METHODS["mine"] = METHODS["cam"]


@pytest.mark.parametrize("name", METHODS)
def test_each_method_says_its_paper_and_its_formula(name):
    text = type(METHODS[name]).__doc__
    function = re.search(r"see `cam\.(\w+)`", text)
    if function:
        text += getattr(cam, function.group(1)).__doc__
    references = text.split("References\n")[1].split("Examples\n")[0]
    assert re.search(r"\b(19|20)\d\d\b|arXiv:\d{4}\.\d{4,5}", references)
    assert re.search(r"``[^`]*=[^`]*``", text)
