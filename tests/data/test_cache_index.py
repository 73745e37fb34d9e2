"""The cache's index: any rows come back, old ones go, what it says is not believed blindly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from purenoise.data import table

from .support import (
    check,
    load,
    only_folder,
    opened,
    plain,
    write,
)


def test_stale_rows_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If most rows belong to no file, the others move; who reads the old ones still can."""
    root, place = plain(tmp_path / "images", 8), tmp_path / "kept"
    before = load(root, place)
    reader = before.train.images
    all_rows = np.arange(len(before.train))
    pixels = reader.load(all_rows)
    (old,) = only_folder(place).glob("pixels-*.bin")
    for path in sorted(root.rglob("*.png"))[:5] + sorted(root.rglob("*.png"))[-5:]:
        path.unlink()
    with opened(monkeypatch) as names:
        after = load(root, place)
        assert not names
    check(after, root)
    (new,) = only_folder(place).glob("pixels-*.bin")
    assert new != old
    assert new.stat().st_size == 6 * 3 * 8 * 8
    assert (reader.load(all_rows) == pixels).all()


@pytest.mark.parametrize("kind", ["grey among headers of colour", "size of an unusable file"])
def test_headers_that_promise_too_much(tmp_path: Path, kind: str) -> None:
    """If decoding tells another shape than headers did, images are brought to the right one."""
    root, place = tmp_path / "images", tmp_path / "kept"
    for c in "ab":
        for i in range(3):
            write(root / c / f"{i}.png", i, (12, 12), "L")
    if kind.startswith("grey"):
        whole = write(root / "a" / "0colour.png", 3, (12, 12)).read_bytes()
        (root / "a" / "0colour.png").write_bytes(whole[:200])
    else:
        whole = write(root / "a" / "0large.png", 3, (99, 99), "L").read_bytes()
        (root / "a" / "0large.png").write_bytes(whole[:200])
    for _ in range(2):
        data = load(root, place, side=None)
        assert data.image_shape == (1, 12, 12)
        assert data.train.images.kept is not None  # type: ignore[attr-defined]
        check(data, root)


texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(texts, unique=True, max_size=6),
    facts=st.lists(
        st.builds(
            table.Facts,
            st.tuples(st.integers(0, 2**40), st.integers(-1, 2**62)),
            st.just("") | texts,
            st.tuples(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1)),
            st.booleans(),
            st.binary(min_size=32, max_size=32),
            st.lists(texts, max_size=2).map(tuple),
        ),
        min_size=6,
        max_size=6,
    ),
)
def test_index_comes_back(tmp_path: Path, names: list[str], facts: list[table.Facts]) -> None:
    """What is known of files is read from the index as it was written."""
    known = table.Table(sorted(names))
    for i in range(len(names)):
        known.put(i, facts[i], row=i, crc=2**32 - 1 - i)
    table.save_table(known, tmp_path / "index.npz", {"more": [1]})
    back, head = table.load_table(tmp_path / "index.npz")
    assert head["more"] == [1]
    assert list(back.paths) == sorted(names)
    assert (back.columns == known.columns).all()
    assert [back.texts[i] for i in back.columns["text"]] == [
        (f.reason,) if f.reason else f.remarks for f in facts[: len(names)]
    ]
    fresh = table.Table(
        [*sorted(names), "\0"],
        np.array([*(f.stat for f in facts[: len(names)]), (0, 0)], np.int64).reshape(-1, 2),
    )
    fresh.take_known(back)
    assert fresh.missing().tolist() == [len(names)]
    assert (fresh.columns["row"][:-1] == np.arange(len(names))).all()
    assert dataclasses.is_dataclass(facts[0])
