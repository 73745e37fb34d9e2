"""What the first bytes of a file say, without decoding it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageFile

from purenoise.data.decode import read_header
from purenoise.data.scan import scan_folder

from .support import many_kinds, write


def test_headers_say_what_decoding_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size after rotation and greyness are those of the decoded image, and no pixel is decoded."""
    scan = scan_folder(many_kinds(tmp_path))
    assert len(scan.images) == 20

    def refuse(*args: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", refuse)
    for image in scan.images:
        assert read_header(tmp_path / image.path) == (image.size, image.grey), image.path


def test_turned_png(tmp_path: Path) -> None:
    """A PNG that says in its header that it is turned is as high as it was wide."""
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("L", (7, 3)).save(tmp_path / "x.png", exif=exif)
    assert read_header(tmp_path / "x.png") == ((7, 3), True)


def test_no_image(tmp_path: Path) -> None:
    """A file that is no image, or not there, has no header."""
    (tmp_path / "x.png").write_text("text")
    assert read_header(tmp_path / "x.png") is None
    assert read_header(tmp_path / "y.png") is None
    whole = write(tmp_path / "z.png").read_bytes()
    (tmp_path / "z.png").write_bytes(whole[:60])
    assert read_header(tmp_path / "z.png") == ((16, 12), False)
