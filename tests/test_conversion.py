"""Converting models in place and back: what changes, and everything that must not."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from purenoise.auxbn import fit_batch_norm
from purenoise.conversion import convert, dar_layers, revert, route
from purenoise.darbn import (
    DARBatchNorm1d,
    DARBatchNorm2d,
    DARBatchNorm3d,
    DARSyncBatchNorm,
    NoiseRouting,
)
from purenoise.errors import ModelError
from purenoise.passes import noise_pass
from purenoise.twopass import TwoPass, two_pass

PAIRS = [
    (nn.BatchNorm1d, DARBatchNorm1d),
    (nn.BatchNorm2d, DARBatchNorm2d),
    (nn.BatchNorm3d, DARBatchNorm3d),
    (nn.SyncBatchNorm, DARSyncBatchNorm),
]


class Doubled(nn.BatchNorm2d):
    """A subclass that does something of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and double."""
        return 2 * super().forward(x)


class Evo(nn.Module):
    """A norm of another make with a running variance, as timm's EvoNorm has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_var", torch.ones(3))


def net() -> nn.Sequential:
    """Build a small net with two batch norms."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5),
        nn.BatchNorm1d(5),
    )  # fmt: skip


@pytest.mark.parametrize(("plain", "form"), PAIRS)
def test_known_types_become_their_form_and_return(plain, form):
    """Exactly the known classes are converted, also as the root, and revert restores them."""
    layer = plain(3, eps=1e-3, momentum=0.3)
    attributes = set(vars(layer))
    assert convert(layer) is layer
    assert type(layer) is form
    assert (layer.eps, layer.momentum) == (1e-3, 0.3)
    with noise_pass(layer):
        pass
    assert revert(layer) is layer
    assert type(layer) is plain
    assert set(vars(layer)) == attributes


def test_other_layers_are_left_alone():
    """Norms without running statistics and frozen ones keep their class, and others too."""
    model = nn.Sequential(
        nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.InstanceNorm2d(3), FrozenBatchNorm2d(3)
    )  # fmt: skip
    kinds = [type(m) for m in model]
    with pytest.warns(UserWarning, match="Sequential has no batch norm, so there was nothing"):
        assert convert(model) is model
    assert [type(m) for m in model] == kinds
    assert dar_layers(model) == 0


def test_only_what_has_no_batch_norm_is_warned_of():
    """One batch norm is enough, converted before or now; the recipe's way says it in its notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(convert(nn.Sequential(nn.LayerNorm(3), nn.BatchNorm1d(3))))
        fit_batch_norm(nn.LayerNorm(3), "dar")


def test_synchronised_layers_train_in_one_process():
    """A model with SyncBatchNorm takes OPeN steps on a CPU like one with plain batch norm."""
    torch.manual_seed(0)
    plain = net().double()
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    kinds = [type(m) for m in synchronised.modules()]
    rows = torch.rand(9, 3, 6, 6, dtype=torch.float64)
    for model in (plain, synchronised):
        step = TwoPass(convert(model))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            step(rows[:6], rows[6:]).square().sum().backward()
            optimizer.step()
        revert(model)
    assert dar_layers(synchronised) == 0
    assert [type(m) for m in synchronised.modules()] == kinds
    assert kinds.count(nn.SyncBatchNorm) == 2
    ours, theirs = synchronised.state_dict(), plain.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(synchronised.eval()(rows), plain.eval()(rows))


def test_shared_layers_are_converted_once():
    """A layer that stands twice in a model stays one object and counts once."""
    layer = nn.BatchNorm2d(4)
    model = convert(nn.Sequential(layer, nn.ReLU(), layer))
    assert model[0] is layer is model[2]
    assert dar_layers(model) == 1


def test_state_and_flags_are_kept():
    """Training flags, dtypes, requires_grad, keys and the very parameters are what they were."""
    model = net()
    model[1].eval().half()
    model[5].weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parameters, buffers = list(model.parameters()), list(model.buffers())
    for change in (convert, revert):
        change(model)
        assert [m.training for m in model] == [True, False, True, True, True, True]
        assert model[1].weight.dtype == torch.float16
        assert not model[5].weight.requires_grad
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert all(a is b for a, b in zip(model.buffers(), buffers, strict=True))


def test_a_model_on_the_meta_device_stays_there():
    """Conversion allocates nothing: a model on the meta device stays on it."""
    with torch.device("meta"):
        model = net()
    assert {p.device.type for p in convert(model).parameters()} == {"meta"}
    assert dar_layers(model) == 2


def test_hooks_are_kept():
    """Forward and backward hooks that were set before run after conversion, also for noise."""
    model = net()
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append("forward"))
    model[1].register_full_backward_hook(lambda *_: calls.append("backward"))
    convert(model, "none")
    x = torch.randn(3, 3, 6, 6)
    two_pass(model, x, x).sum().backward()
    assert sorted(calls) == ["backward", "backward", "forward", "forward"]


def test_outside_a_noise_pass_the_bits_are_the_same():
    """Training and evaluation of a converted model give the very bits of the plain one."""
    model = net()
    twin = convert(copy.deepcopy(model))
    x = torch.randn(4, 3, 6, 6)
    for mode in (True, False):
        assert torch.equal(model.train(mode)(x), twin.train(mode)(x))
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in model.state_dict().items())


def test_synchronised_batch_norm_runs_in_one_process():
    """A model after convert_sync_batchnorm converts and steps in a single process."""
    model = convert(nn.SyncBatchNorm.convert_sync_batchnorm(net()))
    assert [type(model[i]) for i in (1, 5)] == [DARSyncBatchNorm] * 2
    x = torch.randn(3, 3, 6, 6)
    assert two_pass(model, x, x).shape == (6, 5)


def test_lazy_layers_are_refused_until_they_have_a_shape():
    """A lazy batch norm is refused with the hint to run the model once, then converted."""
    model = nn.Sequential(nn.LazyBatchNorm2d())
    with pytest.raises(
        ModelError, match=r"0: LazyBatchNorm2d has no shape yet, run the model once"
    ):
        convert(model)
    model(torch.randn(2, 3, 4, 4))
    assert type(convert(model)[0]) is DARBatchNorm2d


def test_unknown_layers_are_all_named_and_nothing_is_changed():
    """Every unknown layer with running statistics is named, and the model stays as it was."""
    model = nn.Sequential(net(), Doubled(3), Evo(), nn.InstanceNorm1d(3, track_running_stats=True))
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(ModelError) as caught:
        convert(model)
    text = str(caught.value)
    assert "1: " in text
    assert "Doubled; 2: " in text
    assert "Evo; 3: " in text
    assert "InstanceNorm1d" in text
    assert "Replace them" in caught.value.hint
    assert [type(m) for m in model.modules()] == kinds
    with pytest.raises(ModelError, match=r"the model: .*Doubled"):
        convert(Doubled(3))


def test_parametrised_batch_norm_is_refused():
    """A batch norm with a parametrisation has another class, and is refused, not broken."""
    layer = nn.BatchNorm2d(3)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())
    with pytest.raises(ModelError, match="ParametrizedBatchNorm2d"):
        convert(nn.Sequential(layer))


def test_parametrisations_of_other_layers_are_kept():
    """A weight norm on a convolution survives conversion."""
    model = net()
    nn.utils.parametrizations.weight_norm(model[0])
    keys = list(model.state_dict())
    assert list(convert(model).state_dict()) == keys


def test_converting_twice_changes_only_the_gradient_stop():
    """A second conversion gives all layers the new gradient stop and does nothing else."""
    model = convert(net())
    kinds = [type(m) for m in model.modules()]
    convert(model, "affine")
    assert [type(m) for m in model.modules()] == kinds
    assert {m.stop_gradient for m in model.modules() if isinstance(m, NoiseRouting)} == {"affine"}
    with pytest.raises(ModelError, match="'brunch'"):
        convert(model, "brunch")
    assert model[1].stop_gradient == "affine"


def test_a_half_converted_model_is_completed():
    """Layers that were swapped in after conversion are converted by the next call."""
    model = convert(net(), "none")
    model[1] = nn.BatchNorm2d(4)
    convert(model)
    assert [type(model[i]) for i in (1, 5)] == [DARBatchNorm2d, DARBatchNorm1d]
    assert model[5].stop_gradient == "branch"


def test_revert_of_layers_that_were_built_as_ours():
    """A DAR-BN layer of the user's own, and a subclass of it, revert to what they extend."""

    class Mine(DARBatchNorm2d):
        """A subclass of ours."""

    model = revert(nn.Sequential(DARBatchNorm2d(3, stop_gradient="none"), Mine(3)))
    assert [type(m) for m in model] == [nn.BatchNorm2d] * 2
    assert not any("stop_gradient" in vars(m) for m in model)
    assert [type(m) for m in revert(model)] == [nn.BatchNorm2d] * 2


def test_an_optimizer_from_before_conversion_still_trains():
    """Parameters are the same objects, so an optimizer that was built before goes on."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    convert(model)
    before = [p.detach().clone() for p in model.parameters()]
    x = torch.randn(4, 3, 6, 6)
    two_pass(model, x, x).square().sum().backward()
    optimizer.step()
    moved = [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
    names = [name for name, _ in model.named_parameters()]
    # Biases in front of a batch norm have no gradient but rounding errors.
    assert all(m for m, name in zip(moved, names, strict=True) if name not in ("0.bias", "4.bias"))


def test_converted_models_can_be_copied_and_pickled():
    """A deepcopy and a pickle of a converted model give the same noise pass."""
    model = convert(net(), "affine")
    x = torch.randn(3, 3, 6, 6)
    with noise_pass(model):
        expected = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with noise_pass(twin):
            assert torch.equal(twin(x), expected)
        assert twin[1].stop_gradient == "affine"


def test_the_warning_names_the_line_that_converts():
    """A model without batch norm is warned of at the caller's line."""
    with pytest.warns(UserWarning, match="nothing to convert") as caught:
        convert(nn.Linear(2, 2))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(("given", "expected"), [(None, (False, True)), (True, (True, True)),
                                                 (False, (False, False))])  # fmt: skip
def test_synchronise_is_given_to_every_layer(given, expected):
    """None leaves layers as their class has it; True and False are for all, also a second time."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.SyncBatchNorm(3))
    for start in (model, convert(copy.deepcopy(model))):
        converted = convert(start, synchronise=given)
        assert tuple(layer.synchronised for layer in converted) == expected
    assert route(nn.SyncBatchNorm(3)).synchronised is True
    revert(model)
    assert not any("synchronised" in vars(layer) for layer in model)
    assert [type(layer) for layer in model] == [nn.BatchNorm1d, nn.SyncBatchNorm]


def test_layers_are_told_apart_by_their_buffers():
    """Either running statistic alone makes an unknown layer; other buffers do not."""
    for name, known in (("running_mean", False), ("running_var", False), ("table", True)):
        layer = nn.Linear(3, 3)
        layer.register_buffer(name, torch.zeros(3))
        model = nn.Sequential(nn.BatchNorm1d(3), layer)
        if known:
            assert dar_layers(convert(model)) == 1
            continue
        with pytest.raises(ModelError, match=r"1: torch\.nn\.modules\.linear\.Linear\."):
            convert(model)
        assert dar_layers(model) == 0
    with pytest.raises(ModelError, match="the model: "):
        convert(Evo())
