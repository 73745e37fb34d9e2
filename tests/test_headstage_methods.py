"""Methods with a second stage or an adjustment train, combine, and refuse what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

import purenoise as pn
from purenoise.errors import ModelError, RecipeError
from purenoise.fitting import make_plain, phases_of
from purenoise.headspec import HeadSpec, PostSpec
from purenoise.methodfile import Method, load_method
from purenoise.models import build_model
from purenoise.network import load_run
from purenoise.posthoc.heads import prior_shift, tau_normalize
from purenoise.recipe import load_recipe

from .stagedfits import SHORT, STAGED, parts, recipe_of

ADJUSTED = ["logit-adjustment", "tau-norm"]
pytestmark = pytest.mark.usefixtures("one_thread")
COMBINED = ["open+crt", "crt+focal", "drs+tau-norm", "open+logit-adjustment",
            "deferred-logit-adjustment"]  # fmt: skip


@pytest.mark.parametrize("method", [*STAGED, *ADJUSTED, *COMBINED])
def test_every_method_trains_on_digits(method: str, tmp_path):
    """A run of two epochs finishes, and its weights are those of a plain network."""
    run = pn.train("digits", method=method, epochs=2, batch_size=128, threads=1, out=str(tmp_path))
    plain = set(build_model("small_cnn", 10, in_channels=1).state_dict())
    assert set(load_file(run.folder / "weights.safetensors")) == plain
    assert 0 <= run.metrics["accuracy"] <= 1
    _, _, model = load_run(run.folder)
    assert model.fc.weight.isfinite().all()


def test_adjusted_methods_are_their_base_adjusted(tmp_path):
    """erm, logit-adjustment and tau-norm share all weights but those of the last layer."""
    given = {
        "epochs": 3,
        "batch_size": 128,
        "threads": 1,
        "out": str(tmp_path),
        "val_fraction": 0.2,
    }
    runs = {m: pn.train("digits", method=m, **given) for m in ("erm", *ADJUSTED)}
    weights = {m: load_file(run.folder / "weights.safetensors") for m, run in runs.items()}
    erm, counts = weights["erm"], np.array(runs["erm"].summary["counts"])
    head = ("fc.weight", "fc.bias")
    for found in weights.values():
        assert all(torch.equal(v, erm[k]) for k, v in found.items() if k not in head)
    shift = torch.from_numpy(prior_shift(counts)).float()
    torch.testing.assert_close(weights["logit-adjustment"]["fc.bias"], erm["fc.bias"] + shift)
    assert torch.equal(weights["logit-adjustment"]["fc.weight"], erm["fc.weight"])
    torch.testing.assert_close(weights["tau-norm"]["fc.weight"], tau_normalize(erm["fc.weight"]))
    assert not weights["tau-norm"]["fc.bias"].any()
    logits = {m: np.load(run.folder / "predictions.npz")["logits"] for m, run in runs.items()}
    expected = logits["erm"] - np.log(counts / counts.sum())
    np.testing.assert_allclose(logits["logit-adjustment"], expected, atol=1e-5)
    summary = runs["logit-adjustment"].summary
    assert any("adjusted by the prior 'train'" in note for note in summary["notes"])
    assert summary["val"] != runs["erm"].summary["val"]
    assert summary["optimistic_best_on_test"]["accuracy"] is None  # an epoch is not adjusted


def test_the_sampled_prior_is_that_of_the_last_phase():
    """After class-balanced sampling the sampled prior is uniform, and nothing is changed by it."""
    phases = [{"start": "begin"}, {"start": "defer", "sampler": "class-balanced"}]
    written = {"phases": phases, "post": {"name": "logit-adjustment", "prior": "sampled"}}
    recipe = load_recipe("digits", [*SHORT], {"method": written})
    data, built, model = parts(recipe)
    before = model.fc.bias.detach().clone()
    (note,) = make_plain(model, recipe, built, data)
    assert "'sampled'" in note
    torch.testing.assert_close(model.fc.bias - before, torch.full((10,), math.log(10)).double())


def test_a_prior_that_is_taken_out_twice_is_said():
    """A method written out with balanced softmax and logit adjustment says what it did."""
    written = {"loss": {"name": "balanced-softmax"}, "post": {"name": "logit-adjustment"}}
    recipe = load_recipe("digits", [*SHORT], {"method": written})
    data, built, model = parts(recipe)
    notes = make_plain(model, recipe, built, data)
    assert "(its loss is 'balanced-softmax'): they may have been taken out twice" in notes[-1]
    plain = recipe_of("method=logit-adjustment")
    assert len(make_plain(model, plain, phases_of(plain, data), data)) == 1


def test_combinations_keep_stage_and_adjustment():
    """A stage or an adjustment of either side of A+B is kept."""
    for name in ("open+crt", "crt+focal", "crt+drw"):
        assert load_method(name).at("defer").head == load_method("crt").at("defer").head
    for name in ("drs+tau-norm", "tau-norm+drw", "deferred-tau-norm"):
        assert load_method(name).post == PostSpec(name="tau-norm")
    assert load_method("open+crt").at("defer").noise == "open"
    assert load_method("erm").post is None


@pytest.mark.parametrize("name", ["crt+lws", "weight-balancing+crt", "tau-norm+logit-adjustment"])
def test_two_of_a_kind_are_refused(name: str):
    """Two stages, or two adjustments, cannot be combined."""
    with pytest.raises(RecipeError, match="Both methods of"):
        load_method(name)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (lambda: HeadSpec(learn="scale", reset=True), "no meaning"),
        (lambda: HeadSpec(learn="scale", max_norm=1.0), "no meaning"),
        (lambda: HeadSpec(max_norm_is="relative"), "only with max_norm"),
        (lambda: HeadSpec(max_norm=2, max_norm_is="relative"), "at most 1"),
        (lambda: HeadSpec(max_norm=0), "greater than 0"),
        (lambda: HeadSpec(learn="tail"), "'all', 'head' or 'scale'"),
        (lambda: PostSpec(name="tau-norm", prior="sampled"), "uses no prior"),
        (lambda: PostSpec(name="tau-norm", tau=-1), "greater than or equal to 0"),
        (lambda: Method(post={"name": "tau"}), "'logit-adjustment' or 'tau-norm'"),
    ],
)
def test_settings_that_do_not_fit_get_a_sentence(bad: Callable[[], Any], sentence: str):
    """Settings without a meaning are refused with the reason."""
    with pytest.raises(ValidationError, match=sentence):
        bad()


@pytest.mark.parametrize("method", ["lws+ldam", "weight-balancing+ldam", "ldam+tau-norm"])
def test_cosine_heads_are_refused_before_training(method: str, tmp_path):
    """What needs lengths or a bias cannot be done to a cosine classifier, and says so at once."""
    if method == "ldam+tau-norm":
        method = "tau-norm+ldam"
    with pytest.raises(ModelError, match="is CosineLinear and not a linear layer"):
        pn.train("digits", method=method, epochs=1000, threads=1, out=str(tmp_path))
