"""The two players: a conditional generator and a conditional discriminator for small images."""

from __future__ import annotations

from cvkit.gan.nets.discriminator import Discriminator
from cvkit.gan.nets.generator import Generator

__all__ = ["Discriminator", "Generator"]
