"""What every key of a recipe means, in one line, with the values that the schema allows.

The values, bounds and defaults come from the schema. The meanings stand here, as descriptions in
the schema are what messages say of a value; a key without one here takes its description, and a
test holds that each has one of the two. Imports no torch.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from purenoise.faults import keys
from purenoise.methodfile import PhaseSpec
from purenoise.recipe import Recipe

MEANINGS: dict[str, str] = {
    "name": "of the recipe; its runs lie in a folder of that name",
    "data.name": "which images; `data=NAME`, `data=FOLDER` and the like set it",
    "data.root": "folder or file where they lie",
    "data.train_list": "list of training images, lines `path label`",
    "data.val_list": "list of validation images",
    "data.test_list": "list of test images",
    "data.decode": "listed images: before training, or when training asks for them",
    "data.image_column": "column of images in a Hugging Face set",
    "data.label_column": "column of labels in a Hugging Face set",
    "data.sha256": "of arrays that were given in Python; set by itself",
    "data.download": "whether missing files are fetched: CIFAR unless false, torchvision if true",
    "data.imbalance.type": "how a balanced set is made long-tailed: exponential, or in one step",
    "data.imbalance.ratio": "imbalance ratio: largest class / smallest class",
    "data.imbalance.subset": "which images are kept: `ldam`, `first`, `random`, a file of indices",
    "data.imbalance.seed": "of the subset",
    "data.imbalance.imb_factor": "1 / ratio, as LDAM-DRW writes it",
    "data.val_fraction": "share of each class that is set aside for validation",
    "data.test_fraction": "share of each class that is set aside where there are no test images",
    "data.split_seed": "of both",
    "data.image_size": "to which images are brought",
    "data.channels": "grey or colour",
    "data.normalize": "customary constants, those of the training images, or `{mean: [], std: []}`",
    "data.memory_mib": "memory that decoded images may take, in MiB",
    "data.cache": "where decoded images are kept: `auto`, `off`, a folder",
    "data.cache_mib": "room on disk for all of them together, in MiB",
    "augment.policy": "steps done to training images; `augment=NAME` sets it",
    "augment.flip": "mirroring; as the data set allows unless it is set",
    "model.name": "of ours, `torchvision:NAME` or `timm:NAME`; `model=NAME` sets it",
    "model.dropout": "in networks that have some",
    "model.pretrained": "whether published weights are where training begins",
    "model.weights": "a file of weights, or a run's folder, where training begins",
    "model.train": "what learns; the rest is frozen",
    "method": "a method, `A+B`, `deferred-A`, or one written out",
    "options.tau": "strength of a prior, or of tau-norm",
    "options.target": "class shares to adjust logits to: `uniform`, `train`, `test`, numbers",
    "options.gamma": "of focal loss",
    "options.label_smoothing": "share of each label that is spread over all classes",
    "options.max_m": "largest margin of LDAM",
    "options.s": "scale of LDAM's logits",
    "options.head": "label smoothing of the largest class",
    "options.tail": "label smoothing of the smallest class",
    "options.alpha": "of mixing: lambda is drawn from Beta(alpha, alpha)",
    "options.kappa": "of remix: ratio of counts from which on labels are not mixed",
    "options.prob": "probability that a batch is mixed",
    "options.skip": "epochs without mixing, at both ends",
    "options.head_decay": "weight decay of a second stage",
    "options.max_norm": "bound on each class's weight vector in a second stage",
    "delta": "noise share of a vanishing class",
    "stop_gradient": "where gradients of noise rows stop: all, only of gamma and beta, nowhere",
    "noise.kind": "what stands in for noise; `noise=KIND` sets it",
    "noise.source": "folder of images for `images`, or `photographs`",
    "noise.space": "before normalisation, or after it as the reproduction does",
    "noise.clip": "whether noise is clipped to [0, 1]",
    "batch_norm": "DAR-BN, one for all rows, or a second one for noise",
    "defer": "share of the run after which the deferred phase begins",
    "train.epochs": "length of the run",
    "train.batch_size": "rows of a step, of all processes together",
    "train.optimizer": "how weights are updated",
    "train.lr": "learning rate after warm-up",
    "train.momentum": "of SGD",
    "train.nesterov": "of SGD",
    "train.weight_decay": "on every parameter",
    "train.schedule": "x0.01 at 80 % and at 90 %, a cosine to 0, or neither",
    "train.warmup": "epochs of linear warm-up; min(5, epochs // 10) unless it is set",
    "train.save_seconds": "seconds between states from which a run goes on; 0: after every step",
    "eval.every": "epochs between looks at the test images; the last epoch always",
    "speed.step": "form of steps with noise",
    "speed.channels_last": "memory format",
    "speed.bf16": "bfloat16 autocast",
    "speed.compile": "torch.compile",
    "speed.resident": "all training images on the device",
    "seed": "of every random number but subset and split",
    "device": "`auto`, `cpu`, `cuda`, `cuda:N`, `mps`",
    "threads": "of torch on the CPU; part of a run's identity",
    "precision": "of weights and images",
    "deterministic": "the same bits on a GPU too, where torch can; slower",
    "out": "folder in which runs lie",
}
PHASE_MEANINGS: dict[str, str] = {
    "start": "when the phase begins: with the run, or at `defer`",
    "sampler": "which images an epoch draws",
    "weights": "of the classes, in the loss",
    "noise": "replaces drawn images (OPeN), or is added to them (balanced data)",
    "mix": "mixing of natural images: `{name: mixup, alpha: 1.0}`",
    "loss": "of this phase alone; the method's unless it is set",
    "head": "a second stage: `{learn: head, reset: true, schedule: own}`",
}


@dataclass(frozen=True)
class Key:
    """A key of recipes.

    Args:
        name: With dots.
        short: The shortest form that means it.
        values: What it may be.
        default: As one types it; empty for none.
        meaning: In a few words.
    """

    name: str
    short: str
    values: str
    default: str
    meaning: str


def key_table() -> list[Key]:
    """Return every key of recipes that holds a value, in the order of the schema.

    Example:
        >>> next(k for k in key_table() if k.name == "train.epochs").short
        'epochs'
    """
    known = keys(Recipe)
    return [_key(name, field, MEANINGS, _short(name, known)) for name, field in _fields(Recipe)]


def phase_table() -> list[Key]:
    """Return every key of a method's phase, in the order of the schema."""
    return [_key(name, field, PHASE_MEANINGS, name) for name, field in _fields(PhaseSpec)]


def _key(name: str, field: FieldInfo | None, meanings: Mapping[str, str], short: str) -> Key:
    described = (field.description if field else None) or ""
    return Key(name, short, _values(field), _default(field), meanings.get(name, described))


def _fields(part: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo | None]]:
    for name, field in part.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field
    for name in getattr(part, "also", ()):  # other words for a key, which the schema translates
        yield prefix + name, None


def _short(name: str, known: list[str]) -> str:
    """The shortest end of a key that no other key shares."""
    last = name.rpartition(".")[2]
    alone = last not in known and sum(key.endswith(f".{last}") for key in known) == 1
    return last if alone else name


def _values(field: FieldInfo | None) -> str:
    if field is None:
        return "number above 0, at most 1"
    bounds = "".join(_bounds(field.metadata))
    kinds = list(dict.fromkeys(_kinds(field.annotation, bounds)))
    words_only = all(kind.startswith("`") for kind in kinds)
    return (", " if words_only else " or ").join(kinds)


def _kinds(kind: Any, bounds: str = "") -> Iterator[str]:
    """Yield the kinds of value that an annotation allows, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        own = [m for one in inner[1:] for m in getattr(one, "metadata", [one])]
        yield from _kinds(inner[0], bounds or "".join(_bounds(own)))
    elif origin in (Union, types.UnionType):
        for one in inner:
            yield from _kinds(one, bounds)
    elif origin is Literal:
        yield ", ".join(f"`{value}`" for value in inner)
    elif origin in (list, tuple):
        yield "list"
    elif origin is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        yield "keys and values"
    elif kind is not type(None):
        plain = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
        yield plain[kind] + (bounds if kind in (int, float) else "")


def _bounds(metadata: list[Any]) -> Iterator[str]:
    ends = {kind: next((getattr(m, kind.__name__.lower()) for m in metadata
                        if isinstance(m, kind)), None) for kind in (Ge, Gt, Le, Lt)}  # fmt: skip
    said = {Ge: "from {} on", Gt: "above {}", Le: "at most {}", Lt: "below {}"}
    words = [said[kind].format(_number(end)) for kind, end in ends.items() if end is not None]
    if words:
        yield " " + ", ".join(words)


def _number(value: float) -> str:
    return "2^32" if value == 2**32 else f"{value:g}"


def _default(field: FieldInfo | None) -> str:
    value = None if field is None else field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return "1/3" if value == 1 / 3 else f"{value:g}" if isinstance(value, float) else str(value)
