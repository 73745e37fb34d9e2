"""What a noise pass refuses, since it would not be exact there, and what it leaves as it was."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from purenoise import exactness
from purenoise.conversion import convert, revert
from purenoise.errors import ModelError
from purenoise.exactness import BufferWatch
from purenoise.passes import NoisePass, noise_pass
from purenoise.twopass import two_pass

from .reference import images, small

read = BufferWatch.read


class Checkpointed(nn.Module):
    """A net whose middle is recomputed in the backward pass."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options
        self.stem, self.middle = nn.Conv2d(3, 3, 3, padding=1), small()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return checkpoint(self.middle, self.stem(x), **self.options)


class Offloaded(nn.Module):
    """A part that sets hooks of its own on saved tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            return self.bn(x)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("nested", [False, True])
def test_activation_checkpointing_in_a_noise_pass_is_refused(reentrant, nested):
    """Recomputation after the pass would feed noise to the running statistics: refused."""
    model = Checkpointed(use_reentrant=reentrant)
    if nested:
        model.middle[1] = Offloaded()
    convert(model)
    x = images(4)
    with pytest.raises(ModelError, match="Activation checkpointing"):
        two_pass(model, x, x)
    with torch.no_grad(), warnings.catch_warnings():  # nothing is recomputed
        warnings.filterwarnings("ignore", "None of the inputs")
        assert two_pass(model, x, x).shape == (8, 10)


def test_timms_checkpointing_is_refused():
    """A timm model after set_grad_checkpointing is refused in the noise pass, and not before."""
    timm = pytest.importorskip("timm")
    model = convert(timm.create_model("test_resnet", num_classes=10))
    x = images(2, 64)
    assert two_pass(model, x, x).shape == (4, 10)
    model.set_grad_checkpointing()
    with pytest.raises(ModelError, match="Activation checkpointing"):
        two_pass(model, x, x)


def test_hooks_on_saved_tensors_that_do_not_recompute_are_allowed():
    """Other hooks on saved tensors, as for offloading, are no reason to refuse."""
    model = convert(small(Offloaded()))
    assert two_pass(model, images(3), images(2)).shape == (5, 10)


def test_unconverted_batch_norm_is_refused_by_name():
    """A batch norm that was not converted is named; one in eval() is allowed."""
    model = convert(nn.Sequential(small(), nn.Linear(10, 8)))
    model.append(nn.Sequential(*[nn.BatchNorm1d(8) for _ in range(5)]))
    with pytest.raises(ModelError, match=r"2\.0 \(BatchNorm1d\), .* and 2 more") as caught:
        two_pass(model, images(3), images(3))
    assert "convert(model)" in caught.value.hint
    with (
        pytest.raises(ModelError, match=r"the model \(BatchNorm2d\)"),
        noise_pass(nn.BatchNorm2d(3)),
    ):
        pass
    model[2].eval()
    assert two_pass(model, images(3), images(3)).shape == (6, 8)


@pytest.mark.parametrize(
    ("layer", "buffer"),
    [
        (nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)), "1.weight_u"),
        (nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)), "1.parametrizations"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "1.running_mean"),
    ],
)
def test_other_layers_with_state_are_refused_by_name(layer, buffer):
    """A layer that keeps state of its own is found out by the buffer that changed."""
    model = small(copy.deepcopy(layer))
    with pytest.raises(ModelError, match=f"changed the buffer '{buffer}"):
        two_pass(model, images(3), images(3))
    model[1].eval()
    assert two_pass(model, images(3), images(3)).shape == (6, 10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_modules_with_batch_norm_are_refused():
    """What TorchScript compiled cannot be told what noise is, wherever it stands in a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(small())
        traced = torch.jit.trace(small().eval(), images(2))
        harmless = torch.jit.script(nn.ReLU())
    for model in (scripted, traced, nn.Sequential(scripted), nn.Sequential(traced)):
        with pytest.raises(ModelError, match=r"ScriptModule .*\(BatchNorm2d\)"):
            two_pass(model, images(3), images(3))
        with pytest.raises(ModelError, match=r"convert before torch\.jit"):
            convert(model)
    model = convert(small())
    model[2] = harmless
    assert two_pass(model, images(3), images(3)).shape == (6, 10)


def test_noise_pass_inside_no_grad_and_inference_mode():
    """A noise pass without gradients gives the same logits and touches no buffer."""
    model = convert(small())
    x = images(4)
    with noise_pass(model):
        expected = model(x)
    for context in (torch.no_grad, torch.inference_mode):
        with context(), noise_pass(model):
            assert torch.equal(model(x), expected)
    assert not model[1].running_mean.any()


def test_an_exception_in_the_pass_restores_the_layers():
    """After an error inside a noise pass the next forward is natural again."""
    model = convert(small())
    with pytest.raises(KeyError), noise_pass(model):
        raise KeyError
    model(images(3))
    assert int(model[1].num_batches_tracked) == 1


def test_nested_passes():
    """The end of an inner pass does not end the outer one."""
    model = convert(small())
    with noise_pass(model):
        with noise_pass(model[1]):
            model(images(3))
        model(images(3))
    assert int(model[1].num_batches_tracked) == 0
    model(images(3))
    assert int(model[1].num_batches_tracked) == 1


def test_statistics_written_by_functional_batch_norm_are_refused():
    """F.batch_norm writes buffers without counting it as a write; values show it."""

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mu", torch.zeros(3))
            self.register_buffer("va", torch.ones(3))

        def forward(self, x):
            return torch.nn.functional.batch_norm(x, self.mu, self.va, training=self.training)

    model = convert(torch.nn.Sequential(Own(), torch.nn.BatchNorm2d(3)))
    with pytest.raises(ModelError, match=r"'0\.(mu|va)'"), noise_pass(model):
        model(torch.randn(4, 3, 2, 2))


@pytest.mark.parametrize(("n", "ending"), [(1, "0 (BatchNorm1d)."), (3, "2 (BatchNorm1d)."),
                                           (4, "2 (BatchNorm1d) and 1 more.")])  # fmt: skip
def test_at_most_three_plain_layers_are_named(n, ending):
    """Three layers are named, and the others counted, if there are any."""
    with (
        pytest.raises(ModelError) as caught,
        noise_pass(nn.Sequential(*[nn.BatchNorm1d(2) for _ in range(n)])),
    ):
        pass
    assert caught.value.message.endswith(ending)


@pytest.mark.parametrize(("n", "more"), [(1, "'a0': "), (2, "'a0' and 1 more: ")])
def test_buffers_that_changed_are_counted(n, more):
    """One buffer is named, others are counted once each, however their change was noticed."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            for i in range(n):
                self.register_buffer(f"a{i}", torch.zeros(2))

        def forward(self, x):
            for buffer in self.buffers():
                buffer.add_(1)
            return x

    model = Own()
    with pytest.raises(ModelError) as caught, noise_pass(model):
        model(torch.ones(3, 2))
    assert more in caught.value.message


def test_buffers_with_holes_are_equal_to_themselves():
    """A buffer that holds NaN, is missing or was only read has not changed."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.tensor([float("nan"), 1.0]))
            self.register_buffer("absent", None)

        def forward(self, x):
            return x + self.table.nan_to_num()

    def model() -> nn.Module:
        return convert(nn.Sequential(Own(), nn.BatchNorm1d(2)))

    with noise_pass(net := model()):
        assert net[0](torch.zeros(3, 2)).tolist() == [[0, 1]] * 3
    nan = float("nan")
    for wrong in ([nan, 2.0], [nan], [0.0, 1.0], [nan, nan]):
        net = model()
        with pytest.raises(ModelError, match=r"'0\.table'"), noise_pass(net):
            net[0].table.data = torch.tensor(wrong)  # torch does not count this as a write
    with pytest.raises(ModelError, match=r"'0\.table'"), noise_pass(net := model()):
        net[0].table = None


def test_values_are_compared_in_the_first_pass_alone(monkeypatch):
    """Comparing values waits for the device: once per model, again after a layer is swapped in.

    A pass that failed does not count.
    """
    asked = []
    monkeypatch.setattr(BufferWatch, "read", lambda self, values: asked.append(values) or read(
        self, values))  # fmt: skip
    model = convert(small())
    with pytest.raises(KeyError), noise_pass(model):
        raise KeyError
    for _ in range(2):
        with noise_pass(model):
            pass
    model.append(convert(nn.BatchNorm1d(10)))
    for _ in range(2):
        with noise_pass(model):
            pass
    assert asked == [True, True, False, True, False]


def test_a_pass_over_one_model_looks_again_after_a_change():
    """Layers that were added or converted after the first pass are seen in the next."""
    model = convert(small())
    kept = NoisePass(model)
    with kept():
        pass
    model.append(nn.BatchNorm1d(10))
    with pytest.raises(ModelError, match=r"5 \(BatchNorm1d\)"), kept():
        pass
    convert(model)
    with kept():
        model(images(3))
    assert not model[5].running_mean.any()
    assert kept.spans_processes is False
    revert(model)
    with pytest.raises(ModelError, match=r"1 \(BatchNorm2d\)"), kept():
        pass


def test_other_processes_are_waited_for_where_a_layer_is_synchronised(gloo):
    """A pass spans processes as soon as one of its layers does."""
    model = convert(nn.Sequential(nn.BatchNorm1d(3), nn.SyncBatchNorm(3)))
    assert NoisePass(model).spans_processes is True
    assert NoisePass(model[0]).spans_processes is False
    assert NoisePass(model.eval()).spans_processes is False


def test_only_values_of_other_layers_are_copied_and_only_if_asked_for():
    """Copies are of training layers that are not known; versions are of all that train."""
    norm = convert(nn.BatchNorm1d(2))
    model = nn.Sequential(norm, nn.InstanceNorm1d(2, track_running_stats=True))
    model.append(nn.InstanceNorm1d(2, track_running_stats=True).eval())
    watch = BufferWatch(model, [model[0]])
    assert watch.read(values=False).copies == {}
    seen = watch.read(values=True)
    names = ["running_mean", "running_var", "num_batches_tracked"]
    assert list(seen.copies) == [("1", name) for name in names]
    assert list(seen.versions) == [(layer, name) for layer in "01" for name in names]
    watch.refuse_changed(seen)
    with torch.inference_mode():
        model[1].register_buffer("made_here", torch.zeros(1))  # has no version
    assert watch.read(values=True).versions.keys() == seen.versions.keys()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_is_refused_where_torch_does_not_tell_its_hooks(reentrant, monkeypatch):
    """Torch before 2.7 has no look at hooks: the callers are looked at instead."""
    older = SimpleNamespace(**vars(torch) | {"_C": SimpleNamespace(_autograd=object())})
    monkeypatch.setattr(exactness, "torch", older)
    with pytest.raises(ModelError, match="Activation checkpointing"):
        two_pass(convert(Checkpointed(use_reentrant=reentrant)), images(4), images(4))
    model = convert(small(Offloaded()))
    assert two_pass(model, images(3), images(2)).shape == (5, 10)
