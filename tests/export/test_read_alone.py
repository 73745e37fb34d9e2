"""Files can be read without purenoise as `predict` reads them: lines of the page and the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import purenoise as pn
from purenoise import predict as predicting
from purenoise.export.manifest import read_manifest
from purenoise.export.readalone import LINES, RULE
from purenoise.export.source import describe, load_finished
from purenoise.export.standalone import as_input

from .test_command import blocks

SHAPES = [(3, 16, 16), (1, 16, 16), (3, 12, 20)]
KINDS = ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "palette with transparency"]
SIZES = {
    "larger": (61, 47),
    "smaller": (5, 7),
    "wide": (90, 11),
    "tall": (9, 83),
    "equal": (16, 16),
}


def draw(path: Path, kind: str, size: tuple[int, int], orientation: int = 1) -> Path:
    """Write an image of (W, H) with random pixels."""
    width, height = size
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "palette with transparency":
        image.convert("RGB").quantize(16).save(path, transparency=3, exif=exif)
        return path
    image = image if kind == "RGBA" else image.convert(kind)
    image.save(path, exif=exif) if path.suffix != ".tif" else image.save(path)
    return path


def predicted(paths: list[Path], shape: tuple[int, int, int], monkeypatch) -> np.ndarray:
    """Return the pixels that `predict` hands to the network."""
    seen: list[np.ndarray] = []

    class Seeing:
        image_shape, class_names = shape, ("a", "b")

        def logits(self, images: np.ndarray) -> np.ndarray:
            seen.append(images)
            return np.zeros((len(images), 2), np.float32)

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "open_classifier", lambda *_, **__: Seeing())
        assert not any(p.error for p in predicting.predict("run", paths))
    return as_input(np.concatenate(seen))


@pytest.fixture(scope="module")
def read_image() -> Any:
    """The function of the page, which imports nothing of ours."""
    (block,) = [b for b in blocks("python") if "def read_image" in b]
    assert "purenoise" not in block
    scope: dict[str, Any] = {}
    exec(compile(block, "export.md", "exec"), scope)
    return scope["read_image"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_lines_read_what_predict_reads(shape, read_image, tmp_path: Path, monkeypatch):
    """Larger, smaller, wide, tall, grey, transparent, turned: every pixel is equal."""
    paths = [
        draw(tmp_path / f"{kind}-{name}.{'tif' if kind == 'CMYK' else 'png'}", kind, size)
        for kind in KINDS
        for name, size in SIZES.items()
    ]
    paths += [draw(tmp_path / f"turned-{k}.jpg", "RGB", (50, 30), k) for k in range(1, 9)]
    wanted = predicted(paths, shape, monkeypatch)
    for path, pixels in zip(paths, wanted, strict=True):
        got = read_image(path, shape)
        assert got.dtype == np.float32
        assert np.array_equal(got, pixels), path.name


def test_page_and_card_hold_the_same_lines(runs):
    """The page's block is the card's, and both state the rule."""
    assert LINES in blocks("python")
    card = pn.export_run(runs["torchvision"], "card", force=True).path.read_text()
    assert LINES.rstrip() in card
    assert "for one file and the shape (3, 32, 32)" in card.replace("\\", "")
    assert RULE.split(";")[0] in card.replace("\\", "")


def test_files_say_how_they_are_read(runs):
    """A manifest names the rule; an older one without it means the same, another one is refused."""
    manifest = describe(load_finished(runs["erm"]), "nothing")
    said = json.loads(manifest.to_json())
    assert said["resize"] == "cover, bicubic with antialiasing, centre crop"
    older = {k: v for k, v in said.items() if k not in ("resize", "transparency", "orientation")}
    assert read_manifest(json.dumps(older), "m.onnx") == manifest
    with pytest.raises(pn.PureNoiseError, match="resize"):
        read_manifest(json.dumps(said | {"resize": "squash"}), "m.onnx")
