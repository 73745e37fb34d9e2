"""A report says in words what its methods do, and nothing that they do not do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import pytest

from purenoise.headspec import HeadSpec, PostSpec
from purenoise.methodfile import LossSpec, MixSpec, PhaseSpec, known_methods
from purenoise.noisesection import Noise
from purenoise.recipe import Recipe, load_recipe
from purenoise.report import methodwords
from purenoise.report.methodwords import COLUMNS, described


def words(*overrides: str, adjusted=None) -> dict[str, str]:
    """Describe a recipe of digits, column by column."""
    record = SimpleNamespace(recipe=load_recipe("digits", overrides), adjusted=adjusted)
    return dict(zip(COLUMNS, described(record), strict=True))


@pytest.mark.parametrize("method", known_methods())
def test_no_method_is_said_in_raw_settings(method):
    """No key of a recipe with its value is left over in what a method is said to do."""
    said = " ".join(words(f"method={method}").values())
    assert not set(said) & set("={}[]'\"_")
    for raw in ("sampler", "instance", "max norm", "name", "true", "false", "none"):
        assert raw not in said.split()


def test_each_choice_of_a_recipe_has_words():
    """Whatever sampler, weighting, noise or stop a recipe may choose, there are words for it."""
    for model, field, table in (
        (PhaseSpec, "sampler", methodwords.SAMPLERS),
        (PhaseSpec, "weights", {"none": "", **methodwords.WEIGHTS}),
        (PhaseSpec, "noise", {"none": "", **methodwords.NOISE}),
        (HeadSpec, "learn", methodwords.LEARNS),
        (PostSpec, "prior", methodwords.TAKEN_OUT),
        (LossSpec, "prior", methodwords.PRIORS),
        (Noise, "kind", methodwords.KINDS),
        (Recipe, "stop_gradient", methodwords.STOPS),
    ):
        assert set(get_args(model.model_fields[field].annotation)) == set(table), field


def test_a_prior_is_named_only_where_one_is_used():
    """Tau-normalisation uses no prior; logit adjustment and balanced softmax name theirs."""
    for said in (
        words("method=tau-norm"),
        words(
            "method=erm",
            adjusted={"method": "tau-norm", "tau": 0.5, "prior": {"name": "uniform"}},
        ),
    ):
        assert "prior" not in str(said)
        assert "uniform" not in str(said)
        assert "divided by their length to the power of" in said["phases"]
    assert "training images are taken out" in words("method=logit-adjustment")["phases"]
    assert "the last phase saw" in words("method=drs+logit-adjustment")["phases"]
    assert "prior of natural rows" in words("method=open+balanced-softmax", "prior=natural")["loss"]
    adjusted = {"method": "logit-adjustment", "tau": None, "prior": {"name": "test"}}
    said = words("method=erm", adjusted=adjusted)["phases"]
    assert said.endswith("afterwards adjusted by logit-adjustment (prior test)")


@pytest.mark.parametrize("method", ["logit-adjustment", "tau-norm", "erm", "rs"])
def test_one_phase_is_not_called_two(method):
    """A method with one phase has no first and no then, whatever is done at last."""
    said = words(f"method={method}")["phases"]
    assert not {"first", "then"} & set(said.replace(";", "").split())
    assert words("method=drs")["phases"] == (
        "first draws every image once an epoch; then draws all classes equally often"
    )


@pytest.mark.parametrize(
    ("overrides", "stops", "norm"),
    [
        (["method=open"], "every batch norm", "DAR"),
        (["method=open", "stop_gradient=affine"], "scale and shift of batch norms", "DAR"),
        (["method=open", "stop_gradient=none"], "nowhere", "DAR"),
        (["method=open", "batch_norm=shared"], "nowhere", "shared"),
        (["method=open", "batch_norm=auxiliary"], "nowhere", "auxiliary"),
        (["method=erm"], "", ""),
        (["method=erm", "batch_norm=shared"], "", ""),
    ],
)
def test_batch_norm_has_a_column_of_its_own(overrides, stops, norm):
    """Where gradients stop and which batch norm noise meets are two things; none without noise."""
    said = words(*overrides)
    assert said["gradients of noise stop at"] == stops
    assert said["batch norm of noise"] == norm
    assert bool(said["noise"]) == bool(norm)


def test_noise_of_other_kinds_is_said():
    """What noise is, where it is put in and whether it is clipped stand in words."""
    assert words("method=open", "delta=0.25")["noise"] == "delta 0.25"
    said = words("method=open", "noise.kind=images", "noise.source=photographs")["noise"]
    assert said == "delta 0.3333, other images, from photographs"
    said = words("method=open", "noise.space=normalized", "noise.clip=false")["noise"]
    assert said == "delta 0.3333, put in after normalisation, not clipped"
    assert words("method=noise-augment")["noise"] == "one noise image to four natural ones"


def test_what_has_no_words_is_shown_as_it_is():
    """A sampler, a noise and a mixing of a later version are shown by their names."""
    phase = PhaseSpec.model_construct(
        sampler="lottery", noise="snow", weights="heavy", mix=MixSpec(name="mixup", alpha=0.3)
    )
    said = methodwords._phase(phase, (0, 9), (0, 9))
    assert said == "lottery, snow, heavy, images are mixed by mixup (alpha 0.3)"


def test_phases_are_those_that_a_run_of_this_length_has():
    """A phase without an epoch is left out; mixing says in which epochs, where not in all."""
    assert words("method=open", "epochs=5")["phases"].startswith("first draws every image once")
    only = "draws all classes equally often, some images become noise"
    assert words("method=open", "epochs=1")["phases"] == only
    assert "in epochs 4 to 197)" in words("method=cmo", "epochs=200")["phases"]
    assert "in epochs 3 to 18)" in words("method=cmo", "epochs=20")["phases"]
    assert "in epochs" not in words("method=cmo", "epochs=5")["phases"]
    assert words("method=open+cmo", "epochs=20")["phases"].count("images are mixed by cmo") == 2
