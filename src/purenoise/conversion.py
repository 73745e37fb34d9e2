"""Turn the batch norms of any model into DAR-BN, in place, and back.

A layer is converted by giving the object another class. Nothing is rebuilt, so shared modules,
``.training``, dtype, device, ``requires_grad``, hooks, parametrisations and state-dict keys stay
as they are; rebuilding is how other converters lose the activation in timm's ``BatchNormAct2d``.
Only exact, known types are converted. A subclass may do anything in its ``forward``, so an unknown
one is refused by name.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.darbn import (
    ROUTING,
    DARBatchNorm1d,
    DARBatchNorm2d,
    DARBatchNorm3d,
    DARSyncBatchNorm,
    NoiseRouting,
    StopGradient,
    check_stop_gradient,
)
from purenoise.errors import ModelError

_PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: DARBatchNorm1d,
    nn.BatchNorm2d: DARBatchNorm2d,
    nn.BatchNorm3d: DARBatchNorm3d,
    nn.SyncBatchNorm: DARSyncBatchNorm,
}
# Norm and activation in one layer: normalise, then .drop, then .act (timm).
_NORM_ACT = {
    ("timm.layers.norm_act", "BatchNormAct2d"),
    ("timm.layers.norm_act", "SyncBatchNormAct"),
}
# Layers with running statistics that never change.
_FROZEN = {"FrozenBatchNorm2d", "FrozenBatchNormAct2d"}


def convert(
    model: nn.Module, stop_gradient: StopGradient = "branch", *, synchronise: bool | None = None
) -> Any:
    """Turn every batch norm in ``model`` into its DAR-BN form, in place.

    Until :func:`purenoise.noise_pass` is used the model computes bit for bit what it did before.
    A model that is converted already only takes the new ``stop_gradient``.

    Args:
        model: Any module. Known layers: ``BatchNorm1d/2d/3d``, ``SyncBatchNorm``, and timm's
            ``BatchNormAct2d`` and ``SyncBatchNormAct``.
        stop_gradient: ``branch``, ``affine`` or ``none``, see :mod:`purenoise.darbn`.
        synchronise: Whether statistics are taken over the rows of all processes of
            ``torch.distributed``, see :mod:`purenoise.syncnorm`; None: for ``SyncBatchNorm`` only.

    Returns:
        ``model`` itself.

    Raises:
        ModelError: If a layer keeps running statistics in a way we do not know (all such layers
            are named; nothing is changed then).

    Warns:
        UserWarning: If there is no batch norm in the model (ViT, ConvNeXt, Swin: layer norm). It
            trains with noise all the same, without DAR-BN: noise rows are rows like any other.

    Example:
        >>> model = convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
        >>> type(model[1]).__name__
        'DARBatchNorm2d'
    """
    if not dar_layers(route(model, stop_gradient, synchronise=synchronise)):
        warnings.warn(
            f"{type(model).__name__} has no batch norm, so there was nothing to convert: it learns "
            "from noise without DAR-BN, as from any image.",
            stacklevel=2,
        )
    return model


def route(
    model: nn.Module, stop_gradient: StopGradient = "branch", *, synchronise: bool | None = None
) -> Any:
    """Do what :func:`convert` does, without a word if there is nothing to convert."""
    check_stop_gradient(stop_gradient)
    refuse_unknown(model)
    layer: Any
    for layer in model.modules():
        form = _dar_form(type(layer))
        if form is not None:
            layer.__class__ = form
            layer.stop_gradient = stop_gradient
            if synchronise is not None:
                layer.synchronised = synchronise
    return model


def refuse_unknown(model: nn.Module) -> None:
    """Refuse a model in which a layer keeps running statistics in a way that is not known.

    Raises:
        ModelError: Naming all such layers.
    """
    unknown = [
        f"{name or 'the model'}: {_why_unknown(module)}"
        for name, module in model.named_modules()
        if _keeps_statistics(module) and _dar_form(type(module)) is None
    ]
    if unknown:
        raise ModelError(
            "Cannot convert layers that are not known: " + "; ".join(unknown) + ".",
            "Replace them by torch's BatchNorm, or by a norm without running statistics.",
        )


def revert(model: nn.Module) -> Any:
    """Turn every DAR-BN layer in ``model`` back into the plain batch norm it extends, in place.

    Args:
        model: Any module.

    Returns:
        ``model`` itself, with the same state dict.

    Example:
        >>> type(revert(convert(nn.BatchNorm2d(8)))).__name__
        'BatchNorm2d'
    """
    for layer in model.modules():
        if isinstance(layer, NoiseRouting):
            known = [base for base in type(layer).__mro__ if _dar_form(base) is not None]
            plain: Any = next(base for base in known if not issubclass(base, NoiseRouting))
            layer.__class__ = plain
            for name in ROUTING:
                layer.__dict__.pop(name, None)
    return model


def dar_layers(model: nn.Module) -> int:
    """Return the number of DAR-BN layers in ``model`` (a shared layer counts once)."""
    return sum(isinstance(module, NoiseRouting) for module in model.modules())


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether the layer is a batch norm, or keeps running statistics that training changes."""
    if type(module).__name__ in _FROZEN:
        return False
    own = dict(module.named_buffers(recurse=False))
    return isinstance(module, _BatchNorm) or not own.keys().isdisjoint(
        {"running_mean", "running_var"}
    )


def _why_unknown(module: nn.Module) -> str:
    kind = type(module)
    if isinstance(module, nn.modules.lazy.LazyModuleMixin):
        return f"{kind.__name__} has no shape yet, run the model once first"
    if hasattr(module, "original_name"):  # what TorchScript made of a layer
        return f"{module.original_name} in a ScriptModule, convert before torch.jit"
    return f"{kind.__module__}.{kind.__qualname__}"


def _dar_form(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The DAR-BN form of exactly this class, or None."""
    if issubclass(kind, NoiseRouting):
        return kind
    if kind in _PLAIN:
        return _PLAIN[kind]
    if (kind.__module__, kind.__name__) in _NORM_ACT:
        return _norm_act_form(kind)  # type: ignore[arg-type]
    return None


@cache
def _norm_act_form(kind: type[nn.Module]) -> type[nn.Module]:
    """Make the DAR-BN form of a layer that applies ``drop`` and ``act`` after normalising."""

    def after_norm(self: Any, x: Tensor) -> Tensor:
        return self.act(self.drop(x) if hasattr(self, "drop") else x)

    name = f"DAR{kind.__name__}"
    members = {"after_norm": after_norm, "__module__": __name__, "__doc__": f"DAR-BN {name}."}
    return type(name, (NoiseRouting, kind), members)


def __getattr__(name: str) -> Any:
    """Find the forms of timm's layers by name, so that converted models can be pickled."""
    for module, kind in _NORM_ACT:
        if name == f"DAR{kind}":
            import importlib

            return _norm_act_form(getattr(importlib.import_module(module), kind))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
