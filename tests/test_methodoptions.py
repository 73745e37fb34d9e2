"""Options of methods: where they go, what they refuse, and what they change."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import purenoise as pn
from purenoise.errors import RecipeError
from purenoise.lab.sharing import prefix_key
from purenoise.losses import class_smoothing
from purenoise.methodfile import DEFERRED, known_methods, load_method
from purenoise.methodoptions import MethodOptions, options_of, with_options
from purenoise.methods import build_phases
from purenoise.posthoc.heads import prior_shift, tau_normalize
from purenoise.recipe import load_recipe

OTHER = {
    "tau": 0.6, "target": "test", "gamma": 3.0, "label_smoothing": 0.1, "max_m": 0.3, "s": 10.0,
    "head": 0.35, "tail": 0.05, "alpha": 0.25, "kappa": 5.0, "prob": 0.125, "skip": 1,
    "head_decay": 0.25, "max_norm": 0.75, "prior": "natural", "shape": "linear", "form": "ldam-drw",
}  # fmt: skip


@pytest.mark.parametrize("name", known_methods())
def test_each_option_of_a_method_is_set_and_no_other(name):
    """What options_of names can be set and is found again; every other option is refused."""
    method = load_method(name)
    known = options_of(method)
    for option, value in OTHER.items():
        given = MethodOptions(**{option: value})
        if option in known:
            changed = with_options(method, given, name)
            assert options_of(changed)[option] == value
            assert changed != method
            assert options_of(changed) == known | {option: value}
        else:
            with pytest.raises(RecipeError, match=f"{name} has no option {option}"):
                with_options(method, given, name)


def test_every_option_is_tried_above():
    """The table of values covers all options."""
    assert set(OTHER) == set(MethodOptions.model_fields)


def test_options_reach_recipes_by_their_short_names_and_written_methods():
    """In a line, in a deferred and a combined method, and beside a method written out."""
    recipe = load_recipe("digits", ["method=open+cmo", "alpha=0.2"])
    assert [p.mix.settings()["alpha"] for p in recipe.resolved_method().phases] == [0.2, 0.2]
    recipe = load_recipe("digits", [f"method={DEFERRED}mixup", "alpha=0.3"])
    assert recipe.resolved_method().phases[1].mix.settings()["alpha"] == 0.3
    written = {"loss": {"name": "focal", "gamma": 1.0}}
    recipe = load_recipe("digits", values={"method": written, "options": {"gamma": 4}})
    assert recipe.resolved_method().loss.options()["gamma"] == 4
    assert load_recipe("digits").digest() == load_recipe("digits", ["options={}"]).digest()
    one, two = (load_recipe("digits", ["method=tau-norm", f"tau={tau}"]) for tau in (0.5, 0.7))
    assert one.digest(with_method=False) != two.digest(with_method=False)


def test_options_reach_the_losses():
    """Prior, shape and form of a line are those of the losses that are built."""
    for line, name in ((["method=open+balanced-softmax", "prior=natural"], "prior"),
                       (["method=label-aware-smoothing", "shape=convex"], "shape"),
                       (["method=focal", "form=ldam-drw"], "form")):  # fmt: skip
        recipe = load_recipe("digits", line)
        method = recipe.resolved_method()
        value = line[1].partition("=")[2]
        assert all(getattr(method.loss_of(p), name) == value for p in method.phases)
        labels = np.repeat(np.arange(3), (40, 9, 4))
        for phase in build_phases(method, labels, 3, epochs=4, defer=0.5, delta=0.3, seed=0):
            loss = phase.loss(phase.first)
            if name == "prior":
                expected = torch.from_numpy(phase.priors(phase.first)["natural"]).log()
                torch.testing.assert_close(loss.log_prior, expected)
            elif name == "form":
                assert loss.form == value
            else:
                expected = torch.from_numpy(class_smoothing([40, 9, 4], 0.4, 0.1, value))
                torch.testing.assert_close(loss.smoothing, expected, check_dtype=False)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["method=erm", "tau=1"], "'erm' has no option tau. Its options are label_smoothing"),
        (["method=remix", "kappa=0.5"], "options.kappa: must be at least 1"),
        (["method=weight-balancing", "max_norm=3"], "a relative max_norm is at most 1"),
        (["method=mixup", "options.alpa=1"], "Did you mean 'options.alpha'"),
        (["method=tau-norm", "target=test"], "no option target"),
        (
            ["method=remix+logit-adjustment", "tau=1"],
            "has tau in 2 parts: the mixing 'remix' and the adjustment 'logit-adjustment'",
        ),
        (["method=remix+balanced-softmax", "tau=1"], "2 parts: the loss and the mixing 'remix'"),
        (["method=balanced-softmax", "prior=some"], "prior"),
        (["method=erm", "prior=natural"], "'erm' has no option prior"),
        (["method=label-aware-smoothing", "shape=round"], "shape"),
        (["method=focal", "form=other"], "form"),
    ],
)
def test_options_that_do_not_fit_are_refused(line, said):
    """Each gets a sentence that names option and method."""
    with pytest.raises(RecipeError) as error:
        load_recipe("digits", line)
    assert said in str(error.value)


def test_variants_with_options_share_all_training_but_their_end(tmp_path):
    """tau-norm with another tau, and adjustment to a stated prior, are erm with another last layer.

    Oracles: the formulas of Kang et al. 2020 and Menon et al. 2021 on erm's weights.
    """
    shares = [float(c) for c in range(1, 11)]
    pn.compare(
        "digits",
        methods="erm,tau-norm:tau=0.5,logit-adjustment,"
        "logit-adjustment:target=[1,2,3,4,5,6,7,8,9,10]",
        seeds=1, epochs=2, batch_size=128, threads=1, out=str(tmp_path),
    )  # fmt: skip
    seen: list[bool] = []
    found = sorted(tmp_path.glob("digits*/*/seed-0/weights.safetensors"))
    assert len(found) == 4
    weights = [load_file(path) for path in found]
    erm = next(w for p, w in zip(found, weights, strict=True) if "erm" in p.parts)
    for w in weights:
        assert all(torch.equal(v, erm[k]) for k, v in w.items() if not k.startswith("fc."))
    tau = next(w for p, w in zip(found, weights, strict=True) if "tau-norm" in p.parts)
    torch.testing.assert_close(tau["fc.weight"], tau_normalize(erm["fc.weight"], 0.5))
    for path, w in zip(found, weights, strict=True):
        if "logit-adjustment" not in path.parts:
            continue
        summary = json.loads((path.parent / "summary.json").read_text())
        aims = any("to the prior 'given'" in note for note in summary["notes"])
        expected = prior_shift(summary["counts"], shares if aims else None)
        shift = (w["fc.bias"] - erm["fc.bias"]).double().numpy()
        np.testing.assert_allclose(shift, expected, atol=1e-5)
        seen.append(aims)
    assert sorted(seen) == [False, True]


def test_a_target_that_does_not_fit_is_refused_before_training(tmp_path):
    """Shares for three of ten classes get a sentence, and no run is begun."""
    with pytest.raises(RecipeError, match="3 numbers, and the run has 10 classes"):
        pn.train("digits", method="logit-adjustment", target=[1, 2, 3], epochs=1, out=str(tmp_path))
    assert not list(tmp_path.rglob("events.jsonl"))


def test_options_do_not_part_what_is_trained_alike():
    """With options that only the end reads, the state before it bears the name of erm's."""
    names = {
        prefix_key(load_recipe("digits", [*line, "epochs=4"]), {}, 4)
        for line in (["method=erm"], ["method=tau-norm", "tau=0.5"], ["method=logit-adjustment"])
    }
    assert len(names) == 1
    other = prefix_key(
        load_recipe("digits", ["method=erm", "label_smoothing=0.1", "epochs=4"]), {}, 4
    )
    assert other not in names
