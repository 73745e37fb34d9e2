"""The two-pass step against the mixed batch of the paper's listing, as a function and a module."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from purenoise.conversion import convert
from purenoise.darbn import DARBatchNorm2d, NoiseRouting
from purenoise.errors import ModelError
from purenoise.models import build_model
from purenoise.passes import noise_pass
from purenoise.twopass import TwoPass, logits_of, two_pass

from .reference import images, mixed_batch, small


class PreActivation(nn.Module):
    """A small pre-activation net with parameters after its last batch norm and on its skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.bn1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, 2, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(12), nn.Conv2d(12, 12, 3, 1, 1)
        self.skip = nn.Conv2d(8, 12, 1, 2)
        self.hidden, self.head = nn.Linear(12, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.stem(x)
        x = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x)))))) + self.skip(x)
        return self.head(torch.tanh(self.hidden(x.mean((2, 3)))))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet32": partial(build_model, "resnet32", 10),
    "wide_resnet16_2": partial(build_model, "wide_resnet16_2", 10),
    "torchvision-resnet18": partial(torchvision.models.resnet18, num_classes=10),
    "pre-activation": PreActivation,
}
LOSSES: dict[str, Callable[..., Tensor]] = {
    "plain": F.cross_entropy,
    "weighted": partial(F.cross_entropy, weight=torch.linspace(0.2, 3, 10).double()),
    "smoothed": partial(F.cross_entropy, label_smoothing=0.1),
}


def prepare(name: str, stop: str) -> nn.Module:
    """Build a converted float64 model whose affine parameters are not the initial 1 and 0."""
    model = convert(MODELS[name](), stop).double()
    for layer in model.modules():
        if isinstance(layer, NoiseRouting):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return model


def differences(name: str, loss: str, stop: str, mixed: Callable[..., Tensor]) -> list[float]:
    """Return how far a mixed and a two-pass step differ: loss, gradients, running statistics.

    Gradients in units of the model's largest one.
    """
    model = prepare(name, stop)
    twin = copy.deepcopy(model)
    natural, noise = images(8, 32).double(), images(5, 32, 1).double() * 0.7 + 0.4
    labels = torch.arange(13) % 10
    losses = [
        LOSSES[loss](two_pass(model, natural, noise), labels),
        LOSSES[loss](mixed(twin, natural, noise), labels),
    ]
    for value in losses:
        value.backward()
    pairs = list(zip(model.parameters(), twin.parameters(), strict=True))
    assert all(p.grad is not None and q.grad is not None for p, q in pairs)
    largest = max(q.grad.abs().max() for _, q in pairs)
    gradient = max((p.grad - q.grad).abs().max() / largest for p, q in pairs)
    buffers = zip(model.buffers(), twin.buffers(), strict=True)
    statistics = max((a - b).abs().max() for a, b in buffers)
    return [abs(losses[0].item() - losses[1].item()), gradient.item(), statistics.item()]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_mixed_batch(name, loss):
    """Loss, every gradient and the running statistics are those of the paper's mixed batch."""
    assert max(differences(name, loss, "branch", mixed_batch)) < 1e-10


@pytest.mark.parametrize("stop", ["affine", "none"])
@pytest.mark.parametrize("name", MODELS)
def test_other_gradient_stops_equal_their_mixed_batch(name, stop):
    """The readings in which noise trains the convolutions equal their own mixed batch."""
    assert max(differences(name, "plain", stop, mixed_batch)) < 1e-10


def test_the_comparison_can_fail():
    """Plain batch norm on the mixed batch, and another gradient stop, are told apart."""

    def plain(model: nn.Module, natural: Tensor, noise: Tensor) -> Tensor:
        return model(torch.cat([natural, noise]))

    assert min(differences("resnet32", "plain", "branch", plain)) > 1e-4

    def none(model: nn.Module, natural: Tensor, noise: Tensor) -> Tensor:
        return mixed_batch(convert(model, "none"), natural, noise)

    loss, gradient, statistics = differences("resnet32", "plain", "branch", none)
    assert loss < 1e-10
    assert statistics < 1e-10
    assert gradient > 1e-2


def test_under_branch_noise_reaches_only_what_follows_the_last_batch_norm():
    """With stop_gradient=branch the noise logits teach the head and the skip, nothing else."""
    model = convert(PreActivation())
    with noise_pass(model):
        model(images(4, 32)).square().sum().backward()
    taught = {name for name, p in model.named_parameters() if p.grad is not None}
    assert taught == {f"{layer}.{kind}" for layer in ("stem", "conv2", "skip", "hidden", "head")
                      for kind in ("weight", "bias")}  # fmt: skip


def test_without_noise_rows_it_is_the_model_bit_for_bit():
    """None and 0 noise rows give the very bits of model(natural), and the same statistics."""
    model = convert(MODELS["resnet32"]())
    plain = MODELS["resnet32"]()
    plain.load_state_dict(model.state_dict())
    x = images(4, 32)
    expected = plain(x)
    assert torch.equal(two_pass(copy.deepcopy(model), x), expected)
    assert torch.equal(two_pass(model, x, x[:0]), expected)
    assert len(two_pass(MODELS["resnet32"](), x, x[:0])) == 4  # no noise, no need to convert
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_noise_alone_gives_zero_gradients_and_weight_decay(name):
    """All rows noise: gradients are zero, not None, and SGD still decays the weights."""
    model = convert(MODELS[name]())
    first = next(p for n, p in model.named_parameters() if n != "stem.weight" and "bn1" in n)
    before = first.detach().clone()
    statistics = [b.clone() for b in model.buffers() if b.is_floating_point()]
    noise = images(4, 32)
    logits = two_pass(model, noise[:0], noise)
    assert logits.shape == (4, 10)
    F.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not first.grad.any()
    torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(first.detach(), before * 0.95)
    after = [b for b in model.buffers() if b.is_floating_point()]
    assert all(torch.equal(a, b) for a, b in zip(after, statistics, strict=True))


class Reshape(nn.Module):
    """Flattens in a way that fails on 0 rows."""

    def forward(self, x: Tensor) -> Tensor:
        """Return rows."""
        return x.view(len(x), -1)


def test_a_model_that_cannot_run_on_no_rows_gets_a_sentence():
    """A batch of noise alone names the cause if the model cannot run on 0 rows."""
    model = convert(nn.Sequential(nn.BatchNorm2d(3), Reshape()))
    x = images(2)
    assert two_pass(model, x, x).shape == (4, 108)
    with pytest.raises(ModelError, match="cannot run on 0 rows") as caught:
        two_pass(model, x[:0], x)
    assert "torch.flatten" in caught.value.hint
    with pytest.raises(RuntimeError, match="mat1 and mat2") as other:
        two_pass(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), x, x)
    assert not isinstance(other.value, ModelError)


Output = namedtuple("Output", ["logits", "aux_logits"])
T = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        T,
        {"logits": T},
        SimpleNamespace(logits=T),
        Output(T, None),
        {"logits": T, "aux": None, 3: 1},
    ],
)
def test_logits_are_found(output):
    """A tensor, a dict, an object and a named tuple with logits are understood."""
    assert logits_of(output) is T


class Computed:
    """An output whose logits are no attribute of its own, as with slots."""

    __slots__ = ()

    @property
    def logits(self) -> torch.Tensor:
        """Return the logits."""
        return T


def test_computed_logits_are_found():
    """Logits behind a property are logits."""
    assert logits_of(Computed()) is T


def test_a_step_without_noise_is_the_model():
    """Both forms may be called with natural images alone."""
    model, x = convert(small()), images(4)
    expected = copy.deepcopy(model)(x)
    assert torch.equal(TwoPass(copy.deepcopy(model))(x), expected)
    assert torch.equal(two_pass(model, x), expected)


def test_auxiliary_and_missing_logits_are_refused():
    """Auxiliary logits are not dropped in silence, and what has no logits is refused."""
    for output in (Output(T, T), {"logits": T, "aux": T}, SimpleNamespace(logits=T, aux_logits=T)):
        with pytest.raises(ModelError, match="auxiliary logits"):
            logits_of(output)
    for output in ((T, T), {"out": T}, None, {"logits": 3}, []):
        with pytest.raises(ModelError, match="no logits were found"):
            logits_of(output)


def test_call_says_how_to_run_the_model():
    """With call= any output can be used, through the function and the module."""
    model = convert(small())
    x = images(3)
    call = lambda net, x: (net(x), "more")[0] * 2  # noqa: E731
    expected = 2 * two_pass(copy.deepcopy(model), x, x)
    assert torch.equal(two_pass(copy.deepcopy(model), x, x, call), expected)
    assert torch.equal(TwoPass(model, call)(x, x), expected)


def test_a_step_whose_model_was_exchanged_runs_the_new_one():
    """A model that is put in place of another is the one that both passes go through."""
    step, other = TwoPass(convert(small())), convert(small())
    natural, noise = images(4), images(3)
    step(natural, noise)
    step.model = other
    assert torch.equal(step(natural, noise), two_pass(copy.deepcopy(other), natural, noise))
    assert int(other[1].num_batches_tracked) == 1


def test_distributed_model_is_refused_and_two_pass_in_it_works(gloo):
    """DDP(model) is refused by name, also as a part; DDP(TwoPass(model)) steps as TwoPass does."""
    model = convert(small())
    twin = copy.deepcopy(model)
    wrapped = nn.parallel.DistributedDataParallel(TwoPass(model))
    natural, noise = images(5), images(2, seed=1)
    for n in (5, 0):  # also a process without natural rows
        logits = wrapped(natural[:n], noise)
        expected = two_pass(twin, natural[:n], noise)
        assert torch.equal(logits, expected)
        logits.square().mean().backward()
        expected.square().mean().backward()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), twin.buffers(), strict=True))
    bare = nn.parallel.DistributedDataParallel(convert(small()))
    for net in (bare, nn.Sequential(bare)):
        with pytest.raises(ModelError, match="DistributedDataParallel") as caught:
            two_pass(net, natural, noise)
        assert "TwoPass(model)" in caught.value.hint


def test_eval_mode_runs_without_noise_statistics():
    """In eval() both passes use running statistics, so the order of rows is all that is done."""
    model = convert(small()).eval()
    x, noise = images(3), images(2, seed=1)
    torch.testing.assert_close(two_pass(model, x, noise), model(torch.cat([x, noise])))


def test_a_model_without_batch_norm_is_allowed():
    """A net with group norm sees natural and noise rows alike."""
    model = small(nn.GroupNorm(2, 4))
    x, noise = images(3), images(2, seed=1)
    torch.testing.assert_close(two_pass(model, x, noise), model(torch.cat([x, noise])))


def test_compiled_step_is_one_graph_and_does_not_recompile_for_ever():
    """torch.compile of TwoPass gives one graph, the same step, and few recompilations.

    Before torch 2.8 Dynamo breaks the graph at a context manager; the step is the same.
    """
    from torch._dynamo.testing import CompileCounterWithBackend

    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    one_graph = version >= (2, 8)
    model = convert(small()).double()
    twin = copy.deepcopy(model)
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(TwoPass(model), backend=counter, fullgraph=one_graph)
    for natural, noise in [(6, 2), (5, 3), (6, 2), (7, 4), (4, 4), (9, 2), (8, 5), (3, 9), (8, 0)]:
        x, y = images(natural).double(), images(noise, seed=1).double()
        logits, expected = compiled(x, y), two_pass(twin, x, y)
        torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
        logits.square().sum().backward()
        expected.square().sum().backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model[1].running_var, twin[1].running_var)
    assert counter.frame_count <= (4 if one_graph else 12)


def test_layers_of_our_own_need_no_conversion():
    """A net built with DARBatchNorm2d is ready for a noise pass as it stands."""
    assert two_pass(small(DARBatchNorm2d(4)), images(3), images(2)).shape == (5, 10)


def test_only_a_single_row_is_told_as_one():
    """What fails for another reason, or with more rows, keeps its own words."""
    folded = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, -1)), convert(nn.BatchNorm1d(8)))
    with pytest.raises(ValueError, match="more than 1 value"):
        two_pass(folded, torch.randn(2, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        two_pass(nn.Linear(3, 2), torch.randn(1, 4))
