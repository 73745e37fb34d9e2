# ruff: noqa: E501 - a case is a line
"""Lists of images: what is read, and every way in which a list can be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise.data.listfile import Faults, class_names, read_list
from purenoise.data.listset import read_lists
from purenoise.errors import DataError

from .made import picture

GOOD = [("cat/1.png", 0), ("cat/2.png", 0), ("dog/1.png", 1), ("dog/two words.png", 1)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with two classes, a training list and a test list."""
    for path, label in [*GOOD, ("cat/t.png", 0), ("dog/t.png", 1)]:
        picture(tmp_path / "photos" / path, label, len(path))
    folder = tmp_path / "photos"
    write(folder / "train.txt", GOOD)
    write(folder / "test.txt", [("cat/t.png", 0), ("dog/t.png", 1)])
    return folder


def write(path: Path, rows: list[tuple[str, int]], more: bytes = b"") -> Path:
    """Write a list, and bytes behind it."""
    text = "".join(f"{p} {label}\n" for p, label in rows)
    path.write_bytes(text.encode() + more)
    return path


def refused(root: Path, more: bytes = b"", test: bytes = b"") -> str:
    """Add bytes to the lists and return what is said of them."""
    write(root / "train.txt", GOOD, more)
    if test:
        (root / "test.txt").write_bytes(test)
    with pytest.raises(DataError) as caught:
        read_lists("list", None, str(root / "train.txt"), None, "test.txt")
    return caught.value.message


def test_a_good_list_is_read(root):
    """Paths, labels, lines and the names of classes are what the list says."""
    (root / "train.txt").write_bytes(
        b"\xef\xbb\xbfcat/1.png 0\r\n\n  cat/2.png\t0\ndog/1.png  1\ndog/two words.png 1"
    )
    found = read_lists("list", None, str(root / "train.txt"), None, "test.txt")
    part = found.lists["train"]
    assert [(p, c) for p, c in zip(part.paths, part.labels.tolist(), strict=True)] == GOOD
    assert part.lines.tolist() == [1, 3, 4, 5]
    assert found.class_names == ("cat", "dog")
    assert found.stats["train"][0, 0] == (root / "cat/1.png").stat().st_size


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"/etc/passwd 1\n", "paths that are not relative, with /: 1: train.txt line 5 '/etc/pas"),
        (b"C:/x.png 1\n", "paths that are not relative, with /: 1: train.txt line 5"),
        (b"cat\\1.png 1\n", "paths that are not relative, with /: 1: train.txt line 5"),
        (b"../x.png 1\n", "paths with ..: 1: train.txt line 5 '../x.png'"),
        (b"cat/../../x.png 1\n", "paths with ..: 1: train.txt line 5"),
        (b"cat/\x07.png 1\n", "paths with control characters: 1: train.txt line 5"),
        (b"caf\xe9/1.png 1\n", "lines that are not UTF-8: 1: train.txt line 5"),
        (b"cat/1.png\n", "lines that are not `path label`: 1: train.txt line 5 'cat/1.png'"),
        (b"cat/9.png -1\n", "labels that are not whole numbers from 0 on: 1: train.txt line 5 '-1'"),
        (b"cat/9.png 1.0\n", "labels that are not whole numbers from 0 on: 1: train.txt line 5"),
        (b"cat/9.png 1e9\n", "labels that are not whole numbers from 0 on: 1: train.txt line 5"),
        (b"cat/9.png 99999999999999999999\n", "labels that are not whole numbers from 0 on: 1"),
        ("cat/9.png \u0663\n".encode(), "labels that are not whole numbers from 0 on: 1"),
        (b"cat/9.png 1\n", "missing files: 1: train.txt line 5 'cat/9.png'"),
        (b"cat 1\n", "what is no file: 1: train.txt line 5 'cat'"),
        (b"cat/1.png 0\n", "images listed twice: 1: train.txt line 5 'cat/1.png' and train.txt line 1"),
        (b"./cat//1.png 0\n", "images listed twice: 1: train.txt line 5 'cat/1.png'"),
        (b"cat/1.png 1\n", "images listed twice, with two labels: 1: train.txt line 5"),
        (b"cat/t.png 0\n", "images in two lists: 1: test.txt line 1 'cat/t.png' and train.txt line 5"),
    ],
)  # fmt: skip
def test_one_bad_line_is_told_with_its_number(root, line, said):
    """Each kind of bad line gives its kind, its count and its line."""
    message = refused(root, line)
    assert said in message
    assert "1 fault:" in message


@pytest.mark.parametrize(
    "line", [b"cat/9.png,1\n", b"cat/9.png, 1\n", b"cat/nine two.png;1\n", b"cat/9.png,\t1\n"]
)
def test_another_separator_is_told(root, line):
    """Where a comma or semicolon stands before the label, the hint says what stands there."""
    write(root / "train.txt", GOOD, line)
    with pytest.raises(DataError, match="have 1 fault:") as caught:
        read_lists("list", None, str(root / "train.txt"), None, "test.txt")
    assert "lines with a comma or semicolon before the label: 1: train.txt line 5" in str(
        caught.value
    )
    assert caught.value.hint.startswith("Between path and label stands a space or a tab")


def test_labels_from_1_on_are_told(root):
    """If the least label is 1, the hint asks whether they begin there; if it is 0 or 2, not."""
    for first, asked in ((1, True), (2, False)):
        write(root / "train.txt", [(path, label + first) for path, label in GOOD])
        write(root / "test.txt", [("cat/t.png", first), ("dog/t.png", first + 1)])
        with pytest.raises(DataError, match="class 0 ") as caught:
            read_lists("list", None, str(root / "train.txt"), None, "test.txt")
        assert ("Do labels begin with 1?" in caught.value.hint) is asked


def test_a_comma_in_a_name_is_no_separator(root):
    """A file may have a comma and a number in its name."""
    picture(root / "cat" / "9,5 b.png", 0, 3)
    write(root / "train.txt", GOOD, b"cat/9,5 b.png 0\n")
    found = read_lists("list", None, str(root / "train.txt"), None, "test.txt")
    assert found.lists["train"].paths[-1] == "cat/9,5 b.png"


def test_one_absurd_label_is_told_at_once(root):
    """A label of 999,999 leaves as many classes without an image; they are counted, not searched."""
    message = refused(root, b"cat/t.png 999999\n", b"dog/t.png 1\n")
    assert "classes without a training image: 999,99" in message
    assert len(message) < 2000


def test_a_gap_in_the_labels_is_told(root):
    """A class number that no training image has is a fault, also one that only tests have."""
    assert "classes without a training image: 1: class 2 (train.txt goes up to 3)" in refused(
        root, b"cat/t.png 3\n", b"dog/t.png 1\n"
    )
    write(root / "train.txt", GOOD)
    assert "class 2 (test.txt line 2 'dog/t.png')" in refused(
        root, test=b"cat/t.png 0\ndog/t.png 2\n"
    )


def test_all_faults_of_all_lists_come_at_once(root):
    """Faults are counted by kind over both lists; of each kind the first three are written out."""
    lines = b"".join(b"no/%d.png 1\n" % i for i in range(7))
    message = refused(root, lines + b"x -5\n", b"gone.png 0\n\xff 1\n")
    assert message.startswith(f"The lists of images in '{root}' have 10 faults:")
    assert "missing files: 8: train.txt line 5 'no/0.png'; " in message
    assert "; and 5 more" in message
    assert "not UTF-8: 1: test.txt line 2" in message


def test_links_that_lead_out_are_refused(root, tmp_path):
    """Neither a file nor a folder may be a link that leads out of the folder of images."""
    picture(tmp_path / "outside" / "x.png", 1, 1)
    os.symlink(tmp_path / "outside", root / "away")
    os.symlink(tmp_path / "outside" / "x.png", root / "dog" / "link.png")
    os.symlink(root / "nothing", root / "dog" / "dangling.png")
    os.symlink("1.png", root / "dog" / "inside.png")
    message = refused(root, b"away/x.png 1\ndog/link.png 1\ndog/dangling.png 1\ndog/inside.png 1\n")
    assert "have 3 faults" in message
    assert "links that lead out of the folder: 1: train.txt line 5 'away/x.png'" in message
    assert "line 6 'dog/link.png' (a link that leads out of the folder)" in message
    assert "line 7 'dog/dangling.png' (a link to nothing)" in message


def test_lists_that_are_not_there_or_no_lists_are_told(root, tmp_path):
    """A missing list, a folder, a binary file, a missing root and one class: a sentence each."""

    def said(train: str, root: str | None = None) -> str:
        with pytest.raises(DataError) as caught:
            read_lists("list", root, train, None, None)
        return caught.value.message

    assert "cannot be read: No such file" in said(str(root / "trian.txt"))
    assert "cannot be read: Is a directory" in said(str(root / "cat"), str(root))
    assert "is no text file" in said(str(root / "cat" / "1.png"))
    assert "There is no folder" in said("train.txt", str(tmp_path / "nowhere"))
    write(root / "one.txt", GOOD[:2])
    assert "one.txt names 1 class." in said("one.txt", str(root))
    (root / "empty.txt").write_text("\n")
    assert "empty.txt names 0 classes." in said("empty.txt", str(root))


def test_known_sets_need_their_test_list(root):
    """ImageNet-LT without its test list is not quietly given another one."""
    write(root / "ImageNet_LT_train.txt", GOOD)
    with pytest.raises(DataError, match=r"ImageNet-LT has a test list, and '.*_LT_test\.txt' is"):
        read_lists("imagenet-lt", str(root), None, None, None)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["train/a/1.jpg", "train/b/1.jpg"], ("a", "b")),
        (["d/a/abbey/1.jpg", "d/a/airfield/1.jpg"], ("abbey", "airfield")),
        (["d/a/out/1.jpg", "d/b/out/1.jpg"], ("a/out", "b/out")),
        (["x/1.jpg", "x/2.jpg"], ("0", "1")),
        (["a/1.jpg", "1.jpg"], ("0", "1")),
    ],
)
def test_class_names_are_folders_if_each_class_has_one(paths, names):
    """Names are what folders differ in; without a folder of its own, a class has its number."""
    assert class_names(paths, np.array([0, 1]), 2) == names


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_told(tmp_path_factory, content):
    """Whatever a list holds, what comes out is inside the folder, or a fault; nothing else."""
    path = tmp_path_factory.mktemp("list") / "l.txt"
    path.write_bytes(content)
    faults = Faults()
    if b"\0" in content:
        with pytest.raises(DataError, match="is no text file"):
            read_list(path, faults)
        return
    found = read_list(path, faults)
    lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(found.paths) <= len(lines)
    for p, label in zip(found.paths, found.labels.tolist(), strict=True):
        assert not p.startswith("/")
        assert ".." not in p.split("/")
        assert 0 <= label < 1_000_000
