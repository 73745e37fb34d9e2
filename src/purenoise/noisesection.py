"""The noise section of a recipe: what stands in for noise images, and where it is put in.

The paper draws normal noise; the other kinds take its place in ablations. All but ``space:
normalized`` are made in [0, 1] and normalised with the constants that natural images get. Imports
no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from purenoise.datasection import Part, PlaceOrNone

PHOTOGRAPHS = "photographs"


class Noise(Part):
    """What noise images are.

    ``normal``: N(mean, deviation) per channel of the training images' pixels. ``uniform``: U(0, 1)
    per pixel and channel. ``shuffled``: a training image, whichever its class, with its pixels in
    random order. ``images``: images of something else, from the folder ``source``, or patches of
    scikit-learn's two photographs.

    ``space: normalized`` is what the best-known reproduction of the paper does: noise is drawn with
    the *constants of normalisation* as mean and deviation, clipped to [0, 1], and put in after the
    natural images were normalised, so that it is not normalised itself. ``clip: false`` leaves
    normal noise as it was drawn; with ``space: normalized`` that is what the second reproduction,
    built on LDAM-DRW's script, does.
    """

    kind: Literal["normal", "uniform", "shuffled", "images"] = "normal"
    source: PlaceOrNone = Field(
        default=None, min_length=1, description="a folder of images, or photographs"
    )
    space: Literal["pixel", "normalized"] = "pixel"
    clip: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> Noise:
        if self.kind == "images" and self.source is None:
            raise ValueError(
                f"the kind is images and there is no source: add noise.source={PHOTOGRAPHS} or "
                "noise.source=FOLDER"
            )
        if self.kind != "images" and self.source is not None:
            raise ValueError(
                f"source has a meaning only with kind=images, and the kind is {self.kind}"
            )
        if self.kind != "normal" and (self.space != "pixel" or not self.clip):
            raise ValueError(
                f"space and clip have a meaning only with kind=normal, and the kind is {self.kind}"
            )
        return self
