"""The speed tricks of imgops, each in one function with a fallback; the plain twins live in ``tests/reference``.

Where nothing else is said they work on views (N, C, H, W) as `cvkit.imgops._kinds.unpack` makes them, write into fresh
memory in the order of their input, and give the same integers for every number of threads.
"""

__all__ = []
