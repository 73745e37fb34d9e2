"""A cache that is damaged, cut short, filled by two or killed still gives the right pixels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from purenoise.data import table
from purenoise.data.cacheroot import MARKER
from purenoise.data.pixels import DamagedRowsWarning
from purenoise.data.types import Split

from .support import age, check, load, only_folder, opened, plain, scan, write

ROW = 3 * 8 * 8

PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
import purenoise.data.cache as cache
from tests.data.support import load
root, place, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
cache.SAVE_SECONDS = 0.0
original, n = Image.open, 0
def slow(*args, **kwargs):
    import time
    global n
    n += 1
    time.sleep(seconds)
    return original(*args, **kwargs)
Image.open = slow
print("begins", flush=True)
data = load(root, place)
print(n, data.fingerprint, flush=True)
"""


def everything(split: Split) -> np.ndarray:
    """Return all pixels of a split."""
    return split.images.load(np.arange(len(split)))


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


def other_version(path: Path) -> None:
    """Write an index as another version of this package would."""
    known, head = table.load_table(path)
    version, table.VERSION = table.VERSION, table.VERSION + 1
    try:
        table.save_table(known, path, head)
    finally:
        table.VERSION = version


def beyond(path: Path) -> None:
    """Let the index point far beyond its file of pixels."""
    known, head = table.load_table(path)
    known.columns["row"] += 2**40
    table.save_table(known, path, head)


def elsewhere(path: Path) -> None:
    """Let the index name a file of pixels outside its folder."""
    known, head = table.load_table(path)
    table.save_table(known, path, {**head, "pixels": "../pixels-0.bin"})


def pickled(path: Path) -> None:
    """Write an index that would run code if it were unpickled."""

    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(path.parent.parent / "harm"),)

    np.savez(path.with_suffix(""), head=np.array([Harm()], object))


HARM: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 9),
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-300]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
    "version": other_version,
    "elsewhere": elsewhere,
    "pickle": pickled,
    "folder": lambda path: (path.unlink(), path.mkdir(), (path / "x").touch()),
}


@pytest.mark.parametrize("harm", HARM)
def test_damaged_index_is_made_anew(tmp_path: Path, harm: str) -> None:
    """Whatever is wrong with the index, images are decoded anew, with a word; then all is well."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    load(root, place)
    index = only_folder(place) / "index.npz"
    HARM[harm](index)
    data = load(root, place)
    check(data, root)
    assert any("was damaged: made anew" in note for note in data.notes)
    assert not (place / "harm").exists()
    if harm != "folder":
        again = load(root, place)
        check(again, root)
        assert not any("made anew" in note or "kept were damaged" in note for note in again.notes)


@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(at=st.integers(0, 9999))
def test_any_flipped_byte_of_the_index(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    """No byte of the index can be changed so that wrong pixels or facts come back."""
    tmp_path = tmp_path_factory.mktemp("flip")
    root, place = plain(tmp_path / "images", 2), tmp_path / "kept"
    before = scan(root, place)
    index = only_folder(place) / "index.npz"
    flip(index, at % index.stat().st_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedRowsWarning)
        check(load(root, place), root)
    assert scan(root, place) == before


@pytest.mark.parametrize("harm", ["beyond", "removed", "truncated", "emptied"])
def test_missing_rows_are_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """Rows that are not there are found out before loading, said, and written again."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    load(root, place)
    folder = only_folder(place)
    pixels = folder / "pixels-0.bin"
    if harm == "beyond":
        beyond(folder / "index.npz")
    elif harm == "removed":
        pixels.unlink()
    else:
        os.truncate(pixels, 3 * ROW + 5 if harm == "truncated" else 0)
    with opened(monkeypatch) as names:
        data = load(root, place)
        assert len(names) == (5 if harm == "truncated" else 8)
    check(data, root)
    assert any("kept were damaged or missing" in note for note in data.notes)
    with opened(monkeypatch) as names:
        again = load(root, place)
        everything(again.train)
        assert not names
    check(again, root)
    assert not any("made anew" in note or "kept were damaged" in note for note in again.notes)


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_flipped_pixels_are_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    """A damaged row is noticed when it is read, decoded instead, warned of once, then mended."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    load(root, place)
    folder = only_folder(place)
    for row in range(8):
        flip(folder / "pixels-0.bin", row * ROW + 11)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(root, place, memory_limit=memory)
        check(data, root)
        everything(data.train)
    assert caught[0].category is DamagedRowsWarning
    assert len(caught) == 1
    assert str(folder) in str(caught[0].message)
    check(load(root, place, memory_limit=memory), root)  # mended: a warning would be an error
    with opened(monkeypatch) as names:
        everything(load(root, place).train)
        assert not names
    assert not (folder / "damaged").exists()


def test_pixels_that_go_while_they_are_used(tmp_path: Path) -> None:
    """An open reader goes on after the cache was removed, and one that opens later decodes."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    first, second = load(root, place), load(root, place)
    everything(first.train)
    object.__setattr__(second.train.images.kept.file, "_file", None)  # type: ignore[attr-defined]
    for path in only_folder(place).iterdir():
        path.unlink()
    only_folder(place).rmdir()
    check(first, root)
    with pytest.warns(DamagedRowsWarning):
        everything(second.train)


def test_pixels_cut_while_they_are_used(tmp_path: Path) -> None:
    """A file of pixels that is cut short under an open reader ends no process."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    data = load(root, place)
    everything(data.train)
    os.truncate(only_folder(place) / "pixels-0.bin", ROW + 1)
    with pytest.warns(DamagedRowsWarning) as caught:
        check(data, root)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore::purenoise.data.pixels.DamagedRowsWarning")
@pytest.mark.parametrize("name", ["pixels-0.bin", "index.npz", "lock", "damaged", MARKER])
def test_links_in_the_cache_are_not_written_through(tmp_path: Path, name: str) -> None:
    """A link in the place of a file of ours leads nowhere: what it points to stays as it is."""
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    load(root, place)
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"x" * 5000)
    path = only_folder(place) / name
    path.unlink(missing_ok=True)
    path.symlink_to(treasure)
    if name == "damaged":
        flip(path.parent / "pixels-0.bin", 11)
        check(load(root, place), root)
    write(root / "a" / "new.png", 5)
    check(load(root, place), root)
    assert treasure.read_bytes() == b"x" * 5000


def run(root: Path, place: Path, seconds: float) -> subprocess.Popen[str]:
    """Start a process that loads a folder, each image taking some time."""
    words = [sys.executable, "-c", PROGRAM, str(root), str(place), str(seconds)]
    here = Path(__file__).parent.parent.parent
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=here)


def test_killed_fill_goes_on(tmp_path: Path) -> None:
    """What a killed process had decoded by its last index is not decoded again."""
    root, place = plain(tmp_path / "images", 20), tmp_path / "kept"
    process = run(root, place, 0.03)
    for _ in range(1000):
        time.sleep(0.02)
        found = [*place.glob("*/index.npz")]
        if found and len(table.load_table(found[0])[0].paths) >= 5:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (index,) = place.glob("*/index.npz")
    n_known = len(table.load_table(index)[0].paths)
    assert 5 <= n_known < 40
    with open(index.parent / "pixels-0.bin", "ab") as file:
        file.write(bytes(90 * ROW + 7))  # rows that were written after the index
    again = run(root, place, 0)
    assert again.stdout is not None
    output = again.communicate()[0].split()
    assert int(output[1]) <= 40 - n_known
    assert (index.parent / "pixels-0.bin").stat().st_size == 40 * ROW
    check(load(root, place), root)


def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    """A second process waits for the first, and then decodes nothing."""
    root, place = plain(tmp_path / "images", 10), tmp_path / "kept"
    both = [run(root, place, 0.03) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    decoded = [int(output[1]) for output in outputs]
    assert sum(decoded) <= 20 + 2  # each may have read a header before
    assert outputs[0][2] == outputs[1][2]
    check(load(root, place), root)
    (pixels,) = place.glob("*/pixels-*.bin")
    assert pixels.stat().st_size == 20 * ROW


def test_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform without file locks keeps images all the same."""
    monkeypatch.setattr("purenoise.data.cacheroot.fcntl", None)
    root, place = plain(tmp_path / "images"), tmp_path / "kept"
    load(root, place)
    age(write(root / "a" / "000.png", 9), by=1)
    check(load(root, place), root)
