"""Class shares as users give them: words, numbers, mappings, files with names."""

from __future__ import annotations

import json

import numpy as np
import pytest

from purenoise.errors import RecipeError
from purenoise.posthoc.priors import read_prior

NAMES = ("cat", "dog", "owl")
TRAIN, TEST = [80, 15, 5], [10, 20, 10]


def read(given):
    """Read a prior of three classes."""
    return read_prior(given, NAMES, TRAIN, TEST)


@pytest.mark.parametrize(
    ("given", "name", "shares"),
    [
        ("uniform", "uniform", [1 / 3] * 3),
        ("train", "train", [0.8, 0.15, 0.05]),
        ("test", "test", [0.25, 0.5, 0.25]),
        ("0.5,0.3,0.2", "given", [0.5, 0.3, 0.2]),
        ("5, 3, 2", "given", [0.5, 0.3, 0.2]),
        ([5, 3, 2], "given", [0.5, 0.3, 0.2]),
        (np.array([5.0, 3.0, 2.0]), "given", [0.5, 0.3, 0.2]),
        ({"owl": 2, "cat": 5, "dog": 3}, "given", [0.5, 0.3, 0.2]),
    ],
)
def test_words_and_numbers(given, name, shares):
    """Words stand for shares; numbers are in the order of the classes and need not sum to 1."""
    found = read(given)
    assert found[0] == name
    assert found[1].tolist() == pytest.approx(shares)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", json.dumps({"dog": 0.3, "owl": 0.2, "cat": 0.5})),
        ("p.csv", "class,share\ndog,3\nowl,2\ncat,5\n"),
        ("p.txt", "owl, 0.2\ncat,0.5\n\ndog,0.3\n"),
        ("1,2.csv", "dog,3\nowl,2\ncat,5\n"),
    ],
)
def test_files_are_read_by_name(name, text, tmp_path, monkeypatch):
    """In a file every share stands with its class, in any order."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert read(name)[1].tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert read(tmp_path / name)[1].tolist() == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0.5,0.5", "has 2 numbers, and the run has 3 classes: cat, dog, owl"),
        ([1, 2, 3, 4], "has 4 numbers"),
        ("0.5", "has 1 numbers"),
        ("0.5,0.3,owl", "'owl', which is no number"),
        ([1, True, 2], "True, which is no number"),
        ("1,1,0", r"above 0 for every class, and is not for owl \(0\)"),
        ([1, float("nan"), 1], r"is not for dog \(nan\)"),
        ({"cat": 1, "dgo": 2}, "has no class dog, owl and names dgo, which the run does not know"),
        ("trian", "There is no prior 'trian'"),
        (7, "A prior cannot be 7"),
    ],
)
def test_what_is_no_prior_gets_a_sentence(given, message):
    """Numbers that are missing, wrong or not above 0, and names that are not known, are told."""
    with pytest.raises(RecipeError, match=message) as error:
        read(given)
    assert error.value.message.endswith(".")


def test_near_words_are_proposed():
    """A slip of the keys gets the word that was meant."""
    with pytest.raises(RecipeError) as error:
        read("unifrom")
    assert "Did you mean 'uniform'?" in error.value.hint


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", "[1, 2, 3]", "pairs of a class and its share"),
        ("p.json", "{", "cannot be read"),
        ("p.json", '{"cat": 1, "cat": 2, "dog": 1, "owl": 1}', "names classes twice: cat"),
        ("p.csv", "cat,1\ncat,2\ndog,1\nowl,1\n", "names classes twice: cat"),
        ("p.csv", "cat,1,2\n", "pairs of a class"),
        ("p.csv", "", "pairs of a class"),
        ("p.csv", "cat,1\ndog,2\n", "has no class owl"),
    ],
)
def test_files_that_are_no_prior_get_a_sentence(name, text, message, tmp_path):
    """A file with other classes, classes twice or no pairs is refused, named by its path."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        read(tmp_path / name)


def test_a_test_set_without_a_class_has_no_usable_shares():
    """The logarithm of a share of 0 is no adjustment: the class is named."""
    with pytest.raises(RecipeError, match=r"owl \(0\)"):
        read_prior("test", NAMES, TRAIN, [1, 1, 0])
