"""What recipes say of noise, pixels and subsets: names, hashes, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import purenoise as pn
from purenoise import prepare as preparing
from purenoise.augment import build_augment
from purenoise.data.digits import load_digits
from purenoise.errors import RecipeError
from purenoise.prepare import prepare
from purenoise.recipe import load_recipe

from .noisekinds import KINDS

pytestmark = pytest.mark.usefixtures("one_thread")


def test_kinds_have_folders_of_their_own(tmp_path: Path):
    """A run with another kind of noise lies beside the plain one, and finishes."""
    given = {"epochs": 2, "batch_size": 128, "threads": 1, "out": str(tmp_path)}
    runs = [pn.train("digits", **given, **more) for more in ({}, {"noise": "uniform"})]
    assert len({run.folder for run in runs}) == 2
    assert json.loads((runs[1].folder / "summary.json").read_text())["status"] == "finished"


def test_hashes_of_recipes_that_were_there_before():
    """Recipes that say nothing of noise kinds, stages or adjustments keep their hash and folder."""
    before = {
        "digits": "08e2c6e69c77be2692fa70531a4f714e73070953fd571889144b7aa78345b52f",
        "cifar10-lt": "239a420518b803d076df91d596c64ad5b4a87977b94f7638ef016114a99fd8f2",
        "cifar10-lt-open": "88a2588f18abe6048929842a4f5252594272d21d61aa9de4ca92af764e40b96c",
    }
    assert {name: load_recipe(name).digest() for name in before} == before
    same = load_recipe("digits", ["noise=normal", "batch_norm=dar"])
    assert same.digest() == before["digits"]


@pytest.mark.parametrize("change", [*KINDS[1:], "batch_norm=shared", "batch_norm=auxiliary"])
def test_every_kind_has_a_hash_and_survives_its_yaml(change: str, tmp_path: Path):
    """Another kind is another recipe, and a recipe written out loads to the same one."""
    recipe = load_recipe("digits", [change])
    assert recipe.digest() != load_recipe("digits").digest()
    path = tmp_path / "r.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(str(path)).digest() == recipe.digest()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["noise_kind=uniform"], "unknown key 'noise_kind'. Did you mean 'noise.kind'?"),
        (["noise=unifrom"], "Did you mean 'uniform'?"),
        (["noise=images"], "add noise.source=photographs or noise.source=FOLDER"),
        (["source=x"], "source has a meaning only with kind=images"),
        (["noise=uniform", "space=normalized"], "space and clip have a meaning only with"),
        (["noise=shuffled", "clip=false"], "space and clip have a meaning only with"),
        (["batch_norm=shared", "stop_gradient=none"], "only with batch_norm=dar"),
        (["batch_norm=auxiliary", "speed.step=masked"], "go with batch_norm=dar only"),
        (["batch_norm=auxiliary", "compile=force"], "go with batch_norm=dar only"),
        (["batch_norm=auxilary"], "Did you mean 'auxiliary'?"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(changes: list[str], sentence: str):
    """Wrong names, and settings without a meaning, are refused with what to do."""
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", changes)
    assert sentence in caught.value.message


def test_constants_are_customary_or_those_of_the_long_tailed_set(monkeypatch: pytest.MonkeyPatch):
    """`auto` takes a data set's customary constants, `data` those of the cut training set."""
    customary = ((0.3,), (0.2,))
    digits = replace(load_digits(), normalize=customary)
    monkeypatch.setattr(preparing, "load_data", lambda *_: digits)
    found = prepare(load_recipe("digits", ["normalize=auto"]).data)
    assert (found.mean, found.std) == customary
    cut = prepare(load_recipe("digits", ["normalize=data"]).data)
    values = (
        cut.dataset.train.images.load(np.arange(len(cut.dataset.train))).astype(np.float64) / 255
    )
    assert cut.mean == pytest.approx([values.mean()])
    assert cut.std == pytest.approx([values.std()])
    assert cut.noise_mean == cut.mean
    assert found.noise_mean == cut.noise_mean
    whole = digits.train.images.load(np.arange(len(digits.train))).astype(np.float64) / 255
    assert cut.mean != pytest.approx([whole.mean()], abs=1e-4)


def test_every_subset_trains_on_other_images(tmp_path: Path):
    """The subsets ldam, first, random and a file are there, with hashes that tell them apart."""
    listed = tmp_path / "indices.txt"
    listed.write_text("\n".join(map(str, range(0, 1297, 4))))
    subsets = ["ldam", "first", "random", str(listed)]
    found = [prepare(load_recipe("digits", [f"subset={name}"]).data) for name in subsets]
    assert len({data.dataset.subset_sha256 for data in found}) == 4
    assert len({tuple(data.counts) for data in found[:3]}) == 1
    assert found[3].counts.sum() == 325


def test_the_papers_augmentation_ladder_is_there():
    """Each step of the paper's ladder of augmentations is a policy, and adds to the one before."""
    ladder = ["flip-crop", "flip-crop-cutout", "open"]
    names = [
        load_recipe("digits", [f"augment={p}"]).augment.policy for p in [*ladder, "autoaugment"]
    ]
    assert names == [*ladder, "autoaugment"]
    said = [build_augment(p, (3, 32, 32), flip=True).describe() for p in ladder]
    steps = [text.partition(": ")[2] for text in said]
    assert steps[1].startswith(steps[0])
    assert steps[2].startswith(steps[1])
