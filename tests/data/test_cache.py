"""Decoded images that are kept: the pixels of decoding, each file once, changes noticed."""

from __future__ import annotations

import os
import pickle
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from purenoise.data.cacheroot import default_root
from purenoise.data.files import FileImages
from purenoise.data.folder import load_folder
from purenoise.data.scan import scan_folder
from purenoise.data.types import MemoryImages

from .support import (
    age,
    check,
    folders_in,
    load,
    many_kinds,
    only_folder,
    opened,
    plain,
    scan,
    write,
)


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_pixels_are_those_of_decoding(tmp_path: Path, channels: int | None, memory: int) -> None:
    """Images of every mode, kept or just decoded, from disk or memory, are equal bit for bit."""
    from purenoise.data.cacheroot import CacheChoice
    from purenoise.data.target import Keep, Target

    root = many_kinds(tmp_path / "images")
    keep = Keep(Target(9, channels), CacheChoice(tmp_path / "kept"))
    for _ in range(2):
        data = load_folder(root, image_size=9, channels=channels, memory_limit=memory,
                           scan=scan_folder(root, keep))  # fmt: skip
        assert data.image_shape == (channels or 3, 9, 9)
        assert isinstance(data.train.images, MemoryImages if memory else FileImages)
        check(data, root)


def test_each_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first load opens each file once, and one for its header; later ones open none."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    for memory in (0, 1 << 20):
        with opened(monkeypatch) as names:
            first = load(root, place, memory_limit=memory)
            first.train.images.load(np.arange(len(first.train)))
        assert len(names) <= (9 if memory == 0 else 0)
    with opened(monkeypatch) as names:
        data = load(root, place)
        pixels = data.train.images.load(np.arange(len(data.train)))
        assert not names
    assert (pixels == first.train.images.load(np.arange(len(first.train)))).all()
    assert data.fingerprint == first.fingerprint


def test_without_a_cache_memory_takes_the_one_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that fits into memory is decoded once, too."""
    root = plain(tmp_path / "images")
    with opened(monkeypatch) as names:
        data = load_folder(root, image_size=8)
    assert len(names) == 9
    assert isinstance(data.train.images, MemoryImages)
    check(data, root)


def test_scan_is_what_it_is_without_a_cache(tmp_path: Path) -> None:
    """What is known from the cache equals what looking at every file finds."""
    root = many_kinds(tmp_path / "images")
    for name, content in (("text.png", b"text"), ("cut.png", None)):
        whole = (root / "a" / "0-RGB.png").read_bytes()
        (root / "b" / name).write_bytes(whole[:150] if content is None else content)
        age(root / "b" / name)
    write(root / "a" / "copy.png", ord("b"), (11, 30))
    alone = scan_folder(root)
    assert scan(root, tmp_path / "kept") == alone
    assert scan(root, tmp_path / "kept") == alone
    assert len(alone.unusable) == 2
    assert alone.conflicts


@pytest.mark.parametrize("change", ["content", "time", "size", "added", "removed", "renamed"])
def test_changes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A file that changed, came or moved is decoded anew, and no other is."""
    root, place = plain(tmp_path / "images", 6), tmp_path / "kept"
    load(root, place)
    victim = root / "a" / "001.png"
    if change == "content":  # of the same number of bytes
        data = bytearray(victim.read_bytes())
        Image.fromarray(np.zeros((16, 12, 3), np.uint8)).save(victim)
        victim.write_bytes(victim.read_bytes() + bytes(len(data) - victim.stat().st_size))
        assert victim.stat().st_size == len(data)
        age(victim, by=1)
    elif change == "time":
        age(victim, by=1)
    elif change == "size":
        age(write(victim, 99, (20, 20)))
    elif change == "added":
        victim = write(root / "b" / "new.png", 55)
    elif change == "removed":
        victim.unlink()
    else:
        victim = victim.rename(root / "a" / "other.png")
    with opened(monkeypatch) as names:
        data = load(root, place)
        assert names == ([] if change == "removed" else [victim.name])
    check(data, root)
    assert data.fingerprint == load_folder(root, image_size=8).fingerprint
    with opened(monkeypatch) as names:
        load(root, place)
        assert not names


def test_fresh_files_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file written in the very tick in which it was read might change without a new time."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    fresh = root / "a" / "001.png"
    moment = 1_700_000_000_123_456_789
    os.utime(fresh, ns=(moment, moment))
    monkeypatch.setattr("purenoise.data.examine.time.time_ns", lambda: moment + 1000)
    load(root, place)
    write(fresh, 77)
    os.utime(fresh, ns=(moment, moment))
    monkeypatch.setattr("purenoise.data.examine.time.time_ns", lambda: moment + 10**10)
    for expected in ([fresh.name], []):
        with opened(monkeypatch) as names:
            check(load(root, place), root)
            del names[len(names) - 8 :]  # those of the check
        assert names == expected


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(steps=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), max_size=8))
def test_any_history_gives_the_pixels_of_decoding(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    """However files come, change and go between loads, pixels are those of decoding."""
    tmp_path = tmp_path_factory.mktemp("history")
    root, place = plain(tmp_path / "images", 3), tmp_path / "kept"
    for k, (which, action) in enumerate(steps):
        path = root / "ab"[which % 2] / f"{which}.png"
        if action == 2:
            path.unlink(missing_ok=True)
        else:
            age(write(path, 100 * k + which), by=k)
        if action:
            check(load(root, place), root)
    check(load(root, place), root)
    assert scan(root, place) == scan_folder(root)


def test_shapes_and_folders_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shape and each folder has pixels of its own; a known folder needs no header."""
    place = tmp_path / "kept"
    first, second = plain(tmp_path / "one", 3), plain(tmp_path / "two", 3)
    for root, side in ((first, 8), (first, 9), (second, 8)):
        check(load(root, place, side), root)
    assert len(folders_in(place)) == 3
    with opened(monkeypatch) as names:
        scan(first, place, 10)
    assert len(names) == 6  # decoded, and none opened for its size


def test_decoder_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of Pillow or of our decoder decodes anew."""
    root, place = plain(tmp_path / "images", 2), tmp_path / "kept"
    scan(root, place)
    for name, value in (
        ("Image.__version__", "0.0"),
        ("DECODER", 99),
        ("Image.MAX_IMAGE_PIXELS", 9999),
    ):
        with monkeypatch.context() as patch, opened(monkeypatch) as names:
            patch.setattr(f"purenoise.data.decode.{name}", value)
            scan(root, place)
            assert len(names) >= 4


@pytest.mark.parametrize(
    "name", ["猫 ü.png", "a\nb.png", "'\"<b>.png", "e\u0301.png", "\u202e.png"]
)
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Names of all alphabets, with line breaks and quotes, are found again."""
    root, place = plain(tmp_path / "images", 2), tmp_path / "kept"
    write(root / "a" / name, 5)
    check(load(root, place), root)
    with opened(monkeypatch) as names:
        data = load(root, place)
        assert not names
    assert f"a/{name}" in (*data.train.names, *data.test.names)


def test_link_out_is_refused_with_a_filled_cache(tmp_path: Path) -> None:
    """A kept image that becomes a link to the outside, of the same time and size, is unusable."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    load(root, place)
    victim = root / "a" / "001.png"
    (tmp_path / "secret.png").write_bytes(victim.read_bytes())
    age(tmp_path / "secret.png")
    victim.unlink()
    victim.symlink_to(tmp_path / "secret.png")
    (bad,) = scan(root, place).unusable
    assert (bad.path, bad.reason) == ("a/001.png", "a link that leads out of the folder")


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    """The images' folder stays as it is, and the cache is its owner's and inside its root."""
    root, place = many_kinds(tmp_path / "images"), tmp_path / "deep" / "kept"
    before = sorted(p.name for p in root.rglob("*"))
    load(root, place)
    assert sorted(p.name for p in root.rglob("*")) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "images"]
    folder = only_folder(place)
    assert sorted(p.name for p in folder.iterdir()) == [
        "index.npz", "lock", "pixels-0.bin", "purenoise-cache.json",
    ]  # fmt: skip
    for path in (place, folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_default_root(monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> None:
    """The place is PURENOISE_CACHE, else below XDG_CACHE_HOME, else below the home."""
    assert default_root() == cache_root
    monkeypatch.delenv("PURENOISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_root() == Path("/x/purenoise")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert default_root() == Path("/h/.cache/purenoise")


def test_kept_images_survive_pickle_and_threads(tmp_path: Path) -> None:
    """Kept images can be loaded from a pickle and from many threads at once."""
    data = load(many_kinds(tmp_path / "images"), tmp_path / "kept")
    images = data.train.images
    order = np.arange(len(images))[::-1].copy()
    here = images.load(order)
    assert (pickle.loads(pickle.dumps(images)).load(order) == here).all()
    same: list[bool] = []
    threads = [
        threading.Thread(target=lambda: same.append(bool((images.load(order) == here).all())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 8


def test_number_of_threads_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread and many give the same data set, though rows may lie in another order."""
    monkeypatch.setattr("purenoise.data.decode.SMALL_FILE", 0)
    root = many_kinds(tmp_path / "images")
    found = []
    for n in (1, 8):
        monkeypatch.setattr("purenoise.data.decode.available_cores", lambda n=n: n)
        data = load(root, tmp_path / f"kept{n}")
        found.append((data.fingerprint, data.train.images.load(np.arange(len(data.train)))))
        check(data, root)
    assert found[0][0] == found[1][0]
    assert (found[0][1] == found[1][1]).all()


def test_passing_failures_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be decoded for want of memory is tried again; a broken one is not."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    (root / "b" / "bad.png").write_text("text")
    age(root / "b" / "bad.png")
    with monkeypatch.context() as patch:
        patch.setattr(
            "purenoise.data.decode._remarks", lambda image: (_ for _ in ()).throw(MemoryError())
        )
        assert len(scan(root, place).unusable) == 9
    with opened(monkeypatch) as names:
        assert [file.path for file in scan(root, place).unusable] == ["b/bad.png"]
        assert len(set(names)) == 4  # of 2 x 4 files, named alike
        assert "bad.png" not in names
