"""`capture`: what the layer gave, whatever comes after; nothing left; errors that name the calls."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cvkit.explain import Capture, capture
from reference.explain_models import Net, Reused, TupleLayer, differences, images, seeded, state


def test_activation_and_gradient_are_those_of_autograd():
    model, x = seeded(Net(inplace=False)), images()
    with capture(model, ["conv2", "relu2"]) as seen:
        logits = model(x)
    assert isinstance(seen, Capture)
    assert seen.names == ("conv2", "relu2")
    y = model.relu1(model.conv1(x))
    A = model.conv2(y)
    expected = torch.autograd.grad(model.head(model.relu2(model.norm(A)).flatten(2).mean(2))[:, 1].sum(), A)[0]
    assert torch.equal(seen.activation("conv2"), A)
    torch.testing.assert_close(seen.gradient(logits[:, 1], "conv2"), expected)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.fault("meta-pytorch/captum#156")
def test_in_place_operations_after_the_layer_do_not_reach_it():
    a, b = (seeded(Net(inplace=inplace)) for inplace in (True, False))
    found = []
    for model in (a, b):
        with capture(model, "norm") as seen:
            logits = model(images())
        found.append((seen.activation(), seen.gradient(logits[:, 1])))
    assert found[0][0].min() < 0
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


class Aliases(nn.Module):
    """A layer whose output is its input's memory, which is overwritten later."""

    def __init__(self):
        super().__init__()
        self.conv, self.same, self.head = nn.Conv2d(3, 4, 3), nn.Identity(), nn.Linear(4, 3)

    def forward(self, x):
        y = self.conv(x)
        z = self.same(y)
        y.mul_(0.0)
        return self.head(z.mean((2, 3)))


def test_outputs_that_are_their_inputs_memory_are_kept_apart():
    model, x = seeded(Aliases()), images()
    with capture(model, "same") as seen:
        model(x)
    assert torch.equal(seen.activation(), model.conv(x))


def test_frozen_parameters_start_a_graph_at_the_layer_and_no_grad_does_not():
    model, x = seeded(Net()).requires_grad_(False), images()
    with capture(model, "relu2") as seen:
        logits = model(x)
    assert seen.gradient(logits[:, 0]).abs().sum() > 0
    with torch.no_grad(), capture(model, "relu2") as seen:
        logits = model(x)
    assert not seen.activation().requires_grad
    with pytest.raises(ValueError, match="must come from a forward that ran with grad mode on"):
        seen.gradient(logits[:, 0])
    with torch.inference_mode(), capture(model, "relu2") as seen:
        model(x)
    assert seen.activation().shape == (3, 6, 6, 7)


@pytest.mark.fault("frgfm/torch-cam#195")
def test_two_blocks_at_once_do_not_disturb_each_other():
    model, x = seeded(Net()), images()
    with capture(model, "conv2") as outer:
        with capture(model, ["conv2", "relu2"]) as inner:
            logits = model(x)
        model(x)
    assert len(outer.calls["conv2"]) == 2
    assert len(inner.calls["conv2"]) == 1
    assert inner.gradient(logits[:, 0], "relu2").abs().sum() > 0
    assert outer.gradient(logits[:, 0], occurrence=0).abs().sum() > 0
    assert not outer.gradient(logits[:, 0], occurrence=1).any()  # of the other forward


@pytest.mark.fault("kazuto1011/grad-cam-pytorch#36")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#160")
def test_nothing_is_left_also_after_an_error():
    model = seeded(Net())
    before = state(model)

    def fail():
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), capture(model, "conv2"):
        fail()
    with pytest.raises(ValueError, match="is not a layer"), capture(model, "conv9"):
        pass
    assert differences(before, state(model)) == []


def test_calls_are_listed_where_there_are_several_or_none():
    model, x = seeded(Reused()), images()
    with capture(model, "block") as seen:
        logits = model(x)
    with pytest.raises(ValueError, match=r"'block' was called 2 times \(0: \(3, 4, 11, 14\); 1: \(3, 4, 6, 7\)\)"):
        seen.activation()
    assert seen.activation(occurrence=-1).shape == (3, 4, 6, 7)
    assert seen.gradient(logits[:, 0], occurrence=0).shape == (3, 4, 11, 14)
    with pytest.raises(ValueError, match="`occurrence` of layer 'block' must be one of its calls"):
        seen.activation(occurrence=2)
    with capture(model, ["block", "stem"]) as seen:
        pass
    with pytest.raises(ValueError, match="was not called"):
        seen.activation("stem")
    with pytest.raises(ValueError, match="`name` must be one of 'block', 'stem'"):
        seen.activation()
    with pytest.raises(ValueError, match="`name` must be one of 'block', 'stem'; got 'head'"):
        seen.activation("head")


@pytest.mark.fault("jacobgil/pytorch-grad-cam#386")
def test_the_first_floating_tensor_of_a_tuple_is_taken():
    model, x = seeded(TupleLayer()), images()
    with capture(model, "part") as seen:
        logits = model(x)
    assert torch.equal(seen.activation(), model.part.conv(x))
    assert seen.gradient(logits[:, 0]).abs().sum() > 0


def test_wrappers_and_wrong_models():
    model, x = seeded(Net()), images()
    with capture(nn.DataParallel(model), "module.conv2") as seen:
        model(x)
    assert seen.activation().shape == (3, 6, 6, 7)
    with pytest.raises(TypeError, match="`model` must be Module"), capture(3, "conv2"):
        pass


def test_the_gradient_can_be_differentiated():
    model, x = seeded(Net()), images()
    with capture(model, "conv1") as seen:
        logits = model(x)
    gradient = seen.gradient(logits.softmax(1)[:, 0], create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), model.head.weight)[0].abs().sum() > 0
