"""CelebA-5 from CelebA's attribute file."""

from __future__ import annotations

import numpy as np
import pytest

from purenoise.data.celeba import ATTRIBUTES, celeba_lists
from purenoise.errors import DataError

from . import made


def test_images_follow_the_rule(tmp_path):
    """First 50, next 100, next twentieth of each attribute, in order, without double ones."""
    root = made.celeba(tmp_path / "c")
    found = celeba_lists(str(root))
    assert found.class_names == ATTRIBUTES
    heading, *rows = (root / "list_attr_celeba.txt").read_text().splitlines()[1:]
    columns = heading.split()
    has = {row.split()[0]: {a for a, v in zip(columns, row.split()[1:], strict=True) if v == "1"}
           for row in rows}  # fmt: skip
    for label, attribute in enumerate(ATTRIBUTES):
        alone = [n for n, a in has.items() if a & set(ATTRIBUTES) == {attribute}]
        n = sum(attribute in a for a in has.values()) // 20
        parts = {"val": alone[:50], "test": alone[50:150], "train": alone[150 : 150 + n]}
        for split, names in parts.items():
            part = found.lists[split]
            chosen = [
                p for p, c in zip(part.paths, part.labels.tolist(), strict=True) if c == label
            ]
            assert chosen == [f"img_align_celeba/{name}" for name in names]


def test_official_subfolders_do_too(tmp_path):
    """Anno/ and Img/, as the set is handed out, are found."""
    root = made.celeba(tmp_path / "c", 900)
    for place, name in (("Anno", "list_attr_celeba.txt"), ("Img", "img_align_celeba")):
        (root / place).mkdir()
        (root / name).rename(root / place / name)
    part = celeba_lists(str(root)).lists["train"]
    assert part.paths[0].startswith("Img/img_align_celeba/")
    assert np.bincount(part.labels).tolist() == [9] * 5


def test_missing_images_are_told_with_lines_of_the_attribute_file(tmp_path):
    """An image that is not there is named with its line."""
    root = made.celeba(tmp_path / "c", 900)
    (root / "img_align_celeba/000001.jpg").unlink()  # of two colours: not used
    (root / "img_align_celeba/000002.jpg").unlink()
    with pytest.raises(DataError, match=r"missing files: 1: list_attr_celeba\.txt line 4 'img_al"):
        celeba_lists(str(root))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Bald ", "Blad ", "has no attribute Bald in its second line"),
        ("000003.jpg -1", "000003.jpg 2", "lines of another form: 1: list_attr_celeba.txt line 5"),
        ("000003.jpg", "../3.jpg", "lines of another form: 1: list_attr_celeba.txt line 5"),
    ],
)
def test_other_forms_are_refused(tmp_path, old, new, said):
    """An attribute file of another form is refused, with the line."""
    root = made.celeba(tmp_path / "c", 900, images=False)
    file = root / "list_attr_celeba.txt"
    file.write_text(file.read_text().replace(old, new, 1))
    (root / "img_align_celeba").mkdir()
    with pytest.raises(DataError) as caught:
        celeba_lists(str(root))
    assert said in caught.value.message


def test_absent_or_short_files_are_told(tmp_path):
    """No folder, no attribute file, and too few images are a sentence each."""
    with pytest.raises(DataError, match="There is no folder"):
        celeba_lists(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"There is no list_attr_celeba\.txt or Anno/"):
        celeba_lists(str(tmp_path / "empty"))
    root = made.celeba(tmp_path / "c", 100, images=False)
    (root / "img_align_celeba").mkdir()
    with pytest.raises(
        DataError, match="images with Gray_Hair alone, and more than 150 are needed"
    ):
        celeba_lists(str(root))
