from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan import PRESETS, DiffAugment, Preset, preset


def test_sketch28_is_a_preset_and_frozen():
    recipe = PRESETS["sketch28"]
    assert preset("sketch28") == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.r1 = 3.0
    with pytest.raises(TypeError):
        PRESETS["mine"] = recipe


def test_changes_make_another_recipe_and_leave_the_preset():
    changed = preset("sketch28", r1=9.0)
    assert changed.r1 == 9.0
    assert PRESETS["sketch28"].r1 != 9.0
    assert preset(changed, r2=8.0) == dataclasses.replace(changed, r2=8.0)


def test_json_round_trip_keeps_everything():
    recipe = preset("sketch28", betas=(0.5, 0.9), augment=DiffAugment(cutout=0.25), half_life=0)
    assert Preset.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(ValueError, match="Preset has no setting 'gamma'; it has latent_size"):
        preset("sketch28", gamma=1.0)
    with pytest.raises(ValueError, match="Preset has no setting 'lr'"):
        Preset.from_dict({"lr": 1.0})
    with pytest.raises(ValueError, match="DiffAugment has no setting 'flip'"):
        Preset.from_dict({"augment": {"flip": True}})


def test_unknown_presets_are_refused_by_name():
    with pytest.raises(ValueError, match=r"`model` must be one of .*got .sketch64."):
        preset("sketch64")
    with pytest.raises(TypeError, match="`model` must be the name of a preset or a Preset; got 3"):
        preset(3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("r1", -1.0), ("loss", "bce"), ("batch_size", 0), ("horizon", 0), ("warmup", -1), ("generator_rate", 0.0),
     ("rate_share", 1.5), ("headroom", 0.5), ("betas", (0.0, 1.0)), ("betas", (0.9,)), ("penalty_interval", 0),
     ("half_life_ramp", 0.0), ("latent_size", 0)],
)  # fmt: skip
def test_settings_are_checked_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}"):
        Preset(**{name: value})
    with pytest.raises(TypeError, match="`spectral_norm` must be bool"):
        Preset(spectral_norm=1)
    with pytest.raises(TypeError, match="`augment` must be DiffAugment"):
        Preset(augment=None)


def test_betas_are_floats_even_if_given_as_integers():
    # An int beside a float is refused by the optimiser.
    betas = Preset(betas=(0, 0.99)).betas
    assert betas == (0.0, 0.99)
    assert all(isinstance(beta, float) for beta in betas)


def test_rate_rises_falls_and_rests():
    recipe = Preset(warmup=1000, horizon=10_000, rate_share=0.2)
    assert recipe.rate(0) == 0.0
    assert recipe.rate(500) == pytest.approx(0.5 * (0.2 + 0.8 * math.cos(math.pi * 0.025) ** 2))
    assert recipe.rate(5000) == pytest.approx(0.6)  # half way: the mean of 1 and 0.2
    assert recipe.rate(10_000) == pytest.approx(0.2)
    assert recipe.rate(10**9) == recipe.rate(10_000)
    assert Preset(warmup=0).rate(0) == 1.0


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_rate_lies_between_its_ends_and_falls_after_the_warm_up(images, later):
    recipe = PRESETS["sketch28"]
    assert 0.0 <= recipe.rate(images) <= 1.0
    if recipe.warmup <= images <= later:
        assert recipe.rate(later) <= recipe.rate(images)
        assert recipe.rate(later) >= recipe.rate_share - 1e-12


@given(st.integers(0, 10**7))
def test_half_life_grows_to_its_end(images):
    recipe = Preset(half_life=5000, half_life_ramp=0.1)
    assert recipe.average_half_life(images) == min(5000.0, 0.1 * images)


def test_penalized_says_whether_anything_is_penalised():
    assert Preset(r1=0.0, r2=1.0).penalized
    assert Preset(r1=0.0, r2=0.0, gradient_penalty=1.0).penalized
    assert not Preset(r1=0.0, r2=0.0).penalized
