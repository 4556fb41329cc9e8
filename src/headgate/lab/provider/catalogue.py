"""The models that the lab and the demo use, about ten times as fast as ordinary ones.

Ten times as fast, so that a minute and a half shows what a quarter of an hour would: a typical call of the trace
(12,000 model tokens read, 340 written) takes ``large`` about 0.7 s alone and ``small`` about 0.3 s.
"""

from __future__ import annotations

from headgate.lab.provider.physics import ModelSpec

LARGE = ModelSpec(
    "large",
    parallel=6,
    most=24,
    read_tokens_s=150_000.0,
    write_tokens_s=600.0,
    requests_per_min=3000.0,
)
"""Good and slow. Carries 6 calls at full speed, about 9 a second."""

SMALL = ModelSpec(
    "small",
    parallel=3,
    most=12,
    read_tokens_s=400_000.0,
    write_tokens_s=1500.0,
    requests_per_min=6000.0,
)
"""Cheaper, faster, and less of it."""

MODELS = (LARGE, SMALL)
