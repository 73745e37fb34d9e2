"""Which files of a folder are predicted: those that training takes, and what is named itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purenoise.data.listing import list_folder
from purenoise.errors import DataError
from purenoise.predict import find_images


def folder_of_a_mac(root: Path) -> Path:
    """Write images of two classes, and what a Mac and other systems leave beside them."""
    for name in ("cat/img 1.png", "cat/deep/2.png", "dog/3.png", "dog/.hidden.png",
                 "cat/.git/4.png", "dog/__MACOSX/5.png"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / name)
    (root / "cat" / "._img 1.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (root / "dog" / "Thumbs.db").write_bytes(b"junk")
    (root / ".DS_Store").write_bytes(b"junk")
    return root


def test_what_training_leaves_out_is_not_predicted(tmp_path: Path):
    """Hidden files, hidden folders and junk are no images of a folder; training lists the same."""
    root = folder_of_a_mac(tmp_path / "photos")
    found = find_images([root])
    assert [str(p.relative_to(root)) for p in found] == ["cat/deep/2.png", "cat/img 1.png",
                                                         "dog/3.png"]  # fmt: skip
    assert sorted(str(p.relative_to(root)) for p in found) == list_folder(root).paths


def test_what_is_named_is_read(tmp_path: Path):
    """A hidden file or folder that is named on the line is meant."""
    root = folder_of_a_mac(tmp_path / "photos")
    for named in (root / "dog" / ".hidden.png", root / "cat" / "._img 1.png"):
        assert find_images([named]) == [named]
    assert find_images([root / "cat" / ".git"]) == [root / "cat" / ".git" / "4.png"]


def test_a_folder_of_hidden_files_holds_no_image(tmp_path: Path):
    """Where only hidden files lie, that is said."""
    (tmp_path / "._1.png").write_bytes(b"\0\5\x16\7")
    with pytest.raises(DataError, match="holds no image"):
        find_images([tmp_path])
