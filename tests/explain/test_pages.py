"""Every line of code on the pages about moving from another library runs, the peer's too where it is installed."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from torch import nn

from cvkit import explain as ours
from reference.pages import PAGES, call, rows

PEERS = {"pytorch_grad_cam.rst": "pytorch_grad_cam", "torch_cam.rst": "torchcam.methods", "captum.rst": "captum.attr"}


class Net(nn.Module):
    """Two convolutions, pooling, one linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(6, 5, 3), nn.ReLU()
        self.pool, self.flat, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6)

    def forward(self, x):
        return self.fc(self.flat(self.pool(self.relu2(self.conv2(self.relu1(self.conv1(x)))))))


def names():
    """What the pages say there is."""
    torch.manual_seed(0)
    model, x = Net().eval(), torch.rand(2, 3, 33, 41)
    return {"model": model, "x": x, "photo": x[0].movedim(0, -1).numpy(), "heat": x[0, 0].numpy(), "torch": torch}


def codes():
    return [(page, *row) for page in PEERS for row in rows(page) if call(row[1])]


@pytest.mark.parametrize(("page", "least"), [("pytorch_grad_cam.rst", 22), ("torch_cam.rst", 14), ("captum.rst", 10)])
def test_pages_have_their_rows(page, least):
    assert len([row for row in codes() if row[0] == page]) >= least


@pytest.mark.parametrize(("page", "there", "here", "note"), codes())
def test_lines_run_and_agree_where_they_say_so(page, there, here, note):
    known = names()
    public = {name: getattr(ours, name) for name in ours.__all__}
    found = eval(call(here), {**public, **known})
    assert not any(module._forward_hooks for module in known["model"].modules())
    code = call(there)
    if code is None or "extractor" in code or "interpolate" in code or "overlay_mask" in code:
        return
    peer = pytest.importorskip(PEERS[page])
    also = {}
    if page == "pytorch_grad_cam.rst":
        from pytorch_grad_cam.utils import image, model_targets

        also = {**vars(image), **vars(model_targets)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = eval(code, {**also, **vars(peer), **known})
    if "same numbers" in note or "same after ReLU" in note:
        found = getattr(found, "raw", found) if not isinstance(found, torch.Tensor) else found
        found = found.clamp(min=0) if "after ReLU" in note else found
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("page", PEERS)
def test_names_of_functions_exist(page):
    text = (PAGES / page).read_text()
    for name in re.findall(r"(?<![`:])`([A-Za-z_]+)`(?!`)", text):
        assert name in ours.__all__, name
