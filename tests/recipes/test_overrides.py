"""Overrides as texts and as values of Python: what they set, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from purenoise import overrides
from purenoise.errors import RecipeError
from purenoise.methodfile import load_method
from purenoise.names import KNOWN_DATA
from purenoise.recipe import (
    Recipe,
    load_recipe,
)

from .support import written


def at(recipe: Recipe, path: str) -> object:
    """Return the value at a dotted path."""
    value: object = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("epochs=3", "train.epochs", 3),
        ("train.epochs=1e2", "train.epochs", 100),
        ("lr=1e-3", "train.lr", 0.001),
        ("delta=1/3", "delta", 1 / 3),
        ("delta = 0.5", "delta", 0.5),
        ("defer=4/5", "defer", 0.8),
        ("imb_factor=0.01", "data.imbalance.ratio", 100.0),
        ("imb_factor=1/50", "data.imbalance.ratio", 50.0),
        ("data.imbalance.imb_factor=1", "data.imbalance.ratio", 1.0),
        ("ratio=20", "data.imbalance.ratio", 20.0),
        ("imbalance.seed=7", "data.imbalance.seed", 7),
        ("seed=7", "seed", 7),
        ("augment=open", "augment.policy", "open"),
        ("augment.flip=false", "augment.flip", False),
        ("flip=no", "augment.flip", False),
        ("flip=null", "augment.flip", None),
        ("model=resnet20", "model.name", "resnet20"),
        ("model.dropout=0.1", "model.dropout", 0.1),
        ("method=open+balanced-softmax", "method", "open+balanced-softmax"),
        ("image_size=48", "data.image_size", 48),
        ("image_size=[48, 64]", "data.image_size", (48, 64)),
        ("threads=2", "threads", 2),
        ("threads=auto", "threads", "auto"),
        ("device=cuda:1", "device", "cuda:1"),
        ("out=2024", "out", "2024"),
        ("name=007", "name", "007"),
        ("root=on", "data.root", "on"),
        ("subset=random", "data.imbalance.subset", "random"),
        ("type=none", "data.imbalance.ratio", 1.0),
        ("normalize={mean: [0.5], std: [0.25]}", "data.normalize.std", [0.25]),
    ],
)
def test_overrides(text: str, path: str, value: object) -> None:
    """Short and dotted keys set what they name, and values are read as people write them."""
    found = at(load_recipe("digits", [text]), path)
    assert found == value
    assert type(found) is type(value)


def test_an_override_leaves_the_rest_alone() -> None:
    """What is not named keeps the recipe's value, in the same section too."""
    before = load_recipe("cifar10-lt-open").model_dump()
    after = load_recipe("cifar10-lt-open", ["epochs=3", "augment.flip=false"]).model_dump()
    before["train"]["epochs"], before["augment"]["flip"] = 3, False
    assert after == before


def test_sections_come_before_their_keys() -> None:
    """``model=`` and ``model.dropout=`` do together what they say, in either order."""
    given = ["model=resnet20", "model.dropout=0.1", "augment=open", "augment.flip=false"]
    for order in (given, given[::-1]):
        recipe = load_recipe("cifar10-lt-open", order)
        assert (recipe.model.name, recipe.model.dropout) == ("resnet20", 0.1)
        assert (recipe.augment.policy, recipe.augment.flip) == ("open", False)


def test_of_two_overrides_of_one_key_the_later_holds() -> None:
    """The later of ``epochs=3 train.epochs=5`` holds, as on any command line."""
    assert load_recipe("digits", ["epochs=3", "train.epochs=5"]).train.epochs == 5


def test_a_new_model_drops_the_dropout_of_the_old() -> None:
    """``model=resnet20`` replaces the section: another network's dropout does not stay."""
    assert load_recipe("cifar10-lt-open").model.dropout == 0.3
    assert load_recipe("cifar10-lt-open", ["model=resnet20"]).model.dropout == 0


def test_an_overridden_ratio_beats_the_files_imb_factor(tmp_path: Path) -> None:
    """A ratio given on the line holds over an imb_factor in the file, and the other way round."""
    text = "data: {imbalance: {type: exp, imb_factor: 0.01}}"
    path = written(tmp_path, text)
    assert load_recipe(path).data.imbalance.ratio == 100
    assert load_recipe(path, ["ratio=5"]).data.imbalance.ratio == 5
    assert load_recipe("digits", ["imb_factor=0.1"]).data.imbalance.ratio == 10


@pytest.mark.parametrize(
    ("text", "name", "kind", "root"),
    [
        ("data=photos/", "folder", "folder", "photos/"),
        ("data=my photos: 2", "folder", "folder", "my photos: 2"),
        ("data=2024", "folder", "folder", "2024"),
        ("data=on", "folder", "folder", "on"),
        ("data=@holiday", "folder", "folder", "@holiday"),
        ("data=cifar10", "cifar10-lt", "cifar10", "data"),
        ("data=cifar100", "cifar100-lt", "cifar100", "data"),
        ("data=digits", "digits", "digits", None),
        ("data.name=cifar10", "cifar10-lt", "cifar10", "data"),
        ("epochs=5", "digits", "digits", None),
    ],
)
def test_data_picks_the_recipe(text: str, name: str, kind: str, root: str | None) -> None:
    """Without a recipe ``data=`` picks the one that fits, and paths stay as they were typed."""
    recipe = load_recipe(None, [text])
    assert (recipe.name, recipe.data.name, recipe.data.root) == (name, kind, root)


def test_data_keeps_the_section_but_not_a_strangers_folder() -> None:
    """``data=`` in a named recipe keeps its imbalance; CIFAR is not sought among photos."""
    recipe = load_recipe("cifar10-lt", ["data=cifar100"])
    assert (recipe.data.name, recipe.data.imbalance.ratio) == ("cifar100", 100)
    swapped = load_recipe("folder", ["data=photos", "data=cifar10"])
    assert (swapped.data.name, swapped.data.root) == ("cifar10", None)


def test_sections_may_be_written_short(tmp_path: Path) -> None:
    """``data: cifar10``, ``model: resnet20`` and ``augment: open`` do in files, also overridden."""
    path = written(tmp_path, "data: cifar10\nmodel: resnet20\naugment: open\n")
    for texts in ([], ["ratio=10", "type=exp", "model.dropout=0.1", "flip=false"]):
        recipe = load_recipe(path, texts)
        assert recipe.data.name == "cifar10"
        assert (recipe.model.name, recipe.augment.policy) == ("resnet20", "open")


def test_a_run_folder_is_a_recipe(tmp_path: Path) -> None:
    """A folder that holds recipe.yaml loads as that recipe, with its name."""
    recipe = load_recipe("digits", ["epochs=3"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(tmp_path)) == recipe


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({"epochs": np.int64(3)}, "train.epochs", 3),
        ({"lr": np.float32(0.5)}, "train.lr", 0.5),
        ({"nesterov": np.True_}, "train.nesterov", True),
        ({"image_size": (8, 9)}, "data.image_size", (8, 9)),
        ({"image_size": np.array([8, 9])}, "data.image_size", (8, 9)),
        ({"out": Path("a") / "b"}, "out", str(Path("a") / "b")),
        ({"out": 2024}, "out", "2024"),
        ({"data": Path("photos")}, "data.root", "photos"),
        ({"data": "my photos: 2"}, "data.root", "my photos: 2"),
        ({"name": "on"}, "name", "on"),
        ({"flip": None}, "augment.flip", None),
        ({"train.lr": 0.25}, "train.lr", 0.25),
        ({"delta": "1/4"}, "delta", 0.25),
        ({"method": load_method("drs")}, "method", load_method("drs")),
        ({"method": {"loss": {"name": "focal"}}}, "method.loss.name", "focal"),
        ({"normalize": {"mean": (0.5,), "std": [0.25]}}, "data.normalize.mean", [0.5]),
        ({"imbalance": {"type": "step", "ratio": 5}}, "data.imbalance.ratio", 5.0),
        ({"imbalance": {"imb_factor": 0.1}}, "data.imbalance.ratio", 10.0),
        ({"imbalance": {"seed": 3}}, "data.imbalance.ratio", 40.0),
        ({"model": {"dropout": 0}}, "model.name", "small_cnn"),
        ({"data": {"name": "digits", "imbalance": {"ratio": 7}}}, "data.imbalance.type", "exp"),
        ({"data": {"name": "cifar10"}}, "name", "cifar10-lt"),
        ({"data": {"name": "folder", "root": Path("x")}}, "name", "folder"),
    ],
)
def test_values_of_python(values: dict[str, object], path: str, value: object) -> None:
    """Values need not be YAML: they are set as they are, and mappings change what they name."""
    found = at(load_recipe(values=values), path)
    assert found == value
    assert type(found) is type(value)


def test_values_of_python_are_refused_as_texts_are() -> None:
    """Keys inside a mapping are checked as all others, in one message with the texts' faults."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            Path("digits"), ["epohs=1"], {"model": {"nme": "x"}, "lr": np.nan, "seed": object()}
        )
    text = str(caught.value)
    assert "4 faults" in text
    assert "unknown key 'model.nme'. Did you mean 'model.name'?" in text
    assert "train.lr: must be a finite number, got nan" in text


@pytest.mark.parametrize(
    "values",
    [
        {"lr": np.float64(0.5), "imbalance": {"type": "step", "ratio": 5}, "flip": None},
        {"image_size": (8, 8), "nesterov": True, "model": {"name": "resnet8"}, "delta": "1/3"},
    ],
)
def test_what_is_recorded_does_the_same_on_the_command_line(values: dict[str, object]) -> None:
    """The texts that a run's log shows for Python's values load to the same recipe."""
    texts = [f"{k}={overrides.as_typed(overrides.plain(v))}" for k, v in values.items()]
    assert load_recipe("digits", texts) == load_recipe("digits", values=values)


def test_known_data_names_have_recipes() -> None:
    """Every data set with a name of its own has the recipe that ``data=`` picks."""
    for name in (*KNOWN_DATA, "torchvision:SVHN"):
        assert load_recipe(None, [f"data={name}"]).data.name == name


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a/list.txt", "train_list", "a/list.txt"),
        ("set.npz", "root", "set.npz"),
        ("hf:folder", "root", "folder"),
        ("photos.d", "root", "photos.d"),
    ],
)
def test_data_by_its_path_has_the_recipe_that_fits(text: str, key: str, value: str) -> None:
    """What a path looks like decides how it is read; the recipe of that kind is taken."""
    recipe = load_recipe(None, [f"data={text}"])
    assert getattr(recipe.data, key) == value
    assert recipe.name == recipe.data.name


def test_another_data_set_takes_no_lists_along() -> None:
    """Choosing other data drops what says where the first one lies."""
    given = ["data=a.txt", "data.test_list=b.txt"]
    assert load_recipe(None, given).data.test_list == "b.txt"
    base = load_recipe("list", ["data.train_list=a.txt"])
    assert load_recipe("list", ["data=photos"]).data.train_list is None
    assert base.digest() != load_recipe("list", ["data=b.txt"]).digest()
