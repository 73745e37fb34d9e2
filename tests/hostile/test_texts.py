"""Properties of what reads texts: any text at all is read, or refused in a sentence."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise import yamlfile
from purenoise.errors import DataError, PureNoiseError, RecipeError, readable
from purenoise.longtail import read_index_file
from purenoise.places import check_place
from purenoise.posthoc.priors import read_prior
from purenoise.recipe import load_recipe
from purenoise.smallfile import read_small
from purenoise.terminal.plaintext import csv_cell, printable

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["data", "model", "train", "method", "augment", "noise", "seed", "out", "name"]
)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_yaml_or_a_sentence(text: str):
    """The YAML reader raises nothing but its own error."""
    with contextlib.suppress(RecipeError):
        yamlfile.parse(text, "this")


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_values_are_a_recipe_or_a_sentence(tmp_path_factory, content: dict):
    """A recipe of any values whatever is loaded or refused."""
    path = tmp_path_factory.mktemp("r") / "r.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8", errors="replace")
    with contextlib.suppress(RecipeError):
        load_recipe(path)


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_indices_or_a_sentence(tmp_path_factory, content: bytes):
    """An index file of any bytes gives indices of images, each once, or is refused."""
    path = tmp_path_factory.mktemp("i") / "i.txt"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        found = read_index_file(path, 20)
        assert len(set(found.tolist())) == len(found) > 0
        assert 0 <= found.min() <= found.max() < 20


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_prior_or_a_sentence(text: str):
    """Class shares of any text sum to 1, or are refused."""
    with contextlib.suppress(PureNoiseError):
        shares = read_prior(text, ["a", "b"], np.ones(2), np.ones(2))[1]
        assert shares.sum() == pytest.approx(1)


@given(st.text(max_size=20) | st.text("a;|\t =+-@\uff1d\n\"',", max_size=8))
def test_no_cell_is_a_formula_or_a_command(text: str):
    """Whatever a name is, its cell begins no formula and moves no cursor."""
    cell = csv_cell(text)
    line = io.StringIO()
    csv.writer(line).writerow([cell])
    for separator in ",;|\t":  # spreadsheets part cells at some of these
        (parts,) = csv.reader([line.getvalue()], delimiter=separator)
        for part in parts if separator != "," else [cell]:
            assert part.lstrip()[:1] not in {*"=+-@\uff1d\uff0b\uff0d\uff20"} or part == ""
    assert cell == printable(cell)
    assert "\n" not in cell


@given(st.text())
def test_short_messages_stay(text: str):
    """A message of ordinary length is not changed."""
    assert readable(text) == text


def test_long_messages_are_cut():
    """A message as long as a file of a stranger is cut, with what was left out counted."""
    said = str(RecipeError("x" * 10_000 + "\n" * 1000))
    assert "letters left out" in said
    assert "more lines" in said
    assert len(said) < 3000


@pytest.mark.parametrize("path", ["a\0b", "n" * 256, "n/" * 3000])
def test_no_file_has_such_a_path(path: str):
    """A path that no file can have is told before the system is asked."""
    with pytest.raises(ValueError, match="a path that a file can have"):
        check_place(path)


def test_small_files_are_small(tmp_path: Path):
    """A file is read up to its bound, and refused one byte beyond."""
    (tmp_path / "x").write_bytes(b"12345")
    assert read_small(tmp_path / "x", 5) == b"12345"
    with pytest.raises(OSError, match="larger than"):
        read_small(tmp_path / "x", 4)


@pytest.mark.parametrize("text", ["\t", '\t"', " ", ";|", "\t =", "\n\t"])
def test_long_names_take_no_time(text: str):
    """A cell takes time that grows with its letters, not with their square."""
    begun = time.perf_counter()
    csv_cell(text * 100_000)
    assert time.perf_counter() - begun < 2
