"""What a recipe is once it is written: its YAML, its hash, its folder."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise import yamlfile
from purenoise.methodfile import Method, load_method
from purenoise.recipe import (
    Recipe,
    folder_name,
    load_recipe,
)


@given(
    epochs=st.integers(1, 10**6),
    lr=st.floats(1e-12, 1e6),
    delta=st.floats(0, 1),
    size=st.none() | st.integers(1, 999) | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    method=st.sampled_from(["erm", "open+ldam", Method(), load_method("ldam-drw")]),
    root=st.none() | st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12),
    threads=st.just("auto") | st.integers(1, 64),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_recipe_round_trips(
    epochs: int, lr: float, delta: float, size: object, method: object, root: str, threads: object
) -> None:
    """Whatever a recipe holds, its YAML loads to the same recipe."""
    recipe = Recipe.model_validate(
        {
            "data": {"root": root, "image_size": size},
            "train": {"epochs": epochs, "lr": lr},
            "delta": delta,
            "method": method,
            "threads": threads,
        }
    )
    again = Recipe.model_validate(yamlfile.parse(recipe.to_yaml(), "it"))
    assert again == recipe
    assert again.digest() == recipe.digest()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-.5e2", -50.0),
        ("2.e1", 20.0),
        ("1.5", 1.5),
        ("10", 10),
        ("'1e-3'", "1e-3"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("cuda:0", "cuda:0"),
        ("", None),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_yaml_values(text: str, value: object) -> None:
    """Numbers are read as people write them, all else as YAML has it."""
    found = yamlfile.parse(text, "it")
    assert found == value
    assert type(found) is type(value)


def test_the_loader_is_ours_alone() -> None:
    """Reading recipes strictly does not change how others read YAML."""
    assert yaml.safe_load("{a: 1, a: 2, b: 1e-3}") == {"a": 2, "b": "1e-3"}


# Hashes and folders

RESULT = ["epochs=3", "delta=0.5", "seed=1", "method=erm", "ratio=10", "lr=1e-3", "threads=7",
          "augment.flip=false", "stop_gradient=none", "precision=float64", "data=photos",
          "defer=0.37", "dropout=0.1"]  # fmt: skip


@pytest.mark.parametrize("text", RESULT)
def test_hash_changes_with_what_changes_the_result(text: str) -> None:
    """Every override that can change a result changes the hash."""
    assert load_recipe("digits", [text]).digest() != load_recipe("digits").digest()


@pytest.mark.parametrize("text", ["out=elsewhere", "device=cpu", "name=mine"])
def test_hash_keeps_with_what_does_not(text: str) -> None:
    """Where a run is written, where it is computed and how it is called do not change the hash."""
    assert load_recipe("digits", [text]).digest() == load_recipe("digits").digest()


def test_hash_is_of_the_meaning() -> None:
    """The same recipe in other words has the same hash, and all hashes of changes differ."""
    same = [
        ["imb_factor=0.0625", "delta=1/4"],
        ["ratio=16", "delta=0.25"],
        ["ratio=1.6e1", "delta=.25"],
    ]
    assert len({load_recipe("digits", given).digest() for given in same}) == 1
    assert len({load_recipe("digits", [text]).digest() for text in RESULT}) == len(RESULT)


@pytest.mark.parametrize("text", RESULT)
def test_folder_has_a_suffix_if_the_result_changes(text: str) -> None:
    """Overrides give the folder 8 hex digits; method and seed do not, as they have folders."""
    name = folder_name(load_recipe("digits", [text]), load_recipe("digits"))
    own_folder = text.startswith(("seed", "method"))
    assert re.fullmatch(r"digits" if own_folder else r"digits-[0-9a-f]{8}", name)


def test_folder_is_found_again() -> None:
    """The same line finds its folder again, for every method and seed."""
    base = load_recipe("digits")
    lines = [["delta=0.5"], ["delta=0.5", "method=erm"], ["delta=1/2", "seed=4", "out=x"]]
    assert len({folder_name(load_recipe("digits", line), base) for line in lines}) == 1
    assert folder_name(load_recipe("digits", ["name=mine"]), base) == "mine"


def test_new_keys_leave_old_hashes_alone() -> None:
    """A recipe without the newer keys has the hash that it had before they came."""
    content = load_recipe("digits").content()["data"]
    assert not {"decode", "download", "train_list", "sha256", "label_column"} & set(content)
    assert load_recipe("digits", ["download=false"]).digest() == load_recipe("digits").digest()
