"""What is written after methods= and seeds=."""

from __future__ import annotations

import numpy as np
import pytest

from purenoise.errors import RecipeError
from purenoise.lab.likeness import likeness
from purenoise.lab.variants import parse_seeds, parse_variants
from purenoise.recipe import load_recipe


def test_variants_keep_their_order_and_changes() -> None:
    """Changes follow a method behind colons; a colon in a value stays."""
    erm, own = parse_variants(" erm , open+ldam:delta=0.5:model=timm:resnet18 ,")
    assert (erm.label, erm.method, erm.changes) == ("erm", "erm", ())
    assert own.method == "open+ldam"
    assert own.changes == ("delta=0.5", "model=timm:resnet18")
    assert own.label == "open+ldam:delta=0.5:model=timm:resnet18"


def test_changes_reach_the_recipe() -> None:
    """What is written behind the colon changes the recipe of that variant, with its seed."""
    (variant,) = parse_variants(["open:stop_gradient=affine"])
    recipe = load_recipe("digits", variant.overrides(7))
    assert (recipe.method, recipe.stop_gradient, recipe.seed) == ("open", "affine", 7)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "No methods"), (" , ", "No methods"), ("erm,drs,erm", "erm is named twice"),
        ("open:delta", "'delta'"), ("open:=3", "'=3'"), ("open:seed=3", "changes seed"),
        ("open:out=x", "changes out"),
    ],
)  # fmt: skip
def test_methods_that_cannot_be_read(text: str, word: str) -> None:
    """Each is one sentence that names what is wrong."""
    with pytest.raises(RecipeError, match=word):
        parse_variants(text)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        (3, [0, 1, 2]), ("2", [0, 1]), ("4,", [4]), ("1,4,7", [1, 4, 7]), ("0-2, 9", [0, 1, 2, 9]),
        ([5, 3], [5, 3]), (np.arange(1, 3), [1, 2]), (range(2), [0, 1]), ("7-7", [7]),
    ],
)  # fmt: skip
def test_seeds(text: object, seeds: list[int]) -> None:
    """A number says how many; a list says which."""
    assert parse_seeds(text) == seeds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "a",
        "1;2",
        "3-1",
        "1,1",
        "-3",
        "1.5",
        "1001",
        True,
        "0-4294967296",
        [],
        [1.5],
        [1.0],
        ["1"],
        [True],
        2.5,
        None,
    ],
)
def test_seeds_that_cannot_be_read(text: object) -> None:
    """Each is refused with what can be given, or what is double."""
    with pytest.raises(RecipeError, match="seed"):
        parse_seeds(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("erm", "erm:delta=0.5:stop_gradient=affine:defer=0.3", True),
        ("drs", "drs:delta=0.5", True), ("drs", "drs:defer=0.25", False),
        ("rs", "rs+drs", True), ("drs", "deferred-rs", True), ("mixup+crt", "crt+mixup", True),
        ("mixup", "mixup:alpha=1:prob=1", True), ("mixup", "mixup:alpha=0.5", False),
        ("cmo", "cmo:skip=3", True), ("focal", "focal:gamma=1", True),
        ("erm", "erm:label_smoothing=0", True), ("erm", "erm:label_smoothing=0.1", False),
        ("logit-adjustment", "logit-adjustment:target=uniform", True),
        ("noise-augment", "noise-augment:delta=0.5", True), ("open", "open:delta=0.5", False),
        ("open", "open:noise.kind=uniform", False), ("erm", "erm:noise.kind=uniform", True),
        ("erm", "erm:train.lr=0.05", False), ("erm", "logit-adjustment", False),
        ("drs", "open", False), ("ldam", "ldam-drw", False),
    ],
)  # fmt: skip
def test_what_trains_the_same_is_known(one: str, other: str, alike: bool) -> None:
    """Two names of one training are alike; what changes a result is not."""
    a, b = (load_recipe("digits", v.overrides(0)) for v in parse_variants([one, other]))
    assert (likeness(a) == likeness(b)) == alike
