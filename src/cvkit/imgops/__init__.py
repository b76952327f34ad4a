"""Take images apart by their histogram, edit them, blend them back: on Pillow images, arrays and tensors alike."""

from __future__ import annotations

__all__: list[str] = []
