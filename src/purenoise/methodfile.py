"""Methods as data: a list of phases plus a loss, each in a YAML file of its own.

``A+B`` takes sampler and noise from method A, loss and class weights from method B
(:mod:`purenoise.combining`); where their phases begin at different times, phases are cut at both.
``deferred-A`` is plain training first and A from the deferred phase on. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from purenoise import yamlfile
from purenoise.combining import combine
from purenoise.errors import RecipeError, did_you_mean
from purenoise.headspec import HeadSpec, PostSpec, SpecPart

METHODS = Path(__file__).parent / "recipes" / "methods"

SamplerName = Literal[
    "instance", "class-balanced", "square-root", "effective-number", "progressive"
]
Start = Literal["begin", "defer"]
# What a method may set of a loss; here, because the losses themselves import torch.
LOSS_OPTIONS = {
    "cross-entropy": ("label_smoothing",),
    "focal": ("gamma", "form", "label_smoothing"),
    "ldam": ("max_m", "s", "label_smoothing"),
    "balanced-softmax": ("tau", "label_smoothing"),
    "label-aware-smoothing": ("head", "tail", "shape"),
}
COSINE_LOSSES = ("ldam",)  # their logits are cosines, so the network needs a cosine head
# What a method may set of its mixing, with the defaults; `prob` is of a batch, `skip` is epochs at
# the beginning and at the end of a stretch of mixing in which nothing is mixed.
MIX_OPTIONS: dict[str, dict[str, float]] = {
    "mixup": {"alpha": 1.0, "prob": 1.0, "skip": 0},
    "remix": {"alpha": 1.0, "kappa": 3.0, "tau": 0.5, "prob": 1.0, "skip": 0},
    "cutmix": {"alpha": 1.0, "prob": 0.5, "skip": 0},
    "cmo": {"alpha": 1.0, "prob": 0.5, "skip": 3},
}
_MIX_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "alpha": ("a number above 0", lambda v: 0 < v < float("inf")),
    "kappa": ("a number from 1 on", lambda v: 1 <= v < float("inf")),
    "tau": ("a number from 0 to 1", lambda v: 0 <= v <= 1),
    "prob": ("a number from 0 to 1", lambda v: 0 <= v <= 1),
    "skip": ("a whole number from 0 on", lambda v: v >= 0 and float(v).is_integer()),
}
DEFERRED = "deferred-"


class LossSpec(BaseModel):
    """A loss by name; further keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Literal["cross-entropy", "focal", "ldam", "balanced-softmax", "label-aware-smoothing"] = (
        "cross-entropy"
    )
    prior: Literal["all", "natural"] = "all"

    @model_validator(mode="after")
    def _known_options(self) -> LossSpec:
        allowed = LOSS_OPTIONS[self.name]
        for option in self.options():
            if option not in allowed:
                hint = did_you_mean(option, ("name", "prior", *allowed))
                raise ValueError(f"{option!r} is no option of the loss {self.name!r}. {hint}")
        return self

    def options(self) -> dict[str, Any]:
        """Return the options of the loss itself."""
        return dict(self.model_extra or {})


class MixSpec(BaseModel):
    """Mixing of natural images by name; further keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Literal["mixup", "remix", "cutmix", "cmo"]

    @model_validator(mode="after")
    def _known_options(self) -> MixSpec:
        allowed = MIX_OPTIONS[self.name]
        for option, value in (self.model_extra or {}).items():
            if option not in allowed:
                hint = did_you_mean(option, ("name", *allowed))
                raise ValueError(f"{option!r} is no option of the mixing {self.name!r}. {hint}")
            kind, fits = _MIX_RANGES[option]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and fits(value)):
                raise ValueError(f"{option} of {self.name!r} must be {kind}, got {value!r}")
        return self

    def settings(self) -> dict[str, Any]:
        """Return all options, with the defaults of those that are not set."""
        return {**MIX_OPTIONS[self.name], **(self.model_extra or {})}

    def options(self) -> dict[str, Any]:
        """Return the options of the mixing itself: all but when it takes place."""
        return {k: v for k, v in self.settings().items() if k not in ("prob", "skip")}


class PhaseSpec(SpecPart):
    """A stretch of epochs with one sampler, one weighting, one noise and one mixing setting.

    ``loss`` is the method's unless the phase has its own.
    """

    start: Start = "begin"
    sampler: SamplerName = "instance"
    weights: Literal["none", "effective-number"] = "none"
    noise: Literal["none", "open", "augment"] = "none"
    mix: MixSpec | None = None
    loss: LossSpec | None = None
    head: HeadSpec | None = None


class Method(SpecPart):
    """A loss and phases in order; the first begins at the beginning."""

    loss: LossSpec = LossSpec()
    phases: list[PhaseSpec] = Field(default=[PhaseSpec()], min_length=1, max_length=2)
    post: PostSpec | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Method:
        starts = [phase.start for phase in self.phases]
        if starts not in (["begin"], ["begin", "defer"]):
            raise ValueError(
                f"phases must start at begin, then at defer, got {' and '.join(starts)}"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_head(self) -> Method:
        if len({self.loss_of(phase).name in COSINE_LOSSES for phase in self.phases}) > 1:
            raise ValueError(
                f"{' and '.join(COSINE_LOSSES)} needs a cosine head, which other losses cannot "
                "train: all phases must have it, or none"
            )
        return self

    @property
    def cosine(self) -> bool:
        """Whether the network needs a cosine head."""
        return any(self.loss_of(phase).name in COSINE_LOSSES for phase in self.phases)

    def to_yaml(self) -> str:
        """Return the method as a file of methods has it."""
        return yamlfile.dump(self.model_dump(mode="json"))

    def loss_of(self, phase: PhaseSpec) -> LossSpec:
        """Return the loss that is in force in a phase."""
        return phase.loss or self.loss

    def at(self, start: Start) -> PhaseSpec:
        """Return the phase that is in force from ``start`` on."""
        return self.phases[-1] if start == "defer" else self.phases[0]


def known_methods() -> list[str]:
    """Return the names of the methods that come with the package."""
    return sorted(path.stem for path in METHODS.glob("*.yaml"))


def method_text(name: str) -> str | None:
    """Return the file of a method, or what ``A+B`` and ``deferred-A`` are put together to.

    Raises:
        RecipeError: If the parts are methods and cannot be put together.
    """
    if name in known_methods():
        return (METHODS / f"{name}.yaml").read_text(encoding="utf-8")
    if not all(part.removeprefix(DEFERRED) in known_methods() for part in method_names(name)):
        return None
    return f"# {name}, put together from its parts\n{load_method(name).to_yaml()}"


def method_names(text: str) -> list[str]:
    """Split ``A+B``."""
    return [part.strip() for part in text.split("+")]


@cache
def load_method(name: str) -> Method:
    """Return the method of that name, ``deferred-`` one, or the combination ``A+B``.

    Raises:
        RecipeError: If a name is unknown, more than two are combined, two do not go together, or
            what is to be deferred cannot be.

    Example:
        >>> load_method("open+ldam").loss.name, load_method("open+ldam").phases[1].noise
        ('ldam', 'open')
        >>> [(p.start, p.mix and p.mix.name) for p in load_method("deferred-mixup").phases]
        [('begin', None), ('defer', 'mixup')]
    """
    names = method_names(name)
    if len(names) > 2:
        raise RecipeError(f"Method {name!r} combines {len(names)} methods; two can be combined.")
    if not all(names):
        raise RecipeError(f"Method {name!r} lacks a name.", "A+B combines two methods.")
    methods = [_named(part) for part in names]
    return methods[0] if len(methods) == 1 else combine(name, *methods)


def _named(name: str) -> Method:
    """Return a method, or one that is deferred."""
    known = known_methods()
    if name in known:
        return _read(name)
    base = name.removeprefix(DEFERRED)
    if name.startswith(DEFERRED) and base in known:
        return _defer(base)
    near = did_you_mean(name, [*known, *(DEFERRED + n for n in known if not _why_not_deferred(n))])
    hint = near if near.startswith("Did") else did_you_mean(name, known)
    raise RecipeError(
        f"Method {name!r} is not known.",
        f"{hint} A+B combines two; {DEFERRED}A is plain training first, then A.",
    )


def _read(name: str) -> Method:
    path = METHODS / f"{name}.yaml"
    try:
        return Method.model_validate(yamlfile.load(path))
    except ValidationError as error:
        raise RecipeError(f"{path}: {error}") from error


def _defer(name: str) -> Method:
    """Plain training first; sampler, noise, weights, mixing and loss of a method from then on."""
    reason = _why_not_deferred(name)
    if reason:
        raise RecipeError(f"There is no {DEFERRED}{name}: {reason}.", f"Use method={name}.")
    method, plain = _read(name), LossSpec()
    (phase,) = method.phases
    loss = method.loss_of(phase)
    later = phase.model_copy(update={"start": "defer", "loss": None if loss == plain else loss})
    phases = [PhaseSpec(), later]
    if later == PhaseSpec(start="defer"):  # what only changes the trained network
        phases = phases[:1]
    return method.model_copy(update={"loss": plain, "phases": phases})


def _why_not_deferred(name: str) -> str | None:
    """Say why a method cannot be deferred, or None."""
    method = _read(name)
    if method == Method():
        return f"{name!r} is plain training from the beginning to the end"
    if len(method.phases) > 1:
        return f"{name!r} begins with a phase of its own"
    if method.cosine:
        return (
            f"its loss {method.loss_of(method.phases[0]).name!r} needs a cosine head, which plain "
            "training before it cannot train"
        )
    return None
