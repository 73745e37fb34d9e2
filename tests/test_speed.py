"""Switches: what each device gets, what it cannot do, and that no switch changes the numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import purenoise as pn
from purenoise import speed
from purenoise.augment import build_augment
from purenoise.conversion import convert
from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.errors import ModelError, RecipeError, RunError
from purenoise.fitting import phases_of
from purenoise.losses import CrossEntropyLoss
from purenoise.maskedpass import MaskedPass
from purenoise.methodfile import load_method
from purenoise.methods import Phase, build_phases
from purenoise.models import build_model
from purenoise.network import lay_out, network
from purenoise.noisesource import NoiseSource
from purenoise.optimizer import build_optimizer
from purenoise.plan import plan_epoch
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.runtime import keep_freed_memory, torch_settings
from purenoise.speed import Switches, resolve_speed
from purenoise.step import Step
from purenoise.training import Fit
from purenoise.twopass import TwoPass

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Run as training does: threads fixed, the random state forked."""
    with torch_settings(1, CPU):
        yield


def resolve(*changes: str, device: str = "cpu", precision: str = "float32") -> Switches:
    """Resolve the switches of a changed recipe."""
    return resolve_speed(load_recipe("digits", changes).speed, torch.device(device), precision)


def test_a_cpu_gets_channels_last_and_nothing_that_was_not_seen_to_win():
    """By default a CPU run has channels_last and two passes; no bfloat16, no compiler."""
    assert resolve() == Switches(channels_last=True)
    assert resolve(precision="float64") == Switches()
    off = ("speed.channels_last=false", "speed.bf16=false", "speed.compile=false")
    assert resolve(*off) == Switches()


def test_wishes_that_cannot_be_granted_get_a_word(monkeypatch):
    """bf16 without such units and compile without a compiler: a warning with the reason."""
    monkeypatch.setattr(speed, "_cpu_has_bf16", lambda: False)
    monkeypatch.setattr(speed.shutil, "which", lambda name: None)
    found = resolve("speed.bf16=true", "compile=true")
    assert (found.bf16, found.compile, found.step) == (False, False, "two-pass")
    assert [text.partition(":")[0] for text in found.warnings] == [
        "speed.bf16 cannot be had", "speed.compile cannot be had"]  # fmt: skip
    assert "no bfloat16 units" in found.warnings[0]
    assert "C++ compiler" in found.warnings[1]
    assert all(text.endswith("going on without.") for text in found.warnings)


def test_what_is_forced_and_cannot_be_done_is_an_error_that_names_all(monkeypatch):
    """Two orders that cannot be carried out are refused in one message."""
    monkeypatch.setattr(speed, "_cpu_has_bf16", lambda: False)
    monkeypatch.setattr(speed.shutil, "which", lambda name: None)
    with pytest.raises(RecipeError, match=r"speed\.bf16 .* speed\.compile") as caught:
        resolve("bf16=force", "compile=force")
    assert "falls back" in caught.value.hint
    with pytest.raises(RecipeError, match="precision is float64"):
        resolve("bf16=force", precision="float64")


def test_bf16_on_a_cpu_that_has_it_must_be_asked_for(monkeypatch):
    """bfloat16 on a CPU with such units is used when asked for, never by default."""
    monkeypatch.setattr(speed, "_cpu_has_bf16", lambda: True)
    assert not resolve().bf16
    assert resolve("bf16=true").bf16


def test_other_devices_are_not_guessed():
    """On a device where a switch was never tried it stays off, with a word if it was asked for."""
    assert resolve(device="mps") == Switches()
    assert "never tried on mps" in resolve("bf16=true", device="mps").warnings[0]


def test_compile_takes_the_masked_step_unless_told_otherwise():
    """With fixed shapes wanted the masked form is chosen; an explicit form is kept."""
    if speed.why_no_compile(CPU, "float32"):
        pytest.skip("there is no C++ compiler here")
    assert resolve("compile=true").step == "masked"
    assert resolve("compile=true", "step=two-pass").step == "two-pass"


@pytest.mark.parametrize("value", ["maybe", "2", "[true]", "on and off"])
def test_switches_take_four_values(value):
    """Anything but true, false, auto and force is refused, with what is allowed."""
    with pytest.raises(RecipeError, match=r"speed.compile: must be true, false, auto or force"):
        load_recipe("digits", [f"speed.compile={value}"])


def test_an_unknown_switch_is_named():
    """CUDA graphs are not built, and a misspelt switch gets the nearest."""
    with pytest.raises(RecipeError, match=r"speed\.graphs"):
        load_recipe("digits", ["speed.graphs=true"])
    with pytest.raises(RecipeError, match=r"channels_last"):
        load_recipe("digits", ["channel_last=true"])


def test_where_images_lie_does_not_change_a_run():
    """Caches and residency leave a recipe's hash alone; what changes rounding does not."""
    base = load_recipe("digits").digest()
    same = ["speed.resident=false", "memory_mib=5", "data.cache=off", "cache_mib=7"]
    assert load_recipe("digits", same).digest() == base
    for change in ("channels_last=false", "bf16=true", "step=masked", "compile=true"):
        assert load_recipe("digits", [change]).digest() != base


def fit(recipe: Recipe, switches: Switches) -> tuple[nn.Module, list[str]]:
    """Train by a recipe under switches; return the model and the warnings."""
    data = prepare(recipe.data)
    phases = phases_of(recipe, data)
    model = convert(network(recipe, data), recipe.stop_gradient)
    if switches.channels_last:
        lay_out(model)
    warnings: list[str] = []
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)

    def listen(name: str, event: dict[str, Any]) -> None:
        if name == "warning":
            warnings.append(event["text"])

    Fit(recipe, data, model, phases, augment, switches, listener=listen).run()
    return model, warnings


def recipe_of(*changes: str) -> Recipe:
    """Return a short run in float64 with a plain and a noise phase."""
    return load_recipe("digits", ["epochs=2", "batch_size=128", "warmup=0", "precision=float64",
                                  *changes])  # fmt: skip


def assert_equal_weights(a: nn.Module, b: nn.Module) -> None:
    """Compare whole state dicts to 1e-10."""
    other = b.state_dict()
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("stop", ["branch", "affine", "none"])
@pytest.mark.parametrize("model", ["small_cnn", "wide_resnet10_1"])
@pytest.mark.parametrize("switches", [Switches(step="masked"), Switches(channels_last=True)])
def test_training_with_a_switch_is_training_without(switches: Switches, model: str, stop: str):
    """In float64 masked steps and channels_last end with the weights of the plain two passes."""
    recipe = recipe_of(f"stop_gradient={stop}", f"model={model}")
    assert_equal_weights(fit(recipe, switches)[0], fit(recipe, Switches())[0])


@pytest.mark.parametrize(("step", "defer"), [("masked", 0.0), ("two-pass", 0.5)])
def test_compiled_training_is_training(step: str, defer: float):
    """In float64 a compiled run, if there is a compiler, ends with the same weights."""
    if speed.why_no_compile(CPU, "float32"):
        pytest.skip("there is no C++ compiler here")
    recipe = recipe_of(f"defer={defer}")
    found, warnings = fit(recipe, Switches(step=step, compile=True))
    assert warnings == []
    assert_equal_weights(found, fit(recipe, Switches())[0])


def test_a_model_that_cannot_be_compiled_trains_without(monkeypatch):
    """If the compiler gives up a warning says so and the run is plain; force is an error."""

    def broken(model: nn.Module, **_: Any) -> Any:
        def run(*_: Tensor) -> Tensor:
            raise RuntimeError("no such backend\nand a long story")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    recipe = recipe_of()
    with monkeypatch.context() as patch:  # what goes on is the fast form, not the masked one
        patch.setattr(MaskedPass, "forward", None)
        found, warnings = fit(recipe, Switches(compile=True, step="masked"))
    assert warnings == ["speed.compile cannot be had: no such backend; going on without."]
    assert_equal_weights(found, fit(recipe, Switches())[0])
    with pytest.raises(ModelError, match="cannot be compiled: no such backend"):
        fit(recipe, Switches(compile=True, compile_forced=True))


def test_what_was_on_after_all_is_recorded(monkeypatch, tmp_path):
    """A run that could not be compiled says so in its summary, and does not go on compiled."""

    def broken(model: nn.Module, **_: Any) -> Any:
        def run(*_: Tensor) -> Tensor:
            raise RuntimeError("no such backend")

        return run

    options = {"epochs": 2, "out": str(tmp_path), "compile": True}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", broken)
        run = pn.train("digits", **options)
    assert run.summary["speed"] == {"step": "two-pass", "channels_last": True, "bf16": False,
                                    "compile": False}  # fmt: skip
    assert run.summary["environment"]["fused_update"]
    (run.folder / "summary.json").unlink()
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    with pytest.raises(RunError, match="was begun with speed"):
        pn.train("digits", **options)


def test_without_noise_the_masked_form_is_the_plain_forward(monkeypatch):
    """In phases without noise nothing is masked: ordinary batch norm runs, bit for bit."""
    model = convert(build_model("resnet8", 10, generator_seed=0))
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    step = Step(model, 16, Switches(step="masked"), noisy=True)
    plain = copy.deepcopy(model)
    monkeypatch.setattr(MaskedPass, "forward", None)
    assert torch.equal(step(images, None, phase_has_noise=False), plain(images))


def test_warming_up_leaves_no_trace():
    """Compiling on a made-up batch leaves buffers and gradients as they were."""
    model = convert(build_model("small_cnn", 10, in_channels=1, generator_seed=0))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    step = Step(model, 16, Switches(compile=True, step="masked"), noisy=True)
    step._with_noise = step._plain = TwoPass(model)
    assert step.warm_up((1, 8, 8), 16, [True, False]) is None
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(p.grad is None for p in model.parameters())


def test_bf16_learns_what_float32_learns():
    """Under autocast the loss and the gradients are those of float32 to bfloat16's precision."""
    model = convert(build_model("resnet8", 10, generator_seed=0))
    images = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24) % 10
    gradients = []
    for switches in (Switches(), Switches(bf16=True)):
        model.zero_grad(set_to_none=True)
        logits = Step(model, 24, switches, True)(images[:18], images[18:], phase_has_noise=True)
        assert logits.dtype == torch.float32
        CrossEntropyLoss()(logits, labels).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert not torch.equal(*gradients)
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_fused_optimiser_takes_the_plain_steps(optimizer: str):
    """Ten fused updates in float64 are those of torch's loop over parameters."""
    recipe = load_recipe("digits", [f"optimizer={optimizer}", "nesterov=true", "lr=0.05"])
    models = [build_model("resnet8", 10, generator_seed=0).double() for _ in range(2)]
    fused, plain = (build_optimizer(model, recipe.train) for model in models)
    assert fused.param_groups[0]["fused"]
    plain.param_groups[0].update(fused=False, foreach=False)
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        for p, q in zip(*(model.parameters() for model in models), strict=True):
            p.grad = torch.randn(p.shape, generator=draw, dtype=p.dtype)
            q.grad = p.grad.clone()
        fused.step()
        plain.step()
    assert_equal_weights(*models)


def test_keeping_freed_memory_changes_no_number(tmp_path):
    """Under glibc it can be switched on; a run's weights are the same bits before and after."""
    first = pn.train("digits", epochs=2, out=str(tmp_path / "a"))
    done = keep_freed_memory()
    second = pn.train("digits", epochs=2, out=str(tmp_path / "b"))
    a, b = ((run.folder / "weights.safetensors").read_bytes() for run in (first, second))
    assert a == b
    assert isinstance(done, bool)


def test_a_run_says_what_was_on(tmp_path):
    """Summary, events and warnings of a run hold the switches that were on."""
    run = pn.train("digits", epochs=1, out=str(tmp_path), **{"speed.step": "masked"})
    assert run.summary["speed"] == {"step": "masked", "channels_last": True, "bf16": False,
                                    "compile": False}  # fmt: skip


def made_up(device: str) -> tuple[Recipe, Prepared, list[Phase], nn.Module]:
    """Return what a Fit on colour images needs, with a network on a device."""
    recipe = load_recipe("cifar10-lt", ["model=resnet8", "batch_size=16", "policy=open"])
    labels = np.repeat(np.arange(3), (40, 8, 4)).astype(np.int64)
    pixels = np.zeros((len(labels), 3, 8, 8), np.uint8)
    split = Split(MemoryImages(pixels), labels)
    dataset = Dataset("made-up", ("a", "b", "c"), split, split)
    data = Prepared(dataset, dataset.counts(), *[(0.5, 0.5, 0.5)] * 4)
    phases = build_phases(load_method("open"), labels, 3, epochs=200, defer=0.8, delta=0.5, seed=0)
    return recipe, data, phases, convert(build_model("resnet8", 3)).to(device)


@pytest.mark.parametrize("switches", [Switches(channels_last=True), Switches(step="masked")])
def test_no_step_waits_for_the_device(switches: Switches, monkeypatch):
    """Whole steps run on the meta device, which has no values: nothing can be read back."""
    recipe, data, phases, model = made_up("meta")
    augment = build_augment("open", (3, 8, 8), flip=True)
    run = Fit(recipe, data, model, phases, augment, switches)
    monkeypatch.setattr(  # meta has no generator; drawing noise is a fill, a product and a sum
        NoiseSource, "rows", lambda self, n, *_: torch.empty(n, 3, 8, 8, device=self.device)
    )
    plans = plan_epoch(phases[1], 199, 16, 0)
    assert sum(plan.n_noise for plan in plans)
    meter = run.train_steps(plans, 199)
    with pytest.raises(RuntimeError):  # the proof can fail: what asks for a value is refused
        meter.means()
