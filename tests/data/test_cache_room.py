"""How much decoded images may take, what goes for them, and what is said if there is no room."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from purenoise.data import cacheroot
from purenoise.data.cacheroot import GIB, MARKER, cache_folders, remove
from purenoise.data.files import FileImages
from purenoise.data.folder import load_folder
from purenoise.datasection import Data
from purenoise.doctor import examine
from purenoise.errors import DataError
from purenoise.prepare import absolute_root, prepare, scan_data

from .support import SIDE, check, folders_in, load, only_folder, opened, plain

Usage = namedtuple("Usage", "total used free")
ROW = 3 * SIDE * SIDE


def used(folder: Path, when: int) -> Path:
    """Let a folder of decoded images have been used at a time."""
    os.utime(folder / MARKER, (when, when))
    return folder


def disk(monkeypatch: pytest.MonkeyPatch, free: int, total: int = 10 * GIB) -> None:
    """Let the disk have this much room."""
    usage = Usage(total, total - free, free)
    monkeypatch.setattr("purenoise.data.cacheroot.shutil.disk_usage", lambda path: usage)


@pytest.mark.parametrize(
    ("total", "free", "fits"),
    [
        (10 * GIB, GIB + 8 * ROW, True),
        (10 * GIB, GIB + 8 * ROW - 1, False),
        (100 * GIB, 5 * GIB + 8 * ROW, True),
        (100 * GIB, 5 * GIB + 8 * ROW - 1, False),
    ],
)
def test_disk_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, fits: bool
) -> None:
    """1 GiB or 5 % of the disk, whichever is more, stays free; else a note has the numbers."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    disk(monkeypatch, free, total)
    data = load(root, place)
    check(data, root)
    assert isinstance(data.train.images, FileImages)
    assert (data.train.images.kept is not None) == fits
    note = data.notes[-1]
    assert note.startswith(
        "Decoded images are kept" if fits else "Decoded images (0.1 MiB) are not"
    )
    if not fits:
        assert "are needed" in note
        assert "are free" in note
        assert not list(place.rglob("pixels*"))
        with pytest.raises(DataError, match=r"cannot be kept: .*are needed.*are free") as caught:
            load(root, place, required=True)
        assert "data.cache_mib" in caught.value.hint


def test_limit_holds_over_all_folders(tmp_path: Path) -> None:
    """Under a limit, what was not used for longest goes, and that is said; or all is refused."""
    place = tmp_path / "kept"
    roots = [plain(tmp_path / name) for name in ("one", "two", "three", "four")]
    size = 8 * 3 * 64 * 64
    limit = 3 * size + 2 * size // 3
    folders = []
    for when, root in enumerate(roots[:3]):
        load(root, place, 64, limit=limit)
        (new,) = folders_in(place) - set(folders)
        folders.append(used(new, 1000 + when))
    used(folders[0], 2000)
    data = load(roots[3], place, 64, limit=limit)
    check(data, roots[3])
    (note,) = [note for note in data.notes if "removed to make room" in note]
    assert f"'{roots[1]}'" in note
    assert folders[0].exists()
    assert not folders[1].exists()
    assert sum(folder.size for folder in cache_folders(place)) <= limit
    before = sorted(place.iterdir())
    refused = load(roots[1], place, 64, limit=size - 1)
    assert "are not kept" in refused.notes[-1]
    assert set(before) <= set(place.iterdir())  # nothing was removed in vain
    with pytest.raises(DataError, match="are in use"):
        load(roots[1], place, 64, limit=limit, required=True)


def test_only_folders_of_ours_are_removed(tmp_path: Path) -> None:
    """What has no marker or another name, files of others and what links point to all stay."""
    place = tmp_path / "kept"
    load(plain(tmp_path / "images"), place)
    ours = only_folder(place)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "pixels-0.bin").write_text("precious")
    shutil.copy(ours / MARKER, outside / MARKER)
    (place / "0123456789abcdef").symlink_to(outside)
    for name, marker in (("photos", True), ("fedcba9876543210", False)):
        (place / name).mkdir()
        (place / name / "pixels-0.bin").write_text("precious")
        if marker:
            shutil.copy(ours / MARKER, place / name / MARKER)
    linked = place / "00000000000000aa"
    linked.mkdir()
    (linked / MARKER).symlink_to(ours / MARKER)
    (linked / "index.npz").write_text("precious")
    (ours / "mine.txt").write_text("precious")
    (ours / "pixels-9.bin").symlink_to(outside / "pixels-0.bin")
    assert [folder.path for folder in cache_folders(place)] == [ours]
    for path in sorted(place.iterdir()):
        remove(path)
    assert [path.name for path in ours.iterdir()] == ["mine.txt"]
    assert (outside / "pixels-0.bin").read_text() == "precious"
    for name in ("photos", "fedcba9876543210"):
        assert (place / name / "pixels-0.bin").exists()
    assert (linked / "index.npz").exists()


def test_folder_that_is_being_filled_stays(tmp_path: Path) -> None:
    """A folder whose lock is held is not removed."""
    place = tmp_path / "kept"
    load(plain(tmp_path / "images"), place)
    folder = only_folder(place)
    with cacheroot.locked(folder):
        assert not remove(folder)
        assert (folder / "index.npz").exists()
    assert remove(folder)
    assert not folder.exists()


def test_what_another_process_has_announced_counts(tmp_path: Path) -> None:
    """Two processes are not given the same room: the second sees what the first will write."""
    place, size = tmp_path / "kept", 8 * ROW
    first, second = plain(tmp_path / "one"), plain(tmp_path / "two")
    load(first, place)
    filling = only_folder(place)
    cacheroot.announce(filling, 3 * size)
    with cacheroot.locked(filling):
        data = load(second, place, limit=3 * size)
    assert "are not kept" in data.notes[-1]
    (filling / cacheroot.ANNOUNCED).unlink()
    assert "are kept" in load(second, place, limit=3 * size).notes[-1]


def test_a_limit_that_was_lowered_is_kept_or_said(tmp_path: Path) -> None:
    """Others' images go when the limit falls; if only the own are left, that is said."""
    place = tmp_path / "kept"
    first, second = plain(tmp_path / "one"), plain(tmp_path / "two")
    load(first, place)
    old = only_folder(place)
    load(second, place)
    data = load(second, place, limit=12 * ROW)
    assert any("removed to make room" in note for note in data.notes)
    assert not old.exists()
    data = load(second, place, limit=ROW)
    assert any("more than the" in note and "they stay" in note for note in data.notes)
    assert only_folder(place).exists()


def test_what_killed_processes_left_is_cleared_away(tmp_path: Path) -> None:
    """Half-written files and pixels that no index names go with the next use."""
    root, place = plain(tmp_path / "one"), tmp_path / "kept"
    load(root, place)
    for name in ("abc.tmp", "pixels-9.bin"):
        (only_folder(place) / name).write_bytes(b"left")
    load(root, place)
    assert sorted(p.name for p in only_folder(place).iterdir()) == sorted(
        ["index.npz", "lock", MARKER, "pixels-0.bin"]
    )


def test_waiting_for_another_process_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for another's decoding says for which folder."""
    root, place = plain(tmp_path / "one"), tmp_path / "kept"
    load(root, place)
    (root / "a" / "more.png").write_bytes((root / "a" / "000.png").read_bytes())
    with cacheroot.locked(only_folder(place)):
        waiting = threading.Thread(target=load, args=(root, place))
        waiting.start()
        deadline = time.monotonic() + 20
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    waiting.join()
    assert "Waiting for another process" in caplog.text
    assert str(only_folder(place)) in caplog.text


@pytest.mark.parametrize("kind", ["file", "link"])
def test_place_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    """A root that is a file, or a folder of ours that is a link, is refused with the reason."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    if kind == "file":
        place.write_text("a file")
    else:
        load(root, place)
        folder = only_folder(place)
        shutil.rmtree(folder)
        (tmp_path / "aim").mkdir()
        folder.symlink_to(tmp_path / "aim")
    data = load(root, place)
    check(data, root)
    assert "are not kept" in data.notes[-1]
    with pytest.raises(DataError, match=r"cannot be kept: '.*kept"):
        load(root, place, required=True)
    if kind == "link":
        assert not list((tmp_path / "aim").iterdir())


def test_filled_cache_that_may_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filled cache is used even where nothing can be written."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    load(root, place)
    (root / "a" / "new.png").write_bytes((root / "a" / "000.png").read_bytes())
    new = (root / "a" / "new.png").rename(tmp_path / "new.png")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("purenoise.data.cacheroot.os.utime", refuse)
    monkeypatch.setattr("purenoise.data.cacheroot.Path.mkdir", refuse)
    with opened(monkeypatch) as names:
        data = load(root, place, required=True)
        assert not names
    check(data, root)
    new.rename(root / "a" / "new.png")
    assert "cannot be written: Permission denied" in load(root, place).notes[-1]


def test_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full in the middle, the rest is decoded each time, and next time kept."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    original, written = os.pwrite, []

    def full(file: int, data: bytes, offset: int) -> int:
        written.append(offset)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        return original(file, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr("purenoise.data.cache.os.pwrite", full)
        data = load(root, place)
        check(data, root)
        assert any("Some decoded images are not kept" in note for note in data.notes)
        with pytest.raises(DataError, match="No space left"):
            load(root, place, required=True)
    with opened(monkeypatch) as names:
        check_again = load(root, place)
        assert len(names) == 5
    check(check_again, root)


def test_recipe_keys(tmp_path: Path, cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` keeps in the usual place, a path there, `off` nowhere; the data are the same."""
    root = plain(tmp_path / "images", 10)
    given = {"name": "folder", "root": str(root), "memory_mib": 0}
    found = [
        prepare(Data(**given, cache=where))
        for where in ("auto", str(tmp_path / "mine"), "off", "auto")
    ]
    assert len({repr(p.summary()) for p in found}) == 1
    assert only_folder(cache_root)
    assert only_folder(tmp_path / "mine")
    kept = [any("are kept in" in note for note in p.dataset.notes) for p in found]
    assert kept == [True, True, False, True]
    assert Data.model_validate({"cache": False}).cache == "off"
    monkeypatch.chdir(tmp_path)
    assert absolute_root(Data(cache="mine")).cache == str(tmp_path / "mine")
    with pytest.raises(DataError, match="among the images"):
        prepare(Data(**given, cache=str(root / "kept")))
    with pytest.raises(DataError, match=r"at most 0\.0 MiB"):
        prepare(Data(**given, cache=str(tmp_path / "none"), cache_mib=0))
    data = Data(name="folder", root=str(plain(tmp_path / "new")), cache_mib=0)
    assert "are not kept" in prepare(data).dataset.notes[-1]


def test_one_scan_serves_inspection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a scan passed along, preparing opens no file again, with a cache or in memory."""
    root = plain(tmp_path / "images", 10)
    for cache in ("off", "auto"):
        data = Data(name="folder", root=str(root), cache=cache)
        found = scan_data(data)
        with opened(monkeypatch) as names:
            prepared = prepare(data, found)
            assert not names
        check(prepared.dataset, root)


def test_doctor_tells_what_is_kept(tmp_path: Path, cache_root: Path) -> None:
    """`doctor` names the place, the number of folders and their size."""
    (nothing,) = [check for check in examine() if check.name == "decoded images"]
    assert nothing.text == f"0 folders, 0.0 MiB, in {cache_root}"
    load(plain(tmp_path / "images", 40), cache_root, 64)
    (one,) = [check for check in examine() if check.name == "decoded images"]
    assert one.text == f"1 folder, 0.9 MiB, in {cache_root}"
    assert load_folder(tmp_path / "images").n_classes == 2
