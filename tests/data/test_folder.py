"""Folders as data sets: pixels, sizes, splits, notes and refusals."""

from __future__ import annotations

import multiprocessing
import pickle
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from purenoise.data.folder import FileImages, load_folder, load_image, stratified_draw
from purenoise.data.scan import scan_folder
from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.errors import DataError


def write(path: Path, value: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Path:
    """Write an image of ``size`` (H, W) with pixels drawn from the seed ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    pixels = np.random.default_rng(value).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_classes(root: Path, counts: dict[str, int], size: tuple[int, int] = (6, 4)) -> Path:
    """Write different images, ``counts[name]`` of each class."""
    for c, (name, n) in enumerate(counts.items()):
        for i in range(n):
            write(root / name / f"{i:03}.png", zlib.crc32(f"{root.name} {c} {i}".encode()), size)
    return root


def everything(split: Split) -> np.ndarray:
    """Return all pixels of a split."""
    return split.images.load(np.arange(len(split)))


def noted(data: Dataset, words: str) -> bool:
    """Return whether a note has these words."""
    return any(words in note for note in data.notes)


def test_pixels_labels_and_names(tmp_path: Path) -> None:
    """Images of one size come back pixel by pixel, with their class and path."""
    write_classes(tmp_path, {"b": 5, "a": 5})
    data = load_folder(tmp_path)
    assert data.image_shape == (3, 6, 4)
    assert data.class_names == ("a", "b")
    for split in (data.train, data.test):
        for image, label, name in zip(everything(split), split.labels, split.names, strict=True):
            assert (image == np.asarray(Image.open(tmp_path / name)).transpose(2, 0, 1)).all()
            assert name.split("/")[0] == data.class_names[label]
    assert data.name == tmp_path.name
    assert noted(data, "There is no test folder: 2 images were set aside")


def test_given_splits(tmp_path: Path) -> None:
    """Given folders are the splits, whatever the fractions say."""
    for split, n in (("train", 5), ("validation", 3), ("test", 2)):
        write_classes(tmp_path / split, {"a": n, "b": n})
    data = load_folder(tmp_path, val_fraction=0.4)
    assert data.val is not None
    assert [len(s) for s in (data.train, data.val, data.test)] == [10, 6, 4]
    assert data.val.names[0] == "validation/a/000.png"
    assert not data.notes


def test_missing_splits_are_drawn_from_train(tmp_path: Path) -> None:
    """Without test and val folders both are drawn from train, and the test set ignores val."""
    write_classes(tmp_path / "train", {"a": 20, "b": 10})
    data = load_folder(tmp_path, val_fraction=0.1)
    assert data.val is not None
    assert data.test.counts(2).tolist() == [4, 2]
    assert data.val.counts(2).tolist() == [2, 1]
    assert data.counts().tolist() == [14, 7]
    assert load_folder(tmp_path).test.names == data.test.names
    assert load_folder(tmp_path, split_seed=1).test.names != data.test.names


def contents(split: Split) -> list[tuple[int, bytes]]:
    """Return label and pixels of each image, in order."""
    return [(int(c), i.tobytes()) for c, i in zip(split.labels, everything(split), strict=True)]


@pytest.mark.parametrize("top", ["", "train"])
def test_renaming_changes_neither_split_nor_fingerprint(tmp_path: Path, top: str) -> None:
    """The split and the order of training follow what is in the files, not their names."""
    root = write_classes(tmp_path / top, {"a": 20, "b": 10})
    before = load_folder(tmp_path, val_fraction=0.1)
    for i, path in enumerate(sorted(root.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed {i:03}.png"))
    after = load_folder(tmp_path, val_fraction=0.1)
    assert before.val is not None
    assert after.val is not None
    assert contents(after.train) == contents(before.train)
    assert set(contents(after.val)) == set(contents(before.val))
    assert set(contents(after.test)) == set(contents(before.test))
    assert after.fingerprint == before.fingerprint


def test_fingerprint_sees_content_label_and_split(tmp_path: Path) -> None:
    """Another image, another class of two images, or another split is another data set."""
    write_classes(tmp_path, {"a": 6, "b": 6})
    seen = {load_folder(tmp_path).fingerprint, load_folder(tmp_path, split_seed=1).fingerprint}
    (tmp_path / "a" / "000.png").rename(tmp_path / "b" / "new.png")
    (tmp_path / "b" / "000.png").rename(tmp_path / "a" / "new.png")
    seen.add(load_folder(tmp_path).fingerprint)
    write(tmp_path / "a" / "new.png", 5)
    seen.add(load_folder(tmp_path).fingerprint)
    assert len(seen) == 4


def test_tiny_classes_are_named(tmp_path: Path) -> None:
    """A class of one image trains and has no test image, which is said by name."""
    write_classes(tmp_path, {"big": 10, "one": 1, "two": 2})
    data = load_folder(tmp_path)
    assert data.counts().tolist() == [8, 1, 1]
    assert data.test.counts(3).tolist() == [2, 0, 1]
    assert noted(data, "No test image for 'one': figures for these classes are n/a.")


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


def test_bad_files_are_skipped_and_counted(tmp_path: Path) -> None:
    """Skipped files are counted and five are named; on request all are an error."""
    write_classes(tmp_path, {"a": 4, "b": 4})
    for i in range(7):
        (tmp_path / "a" / f"bad{i}.png").write_text("text")
    data = load_folder(tmp_path)
    (note,) = [note for note in data.notes if note.startswith("Skipped")]
    assert "7 files cannot be used: 'a/bad0.png' (not an image that can be opened)" in note
    assert "bad4" in note
    assert "bad5" not in note
    assert "and 2 more" in note
    assert len(data.train) + len(data.test) == 8
    with pytest.raises(DataError, match="7 files") as caught:
        load_folder(tmp_path, on_bad="error")
    assert all(f"a/bad{i}.png" in caught.value.message for i in range(7))


def test_class_without_training_images(tmp_path: Path) -> None:
    """A class whose images are all bad, absent from train, or none is an error by name."""
    write_classes(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "c").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "bad.png").write_text("text")
    with pytest.raises(DataError, match=r"for 'c', 'd'.*'d/bad.png' \(not an image"):
        load_folder(tmp_path)
    write_classes(tmp_path / "s" / "train", {"a": 4, "b": 4})
    write_classes(tmp_path / "s" / "test", {"a": 4, "x": 4})
    with pytest.raises(DataError, match=r"in '.*train' for 'x'"):
        load_folder(tmp_path / "s")


def test_notes_on_duplicates(tmp_path: Path) -> None:
    """Identical images with two labels, or in train and test, are noted and kept."""
    for split in ("train", "test"):
        write_classes(tmp_path / split, {"a": 3, "b": 3})
    for name in ("train/a/x.png", "train/b/y.png", "test/a/z.png"):
        write(tmp_path / name, 77)
    data = load_folder(tmp_path)
    assert noted(data, "Identical images in different classes: 1, such as 'test/a/z.png = train/a/")
    assert noted(data, "Identical images in different splits: 1")
    assert (len(data.train), len(data.test)) == (8, 7)


@pytest.mark.parametrize("split", ["", "train"])
def test_deeper_folders_are_joined_with_a_note(tmp_path: Path, split: str) -> None:
    """Images of deeper folders are of the class they lie in, and a note names those folders."""
    root = tmp_path / "set"
    top = root / split
    write_classes(top / "animals", {"cat": 3, "dog": 3})
    write_classes(top, {"things": 3})
    if split:
        write_classes(root / "test", {"animals": 2, "things": 2})
    data = load_folder(root)
    assert data.class_names == ("animals", "things")
    prefix = f"{split}/" if split else ""
    told = f"joined into the class that they lie in: '{prefix}animals/cat', '{prefix}animals/dog'."
    assert noted(data, told)
    flat = write_classes(tmp_path / "flat", {"animals": 3, "things": 3})
    assert not noted(load_folder(flat), "joined")


def test_identical_files_stay_on_one_side(tmp_path: Path) -> None:
    """Copies of an image never lie in train and test, whatever the seed."""
    write_classes(tmp_path, {"a": 10, "b": 10})
    for name in ("a/copy1.png", "a/copy2.png", "b/copy.png"):
        write(tmp_path / name, 77)
    scan = scan_folder(tmp_path)
    for seed in range(10):
        data = load_folder(tmp_path, scan=scan, split_seed=seed, test_fraction=0.4)
        copies = [sum("copy" in name for name in s.names) for s in (data.train, data.test)]
        assert sorted(copies) == [0, 3]


def test_all_wrong_arguments_at_once(tmp_path: Path) -> None:
    """Arguments out of range are listed together, before anything is read."""
    with pytest.raises(DataError) as caught:
        load_folder(
            tmp_path / "none",
            channels=2,
            val_fraction=-0.1,
            test_fraction=1.0,
            split_seed=-1,
            on_bad="ignore",
            memory_limit=-1,
        )
    for name in ("channels", "val_fraction", "test_fraction", "split_seed", "on_bad", "memory_"):
        assert name in caught.value.message


@pytest.mark.parametrize("size", [0, -8, (8,), (8, 0), (8, 8, 8), True, (8.5, 8)])
def test_wrong_image_size(tmp_path: Path, size: object) -> None:
    """An image size is one or two positive whole numbers."""
    write_classes(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(DataError, match="image_size is"):
        load_folder(tmp_path, image_size=size)  # type: ignore[arg-type]


def test_scan_of_another_folder(tmp_path: Path) -> None:
    """A scan that belongs to another folder is refused."""
    for name in ("x", "y"):
        write_classes(tmp_path / name, {"a": 2, "b": 2})
    with pytest.raises(DataError, match=r"The scan is of '.*x', not of '.*y'"):
        load_folder(tmp_path / "y", scan=scan_folder(tmp_path / "x"))


@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60),
    wanted=st.lists(st.integers(0, 10), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_draw_properties(pairs: list[tuple[int, int]], wanted: list[int], seed: int) -> None:
    """Groups stay whole, each class keeps an image, only wanted ones go, a seed is one draw."""
    labels, groups = np.array(pairs, np.int64).T
    asked = np.array(wanted, np.int64)
    drawn = stratified_draw(labels, groups, asked, np.random.default_rng(seed))
    assert drawn.shape == labels.shape
    assert not set(groups[drawn]) & set(groups[~drawn])
    assert set(labels[~drawn]) == set(labels)
    assert all(wanted[label] > 0 for label in labels[drawn])
    again = stratified_draw(labels, groups, asked, np.random.default_rng(seed))
    assert (drawn == again).all()


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
)
def test_draw_is_exact_without_copies(counts: list[int], share: float, seed: int) -> None:
    """If all images differ, each class gives just what is wanted, short of its last image."""
    labels = np.repeat(np.arange(len(counts)), counts)
    wanted = np.ceil(np.array(counts) * share).astype(np.int64)
    drawn = stratified_draw(labels, np.arange(len(labels)), wanted, np.random.default_rng(seed))
    expected = np.minimum(wanted, np.array(counts) - 1)
    assert np.bincount(labels[drawn], minlength=len(counts)).tolist() == expected.tolist()


def test_large_groups_still_give_a_test_image() -> None:
    """A class of copies that are all too many for the share gives its smallest group."""
    labels = np.repeat([0, 1], [9, 10])
    groups = np.array([0] * 4 + [1] * 5 + list(range(10, 20)))
    drawn = stratified_draw(labels, groups, np.array([2, 2]), np.random.default_rng(0))
    assert drawn[:9].tolist() == [True] * 4 + [False] * 5


def test_draw_takes_every_image_equally_often() -> None:
    """Over many seeds each image is drawn at the rate asked for (chi-square within 5 sigma)."""
    n, times = 20, 2000
    hits = np.zeros(n)
    for seed in range(times):
        hits += stratified_draw(
            np.zeros(n, np.int64), np.arange(n), np.array([5]), np.random.default_rng(seed)
        )
    rate = 5 / n
    chi = ((hits - times * rate) ** 2 / (times * rate * (1 - rate))).sum()
    assert abs(chi - n) < 5 * (2 * n) ** 0.5


def test_the_draw_of_many_images_takes_seconds():
    """Twice as many images take about twice the time, not four times: 60,000 are drawn at once."""
    n = 60_000
    start = time.perf_counter()
    drawn = stratified_draw(
        np.arange(n) % 100, np.arange(n), np.full(100, 120), np.random.default_rng(0)
    )
    assert time.perf_counter() - start < 6  # quadratic work would take far longer
    assert drawn.sum() == 12_000
