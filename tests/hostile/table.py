"""All kinds of hostile input that are made by hand."""

from __future__ import annotations

from . import networks, pixels, runs, strangers, texts
from .kind import Kind

KINDS: list[Kind] = [*texts.KINDS, *pixels.KINDS, *networks.KINDS, *runs.KINDS,
                     *strangers.KINDS]  # fmt: skip
