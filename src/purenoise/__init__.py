"""purenoise: image classification on imbalanced data with OPeN and DAR-BN.

The names below load on first use, so that ``import purenoise`` and ``purenoise --help`` do not
wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "convert": "conversion",
    "revert": "conversion",
    "noise_pass": "passes",
    "DARBatchNorm1d": "darbn",
    "DARBatchNorm2d": "darbn",
    "DARBatchNorm3d": "darbn",
    "DARSyncBatchNorm": "darbn",
    "dar_batch_norm": "darbn",
    "two_pass": "twopass",
    "TwoPass": "twopass",
    "PureNoise": "inloop",
    "NoiseAugment": "inloop",
    "pixel_statistics": "noise",
    "ClassBalancedSampler": "samplers",
    "InstanceSampler": "samplers",
    "SquareRootSampler": "samplers",
    "EffectiveNumberSampler": "samplers",
    "ProgressiveSampler": "samplers",
    "DeferredSampler": "deferred",
    "CrossEntropyLoss": "losses",
    "FocalLoss": "losses",
    "LDAMLoss": "losses",
    "LogitAdjustedLoss": "losses",
    "evaluate_logits": "metrics",
    "imbalanced_counts": "longtail",
    "long_tail_subset": "longtail",
    "ImbalancedCIFAR10": "data.imbalanced_cifar",
    "ImbalancedCIFAR100": "data.imbalanced_cifar",
    "ArrayData": "data.arrays",
    "train": "experiment",
    "compare": "lab.running",
    "adjust_run": "posthoc.running",
    "OPeNClassifier": "estimator",
    "export_run": "export.running",
    "PureNoiseError": "errors",
}

__all__ = [  # noqa: RUF022 - in the order of first use
    "convert",
    "revert",
    "noise_pass",
    "DARBatchNorm1d",
    "DARBatchNorm2d",
    "DARBatchNorm3d",
    "DARSyncBatchNorm",
    "dar_batch_norm",
    "two_pass",
    "TwoPass",
    "PureNoise",
    "NoiseAugment",
    "pixel_statistics",
    "ClassBalancedSampler",
    "InstanceSampler",
    "SquareRootSampler",
    "EffectiveNumberSampler",
    "ProgressiveSampler",
    "DeferredSampler",
    "CrossEntropyLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "evaluate_logits",
    "imbalanced_counts",
    "long_tail_subset",
    "ImbalancedCIFAR10",
    "ImbalancedCIFAR100",
    "ArrayData",
    "train",
    "compare",
    "adjust_run",
    "OPeNClassifier",
    "export_run",
    "PureNoiseError",
    "__version__",
]

if TYPE_CHECKING:
    from purenoise.conversion import convert, revert
    from purenoise.darbn import (
        DARBatchNorm1d,
        DARBatchNorm2d,
        DARBatchNorm3d,
        DARSyncBatchNorm,
        dar_batch_norm,
    )
    from purenoise.data.arrays import ArrayData
    from purenoise.data.imbalanced_cifar import ImbalancedCIFAR10, ImbalancedCIFAR100
    from purenoise.deferred import DeferredSampler
    from purenoise.errors import PureNoiseError
    from purenoise.estimator import OPeNClassifier
    from purenoise.experiment import train
    from purenoise.export.running import export_run
    from purenoise.inloop import NoiseAugment, PureNoise
    from purenoise.lab.running import compare
    from purenoise.longtail import imbalanced_counts, long_tail_subset
    from purenoise.losses import CrossEntropyLoss, FocalLoss, LDAMLoss, LogitAdjustedLoss
    from purenoise.metrics import evaluate_logits
    from purenoise.noise import pixel_statistics
    from purenoise.passes import noise_pass
    from purenoise.posthoc.running import adjust_run
    from purenoise.samplers import (
        ClassBalancedSampler,
        EffectiveNumberSampler,
        InstanceSampler,
        ProgressiveSampler,
        SquareRootSampler,
    )
    from purenoise.twopass import TwoPass, two_pass


def __getattr__(name: str) -> Any:
    """Load a public name from the module that holds it."""
    if name not in _HOME:
        raise AttributeError(f"module 'purenoise' has no attribute {name!r}")
    # No submodule may bear a public name: importing it would put the module in its place.
    value = getattr(import_module(f"purenoise.{_HOME[name]}"), name)
    globals()[name] = value
    return value
