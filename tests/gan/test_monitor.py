from __future__ import annotations

import math
import warnings

import pytest
import torch

from cvkit import gan
from cvkit.gan.monitor import monitor


def slow_spread(images, labels):
    total = 0.0
    for label in set(labels.tolist()):
        members = images[labels == label].flatten(1).double()
        total += (members - members.mean(0)).square().sum().item()
    return total


def test_spread_is_the_ratio_of_distances_to_class_means():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 12, 2, 3, 4, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 5, (12,), generator=generator)
    expected = math.sqrt(slow_spread(fake, labels) / slow_spread(real, labels))
    assert gan.within_class_spread(fake, real, labels, classes=6).item() == pytest.approx(expected)


def test_spread_of_real_images_is_one_and_of_one_picture_a_class_is_zero():
    real, labels = torch.rand(10, 1, 4, 4), torch.arange(10) % 3
    assert gan.within_class_spread(real, real, labels, classes=3).item() == 1.0
    collapsed = labels.float().view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    assert gan.within_class_spread(collapsed, real, labels, classes=3).item() < 1e-3


def test_spread_is_not_a_number_where_nothing_can_be_compared():
    images = torch.rand(3, 1, 4, 4)
    assert gan.within_class_spread(images, images, torch.arange(3), classes=3).isnan()


def rows(count=10, **values):
    return [{"step": i, "spread": 0.9, "loss_discriminator": 0.5, **values} for i in range(count)]


@pytest.mark.fault("ajbrock/BigGAN-PyTorch#75")
def test_one_picture_a_class_is_found():
    assert gan.diagnose(rows(spread=0.05)) == "collapse within classes"
    assert gan.diagnose(rows() + rows(spread=0.05)) == "collapse within classes"


@pytest.mark.fault("POSTECH-CVLab/PyTorch-StudioGAN#163")
def test_a_discriminator_without_loss_is_found():
    assert gan.diagnose(rows(loss_discriminator=0.0)) == "discriminator has won"


def test_healthy_short_and_interrupted_logs_get_no_verdict():
    assert gan.diagnose(rows()) is None
    assert gan.diagnose(rows(9, spread=0.0)) is None
    assert gan.diagnose(rows(9, spread=0.0) + rows(1)) is None
    assert gan.diagnose(rows(spread=0.0)[:3], window=3) == "collapse within classes"
    assert gan.diagnose([]) is None
    assert gan.diagnose(rows(spread=math.nan)) is None
    assert gan.diagnose([{"step": 1.0}] * 10) is None


def test_a_critic_below_zero_is_not_judged_by_its_loss():
    assert gan.diagnose(rows(loss_discriminator=-3.0)) is None


class At:
    step = 500


def test_the_monitor_warns_once_stops_or_is_silent():
    watch = monitor("warn")
    with pytest.warns(RuntimeWarning, match="step 500: collapse within classes") as caught:
        assert all(watch(At, row) is None for row in rows(15, spread=0.0))
    assert len(caught) == 1
    stop = monitor("stop")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [stop(At, row) for row in rows(11, spread=0.0)] == [None] * 9 + ["collapse within classes"] * 2
    assert monitor("ignore") is None
