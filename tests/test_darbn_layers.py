"""DAR-BN as a layer: state dicts, copies, repr, autocast, processes, and what it refuses."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from purenoise.darbn import (
    DARBatchNorm2d,
    DARSyncBatchNorm,
    check_stop_gradient,
)
from purenoise.errors import ModelError
from purenoise.passes import noise_pass

from .darbncases import LAYERS, PARENTS, STOPS, layer_of


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_state_dicts_are_those_of_the_parents(dims):
    """Keys equal the parent's, and state dicts load both ways."""
    ours, theirs = layer_of(dims), PARENTS[dims](3).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    fresh = LAYERS[dims](3).double()
    fresh.load_state_dict(theirs.state_dict())
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in fresh.state_dict().items())


def test_repr_names_the_gradient_stop():
    """The description is the parent's and the gradient stop."""
    parent = repr(nn.BatchNorm2d(3))
    expected = f"DAR{parent[:-1]}, stop_gradient='affine')"
    assert repr(DARBatchNorm2d(3, stop_gradient="affine")) == expected


@pytest.mark.parametrize("kind", [*LAYERS.values(), DARSyncBatchNorm])
def test_layers_can_be_copied_and_pickled(kind):
    """A deepcopy and a pickled layer keep class, state, gradient stop and training mode."""
    layer = kind(3, stop_gradient="none").eval()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin) is kind
        assert (twin.stop_gradient, twin.training) == ("none", False)
        assert all(torch.equal(v, twin.state_dict()[k]) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stop", STOPS)
def test_autocast_does_not_crash(dtype, stop):
    """Under autocast a convolution feeds half inputs; the passes agree with float32 roughly."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), DARBatchNorm2d(4, stop_gradient=stop))
    natural, noise = torch.randn(4, 3, 6, 6), torch.randn(3, 3, 6, 6)
    with torch.autocast("cpu", dtype):
        a = net(natural)
        with noise_pass(net):
            b = net(noise)
    assert a.dtype == b.dtype == dtype
    torch.cat([a, b]).float().square().mean().backward()
    assert torch.isfinite(net[0].weight.grad).all()
    with noise_pass(net):
        torch.testing.assert_close(b.float(), net(noise), atol=0.05, rtol=0.05)


def test_synchronised_layer_works_in_one_process():
    """DARSyncBatchNorm in one process is DARBatchNorm2d."""
    one, two = DARSyncBatchNorm(3), DARBatchNorm2d(3)
    x, noise = torch.randn(4, 3, 5, 5), torch.randn(2, 3, 5, 5)
    assert torch.equal(one(x), two(x))
    with noise_pass(one), noise_pass(two):
        assert torch.equal(one(noise), two(noise))


def test_masked_steps_refuse_several_processes(monkeypatch):
    """With two processes the masked form of a synchronised layer is refused."""
    layer = DARSyncBatchNorm(3)
    layer.row_kinds = torch.tensor([True, True])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    with pytest.raises(ModelError, match="cannot be synchronised"):
        layer(torch.randn(2, 3, 4, 4))


def test_wrong_shape_is_refused_in_both_passes():
    """An input of the wrong number of axes raises the parent's error in a noise pass too."""
    layer = DARBatchNorm2d(3)
    with pytest.raises(ValueError, match="expected 4D input"), noise_pass(layer):
        layer(torch.randn(4, 3))


def test_unknown_gradient_stop_gets_a_suggestion():
    """A misspelt gradient stop is refused with the nearest name."""
    with pytest.raises(ModelError, match="Did you mean 'affine'"):
        check_stop_gradient("afine")
    with pytest.raises(ModelError, match="stop_gradient='no'"):
        DARBatchNorm2d(3, stop_gradient="no")


def test_masked_steps_of_unsynchronised_layers_ignore_other_processes(monkeypatch):
    """A layer that takes the statistics of its own rows may run in the masked form anywhere."""
    layer, alone = DARBatchNorm2d(3), DARBatchNorm2d(3)
    x = torch.randn(3, 3, 4, 4)
    for each in (layer, alone):
        each.row_kinds = torch.tensor([0, 0, 1])
    expected = alone(x)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    assert torch.equal(layer(x), expected)
