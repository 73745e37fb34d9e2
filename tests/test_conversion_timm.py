"""timm's layers: norm and activation in one are converted, forms found by name, others refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from purenoise.conversion import convert, revert
from purenoise.errors import ModelError
from purenoise.passes import noise_pass


class Halve(nn.Module):
    """Stands for dropout between norm and activation, without its randomness."""

    def forward(self, x: Tensor) -> Tensor:
        """Halve."""
        return x / 2


@pytest.mark.parametrize("kind", ["BatchNormAct2d", "SyncBatchNormAct"])
@pytest.mark.parametrize("act", [True, False])
def test_norm_act_layers_of_timm_keep_their_activation(kind, act):
    """A norm of timm with an activation applies it in both passes, and survives copies."""
    layers = pytest.importorskip("timm.layers.norm_act")
    kind = getattr(layers, kind)
    if issubclass(kind, nn.SyncBatchNorm):
        layer = layers.convert_sync_batchnorm(layers.BatchNormAct2d(3, apply_act=act))
    else:
        layer = kind(3, apply_act=act, act_layer=nn.SiLU, drop_layer=Halve)
    assert type(layer) is kind
    nn.init.uniform_(layer.bias)
    attributes = set(vars(layer))
    x = torch.randn(4, 3, 5, 5)
    expected = copy.deepcopy(layer)(x)  # batch statistics of x, then the activation
    convert(layer)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    with noise_pass(layer):
        torch.testing.assert_close(layer(x), expected)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin) is type(layer)
        with noise_pass(twin):
            torch.testing.assert_close(twin(x), expected)
    assert type(revert(layer)) is kind
    assert set(vars(layer)) == attributes
    assert torch.equal(layer(x), expected)


def test_timms_evonorm_is_refused_by_name():
    """EvoNorm keeps a running variance of its own and is refused."""
    layers = pytest.importorskip("timm.layers")
    with pytest.raises(ModelError, match=r"1: timm\.layers\.evo_norm\.EvoNorm2dB0"):
        convert(nn.Sequential(nn.Conv2d(3, 4, 1), layers.EvoNorm2dB0(4)))


def test_forms_of_timms_layers_are_found_by_name_and_others_are_not():
    """The module gives the forms that pickles name, made once, and no other attribute."""
    from purenoise import conversion

    layers = pytest.importorskip("timm.layers.norm_act")
    for name in ("BatchNormAct2d", "SyncBatchNormAct"):
        form = getattr(conversion, f"DAR{name}")
        assert form is getattr(conversion, f"DAR{name}")
        assert issubclass(form, getattr(layers, name))
        assert (form.__name__, form.__module__) == (f"DAR{name}", conversion.__name__)
        assert f"DAR{name}" in form.__doc__
    for name in ("DARBatchNorm9d", "BatchNormAct2d"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(conversion, name)
