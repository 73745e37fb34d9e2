"""Second stages of the head and adjustments at last, against loops written out by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

import purenoise as pn
from purenoise.augment import build_augment, normalize
from purenoise.errors import ModelError, RecipeError
from purenoise.experiment import run_recipe
from purenoise.fitting import make_plain, make_ready, phases_of
from purenoise.headspec import HeadSpec, PostSpec
from purenoise.headstage import cut_lengths, draw_head, stages_of
from purenoise.lab.sharing import prefix_key
from purenoise.methodfile import Method, PhaseSpec, load_method
from purenoise.methods import Phase, phase_at, phase_spans
from purenoise.models import build_model
from purenoise.models.cifar_resnet import CosineLinear
from purenoise.network import load_run, network
from purenoise.plan import plan_epoch
from purenoise.posthoc.heads import prior_shift, tau_normalize
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.runtime import AUGMENT, HEAD, generator, stream_seed
from purenoise.speed import Switches
from purenoise.training import Fit, Interrupted, State

SHORT = ("epochs=4", "batch_size=128", "warmup=0", "defer=0.5", "precision=float64")
STAGED = ["crt", "lws", "weight-balancing"]
ADJUSTED = ["logit-adjustment", "tau-norm"]


pytestmark = pytest.mark.usefixtures("one_thread")


def recipe_of(*changes: str) -> Recipe:
    """Return the digits recipe for four short epochs, half of them in the second stage."""
    return load_recipe("digits", [*SHORT, *changes])


def parts(recipe: Recipe) -> tuple[Prepared, list[Phase], nn.Module]:
    """Return data, phases and a plain network."""
    data = prepare(recipe.data)
    phases = phases_of(recipe, data)
    return data, phases, network(recipe, data)


def fit_of(recipe: Recipe, **options: Any) -> Fit:
    """Return a loop that has not begun."""
    data, phases, model = parts(recipe)
    make_ready(model, recipe, phases, data)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    return Fit(recipe, data, model, phases, augment, **options)


# Learning rates and spans


def cosine(base: float, at: int, length: int) -> float:
    """Return a cosine's value, from `base` at 0 to 0 at `length`."""
    return base * (1 + math.cos(math.pi * at / length)) / 2


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_each_stage_has_its_own_curve(schedule: str):
    """Stage one runs the recipe's curve to its own end; stage two a cosine without warm-up."""
    train = load_recipe("digits", [f"schedule={schedule}", "epochs=200", "warmup=5"]).train
    stages = stages_of(phase_spans(load_method("crt"), 200, 0.8))
    assert [(s.first, s.end) for s in stages] == [(0, 160), (160, 200)]
    for epoch in range(160):
        expected = {"cosine": cosine(0.1, epoch - 5, 155), "constant": 0.1,
                    "step": 0.1 * 0.01 ** ((epoch >= 128) + (epoch >= 144))}[schedule]  # fmt: skip
        expected = 0.1 * (epoch + 1) / 5 if epoch < 5 else expected
        assert stages[0].rate(epoch, train) == pytest.approx(expected)
    for epoch in range(160, 200):
        assert stages[1].rate(epoch, train) == pytest.approx(cosine(0.1, epoch - 160, 40))


@pytest.mark.parametrize("method", ["erm", "drs", "open", "ldam-drw"])
def test_methods_without_stages_have_one(method: str):
    """Without a setting of the head all phases are one stage on the recipe's curve."""
    (stage,) = stages_of(phase_spans(load_method(method), 200, 0.8))
    assert (stage.first, stage.end, stage.stretch) == (0, 200, (0, 200))


def test_schedule_run_keeps_the_recipes_curve():
    """A stage without a schedule of its own goes on with the recipe's."""
    spec = HeadSpec(learn="head")
    spans = [(PhaseSpec(), 0, 6), (PhaseSpec(start="defer", head=spec), 6, 10)]
    assert [s.stretch for s in stages_of(spans)] == [(0, 10), (0, 10)]
    same = [(PhaseSpec(head=spec), 0, 6), (PhaseSpec(start="defer", head=spec), 6, 10)]
    assert [(s.first, s.end) for s in stages_of(same)] == [(0, 10)]


# Pieces


def test_lengths_are_cut_by_the_formula():
    """Rows longer than the bound get its length and keep their direction; others stay."""
    weight = torch.randn(6, 5, generator=generator(0), dtype=torch.float64)
    weight[2] = 0
    before = weight.clone()
    cut_lengths(weight, 1.5)
    cut_lengths(torch.empty(6, 5, device="meta"), 1.5)  # reads nothing back from its device
    for old, new in zip(before, weight, strict=True):
        length = math.sqrt(sum(v * v for v in old.tolist()))
        expected = old * (1.5 / length) if length > 1.5 else old
        torch.testing.assert_close(new, expected)


def test_a_head_is_drawn_by_its_seed():
    """The same seed gives the same layer whatever it was; linear ones within 1 / sqrt(D)."""
    layers = [nn.Linear(16, 4), nn.Linear(16, 4), CosineLinear(16, 4)]
    for layer in layers:
        draw_head(layer, 3)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert 0.2 < layers[0].weight.abs().max() <= 0.25
    assert 0 < layers[0].bias.abs().max() <= 0.25
    torch.testing.assert_close(layers[2].weight.norm(dim=1), torch.ones(4))
    draw_head(layers[1], 4)
    assert not torch.equal(layers[0].weight, layers[1].weight)


# Whole runs against plain loops


def by_hand(method: str, recipe: Recipe) -> dict[str, Tensor]:
    """Train two stages in a plain loop; the second on features in evaluation mode."""
    data, phases, model = parts(recipe)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    seed, classes = recipe.seed, data.dataset.n_classes
    base = 0.1
    decays = {"crt": (2e-4, 2e-4), "lws": (2e-4, 0.0), "weight-balancing": (5e-3, 0.1)}[method]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=decays[0])

    def train(epoch: int, forward: Callable[[Tensor], Tensor], after: Callable[[], None]) -> None:
        phase = phase_at(phases, epoch)
        for step, plan in enumerate(plan_epoch(phase, epoch, recipe.train.batch_size, seed)):
            images = torch.from_numpy(data.dataset.train.images.load(plan.natural))
            drawn = augment(images, generator(stream_seed(seed, AUGMENT, epoch, step)))
            optimizer.zero_grad()
            out = forward(normalize(drawn.double(), data.mean, data.std))
            phase.loss(epoch)(out, torch.from_numpy(plan.labels)).backward()
            optimizer.step()
            after()

    model.train()
    for epoch in range(2):
        optimizer.param_groups[0]["lr"] = cosine(base, epoch, 2)
        train(epoch, model, lambda: None)

    model.eval()
    features: list[Tensor] = []
    model.fc.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach()))
    weight, bias = (v.detach().clone() for v in (model.fc.weight, model.fc.bias))
    factors = torch.ones(classes, dtype=torch.float64)
    if method == "crt":
        draws = torch.Generator().manual_seed(stream_seed(seed, HEAD, 0))
        weight = ((2 * torch.rand(weight.shape, generator=draws) - 1) / 8).double()
        bias = ((2 * torch.rand(bias.shape, generator=draws) - 1) / 8).double()
    learnt = [factors] if method == "lws" else [weight, bias]
    for value in learnt:
        value.requires_grad_(True)
    optimizer = torch.optim.SGD(learnt, 0.1, 0.9, weight_decay=decays[1])
    lengths = weight.detach().norm(dim=1)
    limit = lengths.min() + 0.1 * (lengths.max() - lengths.min())

    def bounded() -> None:
        if method == "weight-balancing":
            with torch.no_grad():
                for row in weight:
                    row.mul_(min(1.0, float(limit / row.norm())))

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            model(x)
        return features.pop() @ (weight * factors[:, None]).T + bias

    bounded()
    for epoch in (2, 3):
        optimizer.param_groups[0]["lr"] = cosine(base, epoch - 2, 2)
        train(epoch, forward, bounded)
    state = model.state_dict()
    state["fc.weight"], state["fc.bias"] = (weight * factors[:, None]).detach(), bias.detach()
    return state


@pytest.mark.parametrize("method", STAGED)
def test_stages_equal_a_plain_loop(method: str):
    """In float64 a run with two stages ends with the weights of a loop written out by hand."""
    recipe = recipe_of(f"method={method}")
    fit = fit_of(recipe)
    history = fit.run()
    expected, found = by_hand(method, recipe), fit.model.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, msg=name)
    assert [h["lr"] for h in history] == pytest.approx([0.1, 0.05, 0.1, 0.05])
    assert all(p.requires_grad for p in fit.model.parameters())


@pytest.mark.parametrize("method", STAGED)
def test_the_second_stage_changes_the_head_alone(method: str):
    """Features, batch norms and their statistics are those at the end of stage one."""
    states: list[dict[str, Tensor]] = []
    fit = fit_of(recipe_of(f"method={method}"), on_epoch=lambda s: states.append(
        {k: v.clone() for k, v in s.model.items()}))  # fmt: skip
    fit.run()
    after = fit.model.state_dict()
    changed = {name for name, value in states[1].items() if not torch.equal(value, after[name])}
    assert changed == ({"fc.weight"} if method == "lws" else {"fc.weight", "fc.bias"})


def test_lengths_stay_bounded_all_along():
    """In the second stage of weight balancing no weight vector is ever longer than the bound."""
    fit = fit_of(recipe_of("method=weight-balancing"))
    lengths: list[float] = []

    def watch(name: str, event: dict[str, Any]) -> None:
        if name == "step" and event["epoch"] >= 2:
            limit = fit.optimizer.param_groups[0]["max_norm"]
            lengths.append(float(fit.model.fc.weight.detach().norm(dim=1).max()) / limit)

    fit.listener = watch
    fit.run()
    assert len(lengths) > 4
    assert max(lengths) <= 1 + 1e-12


def test_dropout_goes_on_and_batch_norm_does_not():
    """In a stage of the head batch norms are in evaluation mode and dropout is in training mode."""
    recipe = recipe_of("method=crt", "model=wide_resnet10_1", "dropout=0.3")
    fit = fit_of(recipe)
    modes: set[tuple[str, bool]] = set()

    def watch(name: str, event: dict[str, Any]) -> None:
        if name == "step" and event["epoch"] == 3:
            modes.update((type(m).__name__, m.training) for m in fit.model.modules())

    fit.listener = watch
    fit.run()
    assert ("BatchNorm2d", False) in modes
    assert ("BatchNorm2d", True) not in modes
    assert ("Dropout", True) in modes


@pytest.mark.parametrize("method", [*STAGED, "open+crt"])
@pytest.mark.parametrize("stop", [1, 3, 4, 6, 7])
def test_a_resumed_run_ends_the_same(method: str, stop: int):
    """Stopped in either stage, at its end or begin, and continued, a run has the same weights."""
    recipe = recipe_of(f"method={method}", "batch_size=192")  # 2 steps an epoch
    whole = fit_of(recipe)
    whole.run()
    asked, kept = iter([False] * stop + [True]), list[State]()
    with pytest.raises(Interrupted):
        fit_of(recipe, save=kept.append, should_stop=lambda: next(asked, True)).run()
    other = fit_of(load_recipe("digits", [*SHORT, f"method={method}", "batch_size=192"]))
    torch.manual_seed(5)
    other.run(kept[-1])
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[name]) for name, v in other.model.state_dict().items())


@pytest.mark.parametrize("method", STAGED)
@pytest.mark.parametrize("epoch", [2, 3, 4])
def test_states_at_the_ends_of_epochs_go_on(method: str, epoch: int):
    """The state after any epoch, the last one too, leads another loop to the same weights."""
    recipe, states = recipe_of(f"method={method}"), list[State]()

    def keep(state: State) -> None:
        copied = {k: v.clone() for k, v in state.model.items()}
        optimizer = copy.deepcopy(state.optimizer)
        states.append(State(state.epoch, 0, copied, optimizer, {}, list(state.history)))

    whole = fit_of(recipe, on_epoch=keep)
    whole.run()
    other = fit_of(recipe)
    other.run(states[epoch - 1])
    expected = whole.model.state_dict()
    assert set(other.model.state_dict()) == set(expected)
    assert all(torch.equal(v, expected[name]) for name, v in other.model.state_dict().items())


# What a user gets


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


IDENTITY = {"device": "cpu", "threads": 1, "torch": "2", "fingerprint": "f", "subset_sha256": "s",
            "speed": {"step": "two-pass", "bf16": False}}  # fmt: skip


def key(epoch: int, method: str) -> str:
    """Name the state of a run after some epochs."""
    recipe = load_recipe("digits", ["epochs=10", "defer=0.6", f"method={method}"])
    return prefix_key(recipe, IDENTITY, epoch)


def test_what_is_shared():
    """Adjustments share all of their base; two-stage methods share a first stage of their own."""
    assert key(10, "erm") == key(10, "logit-adjustment") == key(10, "tau-norm")
    assert key(10, "drs") == key(10, "drs+logit-adjustment")
    assert key(6, "crt") == key(6, "lws")
    assert key(6, "crt") != key(6, "erm")  # its learning rate has come down by then
    assert key(6, "weight-balancing") != key(6, "crt")
    assert len({key(10, method) for method in (*STAGED, "erm")}) == 4


# Combinations and refusals


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


def test_a_cosine_head_can_be_trained_anew():
    """With a cosine classifier cRT draws new directions and learns them."""
    fit = fit_of(recipe_of("method=crt+ldam"))
    fit.run()
    assert fit.model.fc.weight.isfinite().all()


def test_frozen_stages_cannot_be_compiled():
    """A stage that freezes the network and a compiled step do not go together."""
    with pytest.raises(RecipeError, match="cannot be compiled"):
        fit_of(recipe_of("method=crt"), switches=Switches(step="masked", compile=True))


def test_masked_steps_of_a_frozen_network_are_the_same():
    """With noise in a stage of the head, the masked form of a step ends with the same weights."""
    states = []
    for step in ("two-pass", "masked"):
        fit = fit_of(recipe_of("method=open+crt"), switches=Switches(step=step))
        fit.run()
        states.append(fit.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-10, msg=name)


def test_factors_start_at_one():
    """Before its first step LWS computes what the plain network computes."""
    fit = fit_of(recipe_of("method=lws"))
    x = torch.randn(4, 1, 8, 8, generator=generator(0), dtype=torch.float64)
    before = fit.model.eval()(x)
    fit.stages.enter(3)
    torch.testing.assert_close(fit.model(x), before)
    assert [n for n, p in fit.model.named_parameters() if p.requires_grad] == [
        "fc.parametrizations.weight.0.factors"
    ]
    fit.stages.leave()
    torch.testing.assert_close(fit.model(x), before)
    assert F.linear(torch.ones(1, 64).double(), fit.model.fc.weight).shape == (1, 10)


KINDS = [("crt", {}), ("lws", {}), ("weight-balancing", {}), ("logit-adjustment", {}),
         ("open", {"batch_norm": "auxiliary"}), ("open+crt", {"noise": "shuffled"})]  # fmt: skip


@pytest.mark.parametrize(("method", "more"), KINDS)
@pytest.mark.parametrize("place", [(0, 1), (2, 0), (3, 1)])
def test_a_run_that_dies_goes_on_from_its_files(
    method: str, more: dict[str, Any], place: tuple[int, int], tmp_path
):
    """A run that breaks off in a stage, or between two, ends with the weights of a whole one."""
    texts = [*SHORT[:-1], f"method={method}", "threads=1", "batch_size=192", "save_seconds=0"]

    def recipe_in(out: str) -> Recipe:
        return load_recipe("digits", [*texts, f"out={tmp_path / out}"], more)

    class DeadError(Exception):
        """What ends the run."""

    def die(name: str, event: dict[str, Any]) -> None:
        if name == "step" and (event["epoch"], event["step"]) == place:
            raise DeadError

    whole, broken = recipe_in("whole"), recipe_in("broken")
    expected = run_recipe(whole, whole)
    with pytest.raises(DeadError):
        run_recipe(broken, broken, listeners=[die])
    found = run_recipe(broken, broken)
    weights = [load_file(run.folder / "weights.safetensors") for run in (expected, found)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert expected.summary["test"] == found.summary["test"]
