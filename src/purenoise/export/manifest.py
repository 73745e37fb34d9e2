"""What an exported file says of itself: classes, image size, normalisation, where it is from.

It lies in the file as JSON under ``purenoise``. A file can come from a stranger, so everything is
checked before it is used. Imports no torch.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from purenoise.errors import RunError

KEY = "purenoise"
MOST_CHANNELS, LONGEST_SIDE = 64, 8192  # of an image that a file may ask for

Sha = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """What is known of an exported network."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1
    model: str  # as recipes name it: resnet32, torchvision:NAME, timm:NAME
    class_names: tuple[str, ...] = Field(min_length=1)
    image_shape: tuple[int, int, int]  # channels, height, width
    mean: tuple[float, ...]  # in [0, 1], as std: images are normalised by (image - mean) / std
    std: tuple[float, ...]
    head: Literal["linear", "cosine"] = "linear"
    scale: float = 1.0  # of cosines
    # How files become images of that shape (docs/export.md). Files that lack these mean the same.
    resize: Literal["cover, bicubic with antialiasing, centre crop"] = (
        "cover, bicubic with antialiasing, centre crop"
    )
    transparency: Literal["on white"] = "on white"
    orientation: Literal["upright by EXIF"] = "upright by EXIF"
    recipe: str
    method: str
    seed: int
    recipe_digest: Sha
    weights_digest: Sha
    checked: str  # on which images the file was held against the run's network
    purenoise: str  # version

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        channels, *sides = self.image_shape
        if not 1 <= channels <= MOST_CHANNELS or not all(1 <= s <= LONGEST_SIDE for s in sides):
            raise ValueError(f"image_shape {self.image_shape} is out of bounds")
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0:
            raise ValueError("mean and std must have one number per channel, std above 0")
        return self

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def read_manifest(text: str | None, path: object) -> Manifest:
    """Read what a file says of itself.

    Args:
        text: JSON, or None if the file says nothing; a run's own weights name only their recipe.
        path: Of the file, for messages.

    Raises:
        RunError: If it says nothing, or nothing that can be used (the first faults are named).
    """
    if text is None or '"weights_digest"' not in text:
        raise RunError(
            f"{path} does not say what its classes and its image size are.",
            "Give the folder of the run, or a file that `purenoise export` wrote.",
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        faults = [f"{_place(e['loc'])}{e['msg']}" for e in error.errors()[:3]]
        raise RunError(
            f"What {path} says of itself cannot be used: {'; '.join(faults)}.",
            "Export the run again with this version of purenoise.",
        ) from error


def _place(loc: tuple[Any, ...]) -> str:
    return f"{'.'.join(map(str, loc))}: " if loc else ""
