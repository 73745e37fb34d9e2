"""Looking at a folder of images: what is found, what is refused, and with which words."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purenoise.data.scan import scan_folder
from purenoise.errors import DataError


def write(path: Path, value: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Path:
    """Write an image of ``size`` (H, W) with pixels drawn from the seed ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    pixels = np.random.default_rng(value).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def two_classes(root: Path, prefix: str = "") -> Path:
    """Write two classes of two images each."""
    for i, name in enumerate(["a/1.png", "a/2.png", "b/1.png", "b/2.png"]):
        write(root / prefix / name, 1000 + i + 10 * len(prefix))
    return root


def reasons(root: Path) -> dict[str, str]:
    """Return path -> reason of all unusable files."""
    return {file.path: file.reason for file in scan_folder(root).unusable}


def test_one_tree_of_classes(tmp_path: Path) -> None:
    """A tree of class folders gives sorted classes, paths, sizes and modes."""
    two_classes(tmp_path)
    write(tmp_path / "B c" / "deep" / "er" / "x.png", 9, (3, 5), "L")
    scan = scan_folder(tmp_path)
    assert scan.splits == ()
    assert scan.class_names == ("B c", "a", "b")
    assert [image.path for image in scan.images][:2] == ["B c/deep/er/x.png", "a/1.png"]
    deep, flat = scan.images[:2]
    assert (deep.label, deep.size, deep.grey) == ("B c", (3, 5), True)
    assert (flat.label, flat.size, flat.grey) == ("a", (6, 4), False)
    assert scan.counts() == {"B c": 1, "a": 2, "b": 2}
    assert not scan.unusable


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Valid"])
def test_splits(tmp_path: Path, val: str) -> None:
    """Train, validation (by any of its names) and test folders become splits."""
    for prefix in ("train", val, "test"):
        two_classes(tmp_path, prefix)
    (tmp_path / "README.md").write_text("about")
    scan = scan_folder(tmp_path)
    assert scan.splits == ("train", "val", "test")
    assert scan.counts("val") == {"a": 2, "b": 2}
    assert {image.path.split("/")[0] for image in scan.images if image.split == "val"} == {val}
    assert not scan.unusable


def test_a_class_called_train(tmp_path: Path) -> None:
    """A class folder named train beside other classes is a class, not a split."""
    for name in ("train", "plane"):
        write(tmp_path / name / "1.png")
    assert scan_folder(tmp_path).class_names == ("plane", "train")


def test_absent_classes_in_both_directions(tmp_path: Path) -> None:
    """Classes that one split lacks are known for either split."""
    two_classes(tmp_path, "train")
    write(tmp_path / "train" / "only train" / "1.png", 5)
    two_classes(tmp_path, "test")
    write(tmp_path / "test" / "only test" / "1.png", 6)
    scan = scan_folder(tmp_path)
    assert scan.absent("test") == ("only train",)
    assert scan.absent("train") == ("only test",)
    assert scan.absent("val") == ()


def test_broken_files_all_with_reasons(tmp_path: Path) -> None:
    """Every unusable file is listed with its own reason, and the good ones are kept."""
    two_classes(tmp_path)
    whole = write(tmp_path / "a" / "cut.png", 7, (64, 64)).read_bytes()
    (tmp_path / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a" / "cut.jpg")
    jpeg = (tmp_path / "a" / "cut.jpg").read_bytes()
    (tmp_path / "a" / "cut.jpg").write_bytes(jpeg[:-20])
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "b" / "labels.csv").write_text("a,b")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "b" / "deep.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "b" / "float.tiff")
    found = reasons(tmp_path)
    assert list(found) == sorted(found)
    assert found.pop("a/cut.png").startswith("a broken image (")
    assert found.pop("a/cut.jpg").startswith("a broken image (image file is truncated")
    assert found.pop("a/empty.png") == "not an image that can be opened"
    assert found.pop("b/labels.csv") == "not an image that can be opened"
    assert found.pop("b/deep.png").startswith("an image of another mode (I")
    assert found.pop("b/float.tiff").startswith("an image of another mode (F")
    assert not found
    assert len(scan_folder(tmp_path).images) == 4


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image above Pillow's limit is unusable from just above it to far above it."""
    two_classes(tmp_path)
    write(tmp_path / "a" / "over.png", 1, (10, 11))
    write(tmp_path / "a" / "far.png", 1, (30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    reason = "an image of more than 100 pixels"
    assert reasons(tmp_path) == {"a/over.png": reason, "a/far.png": reason}


def test_eps_is_not_opened(tmp_path: Path) -> None:
    """A format that Pillow gives to another program is not read, whatever its name says."""
    two_classes(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "x.eps")
    os.rename(tmp_path / "a" / "x.eps", tmp_path / "a" / "x.png")
    assert reasons(tmp_path) == {"a/x.png": "not an image that can be opened"}


def test_junk_is_passed_over(tmp_path: Path) -> None:
    """What file managers leave behind is neither an image nor a fault."""
    two_classes(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png"):
        (tmp_path / "a" / name).write_text("junk")
    write(tmp_path / "__MACOSX" / "1.png")
    write(tmp_path / ".cache" / "1.png")
    scan = scan_folder(tmp_path)
    assert scan.class_names == ("a", "b")
    assert not scan.unusable


def test_links(tmp_path: Path) -> None:
    """Links out of the folder, to folders and to nothing are reported; a link within is a file."""
    root = two_classes(tmp_path / "root")
    secret = write(tmp_path / "outside" / "secret.png", 8)
    (root / "a" / "out.png").symlink_to(secret)
    (root / "a" / "up").symlink_to(tmp_path / "outside")
    (root / "a" / "loop").symlink_to(root / "a")
    (root / "a" / "nothing.png").symlink_to(tmp_path / "none")
    (root / "b" / "same.png").symlink_to(root / "b" / "1.png")
    assert reasons(root) == {
        "a/loop": "a link to a folder, which is not followed",
        "a/nothing.png": "a link to nothing",
        "a/out.png": "a link that leads out of the folder",
        "a/up": "a link that leads out of the folder",
    }
    assert [g[1].path for g in scan_folder(root).duplicates] == ["b/same.png"]


def test_linked_class_folder_is_refused(tmp_path: Path) -> None:
    """A class that would be lost because its folder is a link stops everything, by name."""
    root = two_classes(tmp_path / "root")
    two_classes(tmp_path / "other")
    (root / "c").symlink_to(tmp_path / "other" / "a")
    with pytest.raises(DataError, match=r"'c' \(a link that leads out of the folder\)"):
        scan_folder(root)


def test_pipe_does_not_hang(tmp_path: Path) -> None:
    """A named pipe is reported and never opened."""
    two_classes(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert reasons(tmp_path) == {"a/pipe.png": "neither a file nor a folder"}


def test_duplicates_conflicts_and_leaks(tmp_path: Path) -> None:
    """Identical bytes are grouped; other labels and other splits are told apart."""
    for split in ("train", "test"):
        two_classes(tmp_path, split)
    for path in ("train/a/x.png", "train/a/y.png", "train/b/same bytes.png", "train/a/l.png"):
        write(tmp_path / path, 1 if path != "train/a/l.png" else 2)
    write(tmp_path / "test/a/leak.png", 2)
    scan = scan_folder(tmp_path)
    (conflict,), (leak,) = scan.conflicts, scan.leaks
    assert [i.path for i in conflict] == [
        "train/a/x.png",
        "train/a/y.png",
        "train/b/same bytes.png",
    ]
    assert [i.path for i in leak] == ["test/a/leak.png", "train/a/l.png"]
    assert len(scan.duplicates) == 2


def test_exif_rotation_counts(tmp_path: Path) -> None:
    """The size of an image is that after the rotation its EXIF asks for."""
    two_classes(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a" / "turned.jpg", exif=exif)
    sizes = {image.path: image.size for image in scan_folder(tmp_path).images}
    assert sizes["a/turned.jpg"] == (20, 10)  # 10 x 20 as stored


def test_remarks(tmp_path: Path) -> None:
    """Animations and transparency are remarked on."""
    two_classes(tmp_path)
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (4, 4), (1, 2, 3, 0)).save(tmp_path / "a" / "clear.png")
    remarks = {image.path: image.remarks for image in scan_folder(tmp_path).images}
    assert remarks["a/moving.gif"] == ("more than one frame, of which the first is used",)
    assert remarks["a/clear.png"] == ("transparency, which is put on white",)
    assert remarks["a/1.png"] == ()


def test_empty_class_and_loose_image(tmp_path: Path) -> None:
    """Empty class folders and images beside the class folders are reported; other files are not."""
    two_classes(tmp_path)
    (tmp_path / "none").mkdir()
    write(tmp_path / "loose.png")
    (tmp_path / "notes.txt").write_text("about")
    scan = scan_folder(tmp_path)
    assert scan.empty_folders == ("none",)
    assert scan.counts()["none"] == 0
    assert {f.path: f.reason for f in scan.unusable} == {"loose.png": "lies in no class folder"}


def test_names_are_never_interpreted(tmp_path: Path) -> None:
    """Markup, quotes, patterns and other alphabets in class names come back as they are."""
    names = sorted(["<b>&amp;'\"", "*?[x]", "猫", "%s{0}", "a\nb"])
    for i, name in enumerate(names):
        write(tmp_path / name / "1.png", i)
    scan = scan_folder(tmp_path)
    assert list(scan.class_names) == names
    assert [image.label for image in scan.images] == names


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    """A file name that no report could show is reported in readable form."""
    two_classes(tmp_path)
    try:
        (tmp_path / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    assert reasons(tmp_path) == {"a/\\udcff.png": "a name that is not valid UTF-8"}


def test_threads_and_no_threads_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result does not depend on whether threads were used."""
    two_classes(tmp_path)
    alone = scan_folder(tmp_path)
    monkeypatch.setattr("purenoise.data.decode.SMALL_FILE", 0)
    assert scan_folder(tmp_path) == alone


def refused(root: Path, words: str) -> None:
    """Check that a folder is refused with these words and a hint."""
    with pytest.raises(DataError, match=words) as caught:
        scan_folder(root)
    assert caught.value.hint


def test_refused_roots(tmp_path: Path) -> None:
    """A missing folder, a file, an empty folder and a single class are each named."""
    refused(tmp_path / "none", "There is no folder '.*none'")
    refused(write(tmp_path / "file.png"), "is a file, not a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no class folders and no images")
    write(tmp_path / "one" / "a" / "1.png")
    refused(tmp_path / "one", "only one class folder, 'a'")
    write(tmp_path / "loose" / "1.png")
    refused(tmp_path / "loose", "Images lie directly in .* in no class folder")
    for name in ("a", "b"):
        (tmp_path / "hollow" / name).mkdir(parents=True)
    refused(tmp_path / "hollow", "hold no images")


def test_refused_splits(tmp_path: Path) -> None:
    """Splits that cannot be told from classes, lack train, or come twice are refused."""
    two_classes(tmp_path / "mixed", "train")
    write(tmp_path / "mixed" / "cat" / "1.png")
    refused(tmp_path / "mixed", "'train' beside 'cat': splits, or classes")
    two_classes(tmp_path / "half", "test")
    refused(tmp_path / "half", "have no 'train' beside")
    for split in ("train", "val", "valid"):
        two_classes(tmp_path / "twice", split)
    refused(tmp_path / "twice", "'val', 'valid' .* two folders for one split")


def test_folders_beside_splits_are_named(tmp_path: Path) -> None:
    """A third folder beside train and test is not read, and said so."""
    for split in ("train", "test", "unlabelled"):
        two_classes(tmp_path, split)
    scan = scan_folder(tmp_path)
    assert scan.ignored_folders == ("unlabelled",)
    assert len(scan.images) == 8
