"""How image files become a network's input, for those who have the network and not purenoise.

Every library scales in its own way (with or without antialiasing, by the shorter side, by
squashing), and what a network was tested on is images scaled by ours. So the rule of
:mod:`purenoise.data.decode` stands here once more, as lines to copy; a test holds their pixels
against what ``predict`` reads. Differs from it in what cannot be used: nothing is refused here.
"""

from __future__ import annotations

RULE = (
    "Images are turned upright as EXIF says; transparency is put on white; an image is scaled, "
    "proportions kept, until it just covers height and width (bicubic, with antialiasing), and "
    "what stands over is cut off equally on both sides; one channel means grey, three mean colour."
)
LINES = """\
import numpy as np
from PIL import Image, ImageOps


def read_image(path, shape):
    channels, height, width = shape
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if is_grey else "RGB").convert("L" if channels == 1 else "RGB")
    image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.float32).reshape(height, width, channels) / np.float32(255)
    return pixels.transpose(2, 0, 1)  # (C, H, W)
"""
