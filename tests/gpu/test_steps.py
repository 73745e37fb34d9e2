"""On a CUDA device: the same numbers as on the CPU, nothing waited for, images resident."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import purenoise as pn
from purenoise.augment import build_augment
from purenoise.conversion import convert
from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.evaluate import predict_logits
from purenoise.feed import Feed
from purenoise.losses import CrossEntropyLoss
from purenoise.methodfile import load_method
from purenoise.methods import build_phases
from purenoise.models import build_model
from purenoise.network import lay_out
from purenoise.plan import plan_epoch
from purenoise.prepare import Prepared
from purenoise.recipe import load_recipe
from purenoise.speed import Switches, resolve_speed
from purenoise.step import Step
from purenoise.training import Fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Let torch raise wherever the host would wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def made_up() -> Prepared:
    """Return random long-tailed colour images."""
    labels = np.repeat(np.arange(3), (400, 80, 40)).astype(np.int64)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    split = Split(MemoryImages(pixels), labels)
    dataset = Dataset("made-up", ("a", "b", "c"), split, split)
    return Prepared(dataset, dataset.counts(), *[(0.5, 0.5, 0.5), (0.25, 0.25, 0.25)] * 2)


SWITCHES = [
    Switches(),
    Switches(channels_last=True, bf16=True),
    Switches(step="masked", channels_last=True),
]


def refuse_waiting(name: str, _event: dict[str, Any]) -> None:
    """From the second step on (the first looks at buffers once) waiting is an error."""
    if name == "step":
        torch.cuda.set_sync_debug_mode("error")


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("policy", ["none", "open", "autoaugment"])
def test_no_step_waits_for_the_device(switches: Switches, policy: str, no_waiting: None):
    """With torch's sync debug mode as an error whole steps run: feed, augment, noise, update."""
    torch.cuda.set_sync_debug_mode("default")
    data, recipe = made_up(), load_recipe("cifar10-lt", ["model=resnet8", "batch_size=64"])
    phases = build_phases(
        load_method("open"), data.dataset.train.labels, 3, epochs=200, defer=0.8, delta=0.5, seed=0
    )
    model = convert(build_model("resnet8", 3)).to(CUDA)
    fit = Fit(recipe, data, lay_out(model), phases, build_augment(policy, (3, 32, 32), flip=True),
              switches, listener=refuse_waiting)  # fmt: skip
    assert fit.feed.resident
    meter = fit.train_steps(plan_epoch(phases[1], 199, 64, 0), 199)
    torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(meter.means()["loss"])


def test_the_proof_can_fail(no_waiting: None):
    """In that mode asking for a value of the device is an error."""
    value = torch.ones(1, device=CUDA)
    with pytest.raises(RuntimeError, match="synchroniz"):
        value.item()


@pytest.mark.parametrize("switches", [Switches(), Switches(step="masked"),
                                      Switches(channels_last=True)])  # fmt: skip
def test_the_step_equals_that_of_the_cpu(switches: Switches):
    """In float64 logits, gradients and running statistics are those of the CPU."""
    model = convert(build_model("resnet8", 10, generator_seed=0)).double()
    images = torch.randn(24, 3, 32, 32, dtype=torch.float64)
    labels = torch.arange(24) % 10
    found = []
    for device in (torch.device("cpu"), CUDA):
        twin = copy.deepcopy(model).to(device)
        x = images.to(device)
        logits = Step(twin, 24, switches, True)(x[:18], x[18:], phase_has_noise=True)
        CrossEntropyLoss()(logits, labels.to(device)).backward()
        found.append([logits, *(p.grad for p in twin.parameters()), *twin.buffers()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-8, atol=1e-9)


def test_defaults_of_a_gpu():
    """A GPU that has bfloat16 uses it by default, with channels_last."""
    found = resolve_speed(load_recipe("cifar10-lt").speed, CUDA, "float32")
    assert found.channels_last
    assert found.bf16 == torch.cuda.is_bf16_supported(including_emulation=False)


def test_resident_images_are_those_of_the_host():
    """A batch read on the device holds the images that the plan names."""
    data = made_up()
    feed = Feed(data.dataset.train, CUDA)
    phases = build_phases(
        load_method("open"), data.dataset.train.labels, 3, epochs=10, defer=0.8, delta=0.5, seed=0
    )
    for plan, images, labels in feed.epoch(plan_epoch(phases[1], 9, 64, 0)):
        host = data.dataset.train.images.load(plan.natural)
        assert np.array_equal(images.cpu().numpy(), host)
        assert np.array_equal(labels.cpu().numpy(), plan.labels)


def test_evaluation_halves_its_batches_when_memory_is_short(monkeypatch):
    """Logits are the same after the device refused batches that were too large."""
    data = made_up()
    model = build_model("resnet8", 3, generator_seed=0).to(CUDA)
    whole = predict_logits(model, data.dataset.test.images, data.mean, data.std)

    def refuse(_: torch.nn.Module, args: tuple) -> None:
        if len(args[0]) > 100:
            raise torch.cuda.OutOfMemoryError

    model.register_forward_pre_hook(refuse)
    parts = predict_logits(model, data.dataset.test.images, data.mean, data.std)
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-3)


def test_a_run_on_the_gpu(tmp_path):
    """A run on digits ends with a result and says where it took place."""
    run = pn.train("digits", epochs=5, device="cuda", out=str(tmp_path))
    assert run.summary["environment"]["device"] == torch.cuda.get_device_name()
    assert run.metrics["accuracy"] > 0.2


def test_deterministic_runs_are_equal_bit_for_bit(tmp_path: Path) -> None:
    """Two runs with deterministic=true give the same weights; what has no form would be named."""
    options = {"deterministic": True, "epochs": 3, "device": "cuda", "model": "resnet8"}
    runs = [pn.train("digits", out=str(tmp_path / name), **options) for name in ("a", "b")]
    first, second = (load_file(run.folder / "weights.safetensors") for run in runs)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert runs[0].metrics == runs[1].metrics
