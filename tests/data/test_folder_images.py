"""Files of a folder become pixels: modes, sizes, rotation, threads, files that break."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purenoise.data.folder import FileImages, load_folder, load_image
from purenoise.data.scan import scan_folder
from purenoise.data.types import MemoryImages
from purenoise.errors import DataError

from .folders import everything, noted, write, write_classes


def test_grey_and_colour(tmp_path: Path) -> None:
    """Channels are 1 if all images are grey, 3 if not, or what was asked for."""
    for name in "ab":
        for i in range(2):
            write(tmp_path / name / f"{i}.png", i, mode="L")
    grey = load_folder(tmp_path)
    assert grey.image_shape == (1, 6, 4)
    colour = everything(load_folder(tmp_path, channels=3).train)
    assert (colour == everything(grey.train)).all()
    write(tmp_path / "a" / "c.png", 9)
    assert load_folder(tmp_path).image_shape == (3, 6, 4)
    luma = load_image(tmp_path / "a" / "c.png", (1, 6, 4))[0]
    rgb = np.asarray(Image.open(tmp_path / "a" / "c.png"), float)
    assert np.abs(luma - rgb @ [0.299, 0.587, 0.114]).max() <= 1


def test_size_is_chosen(tmp_path: Path) -> None:
    """Mixed sizes give a square of the median shorter side, a multiple of 8, at most 224."""
    for i, size in enumerate([(30, 50), (45, 36), (37, 99), (400, 500)]):
        write(tmp_path / "ab"[i % 2] / f"{i}.png", i, size)
    data = load_folder(tmp_path)
    assert data.image_shape == (3, 40, 40)  # the median of 30, 36, 37, 400 is 36.5
    assert noted(data, "4 of 4 images are scaled and cut to 40 x 40 pixels")
    assert load_folder(tmp_path, image_size=16).image_shape == (3, 16, 16)
    assert load_folder(tmp_path, image_size=(8, 24)).image_shape == (3, 8, 24)
    for i in range(4):
        write(tmp_path / "a" / f"large{i}.png", i, (300, 301 + i))
    assert load_folder(tmp_path).image_shape == (3, 224, 224)


def test_resize_keeps_proportions_and_centre(tmp_path: Path) -> None:
    """A wide image is scaled by its height, and equal parts fall away on the left and right."""
    pixels = np.zeros((40, 120), np.uint8)
    pixels[:, 40:80] = 250  # the centre square
    pixels[:, 80:] = 90
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    small = load_image(tmp_path / "wide.png", (1, 20, 20))[0]
    assert (small[:, 2:-2] == 250).all()
    scaled = np.asarray(Image.fromarray(pixels).resize((60, 20), Image.Resampling.BICUBIC))
    assert (small == scaled[:, 20:40]).all()
    wider = load_image(tmp_path / "wide.png", (1, 20, 40))[0]
    assert (wider[:, :8] == 0).all()
    assert (wider[:, 13:27] == 250).all()
    assert (wider[:, 32:] == 90).all()


def test_resize_is_antialiased(tmp_path: Path) -> None:
    """A fine chequerboard becomes an even grey, not a pattern."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    small = load_image(tmp_path / "board.png", (1, 8, 8))[0, 1:-1, 1:-1]
    assert np.abs(small.astype(int) - 128).max() <= 2


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    """An image stored on its side comes back upright."""
    stored = np.zeros((8, 16), np.uint8)
    stored[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    assert (load_image(tmp_path / "x.png", (1, 16, 8))[0] == np.rot90(stored, -1)).all()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (2, 2), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("RGBA", (2, 2), (10, 20, 30, 51)), (206, 208, 210)),
        (Image.new("LA", (2, 2), (10, 51)), (206, 206, 206)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("RGB", (2, 2), (10, 20, 30)).quantize(4), (10, 20, 30)),
    ],
    ids=["clear", "opaque", "half", "grey", "bits", "palette"],
)
def test_modes(tmp_path: Path, image: Image.Image, expected: tuple[int, int, int]) -> None:
    """Transparency lies on white; bits and palettes become the colours they stand for."""
    image.save(tmp_path / "x.png")
    pixels = load_image(tmp_path / "x.png", (3, 2, 2)).astype(int)
    assert np.abs(pixels - np.array(expected)[:, None, None]).max() <= 1


def test_print_colours_are_converted(tmp_path: Path) -> None:
    """A CMYK image is an image: pure yellow ink is yellow."""
    Image.new("CMYK", (8, 8), (0, 0, 255, 0)).save(tmp_path / "x.jpg")
    red, green, blue = load_image(tmp_path / "x.jpg", (3, 8, 8)).astype(int).mean((1, 2))
    assert red > 240
    assert green > 240
    assert blue < 15


def test_files_and_memory_give_the_same_pixels(tmp_path: Path) -> None:
    """Decoding late, which is chosen by size, gives the pixels of decoding at once."""
    write_classes(tmp_path, {"a": 12, "b": 12}, (9, 7))
    needed = 24 * 3 * 9 * 7
    now = load_folder(tmp_path, memory_limit=needed).train
    late = load_folder(tmp_path, memory_limit=needed - 1).train
    assert isinstance(now.images, MemoryImages)
    assert isinstance(late.images, FileImages)
    order = np.random.default_rng(0).integers(0, len(now), 50)
    assert (now.images.load(order) == late.images.load(order)).all()
    assert late.images.load(np.array([], np.int64)).shape == (0, 3, 9, 7)
    part = late.subset(np.array([3, 1]))
    assert (everything(part) == now.images.load(np.array([3, 1]))).all()
    assert part.names == (now.names[3], now.names[1])


def test_files_survive_pickle_fork_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After decoding in threads, images still load from a pickle and in a forked process."""
    monkeypatch.setattr("purenoise.data.decode.SMALL_FILE", 0)  # threads for small files too
    write_classes(tmp_path, {"a": 12, "b": 12})
    images = load_folder(tmp_path, memory_limit=0).train.images
    indices = np.arange(len(images))
    here = images.load(indices)
    assert (pickle.loads(pickle.dumps(images)).load(indices) == here).all()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert (pool.apply_async(images.load, (indices,)).get(20) == here).all()


@pytest.mark.parametrize("harm", ["remove", "cut", "link"])
def test_file_breaks_after_the_scan(tmp_path: Path, harm: str) -> None:
    """A file that goes, breaks or becomes a link out between scan and load is named."""
    root = write_classes(tmp_path / "root", {"a": 3, "b": 3}, (40, 40))
    scan = scan_folder(root)
    late = load_folder(root, scan=scan, memory_limit=0).train
    victim = root / late.names[0]
    whole = victim.read_bytes()
    victim.unlink()
    if harm == "cut":
        victim.write_bytes(whole[:200])
    elif harm == "link":
        victim.symlink_to(write(tmp_path / "secret.png"))
    for load in (lambda: load_folder(root, scan=scan), lambda: everything(late)):
        with pytest.raises(DataError, match=late.names[0]):
            load()


def test_load_image_names_a_bad_file(tmp_path: Path) -> None:
    """One image that is missing or broken is an error with its path."""
    (tmp_path / "x.png").write_text("text")
    for name, words in (("x.png", "not an image"), ("none.png", "cannot be read: No such file")):
        with pytest.raises(DataError, match=f"{name}.*{words}"):
            load_image(tmp_path / name, (3, 4, 4))


@pytest.mark.parametrize("size", [0, -8, (8,), (8, 0), (8, 8, 8), True, (8.5, 8)])
def test_wrong_image_size(tmp_path: Path, size: object) -> None:
    """An image size is one or two positive whole numbers."""
    write_classes(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(DataError, match="image_size is"):
        load_folder(tmp_path, image_size=size)  # type: ignore[arg-type]
