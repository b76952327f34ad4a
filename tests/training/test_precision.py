from __future__ import annotations

import math

import pytest
import torch

from cvkit import training


@pytest.mark.parametrize(("vector", "tile"), [(False, False), (True, False), (False, True)])
def test_native_bfloat16_means_vector_or_tile_instructions(monkeypatch, vector, tile):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vector, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tile, raising=False)
    assert training.probe_bfloat16().native == (vector or tile)


def test_a_torch_that_cannot_tell_counts_as_emulating(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert training.probe_bfloat16().native is False


def test_the_gain_is_measured_only_if_asked():
    assert math.isnan(training.probe_bfloat16().speedup)
    assert training.probe_bfloat16(measure=True).speedup > 0
    assert not torch.is_autocast_enabled("cpu")


def test_the_meta_device_has_none():
    assert training.probe_bfloat16("meta").native is False
