"""Methods as data: a list of phases plus a loss, each in a YAML file of its own.

``A+B`` takes sampler and noise from method A, loss and class weights from method B; where their
phases begin at different times, the phases are cut at both. Imports no torch.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from purenoise import yamlfile
from purenoise.errors import RecipeError, did_you_mean

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
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossSpec(BaseModel):
    """A loss by name; further keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Literal["cross-entropy", "focal", "ldam", "balanced-softmax"] = "cross-entropy"
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


class PhaseSpec(_Part):
    """A stretch of epochs with one sampler, one weighting and one noise setting."""

    start: Start = "begin"
    sampler: SamplerName = "instance"
    weights: Literal["none", "effective-number"] = "none"
    noise: Literal["none", "open", "augment"] = "none"


class Method(_Part):
    """A loss and phases in order; the first begins at the beginning."""

    loss: LossSpec = LossSpec()
    phases: list[PhaseSpec] = Field(default=[PhaseSpec()], min_length=1, max_length=2)

    @model_validator(mode="after")
    def _in_order(self) -> Method:
        starts = [phase.start for phase in self.phases]
        if starts not in (["begin"], ["begin", "defer"]):
            raise ValueError(
                f"phases must start at begin, then at defer, got {' and '.join(starts)}"
            )
        return self

    def at(self, start: Start) -> PhaseSpec:
        """Return the phase that is in force from ``start`` on."""
        return self.phases[-1] if start == "defer" else self.phases[0]


def known_methods() -> list[str]:
    """Return the names of the methods that come with the package."""
    return sorted(path.stem for path in METHODS.glob("*.yaml"))


def method_names(text: str) -> list[str]:
    """Split ``A+B``."""
    return [part.strip() for part in text.split("+")]


@cache
def load_method(name: str) -> Method:
    """Return the method of that name, or the combination ``A+B``.

    Raises:
        RecipeError: If a name is unknown, or more than two are combined.

    Example:
        >>> load_method("open+ldam").loss.name, load_method("open+ldam").phases[1].noise
        ('ldam', 'open')
    """
    names = method_names(name)
    if len(names) > 2:
        raise RecipeError(f"Method {name!r} combines {len(names)} methods; two can be combined.")
    for part in names:
        if not part:
            raise RecipeError(f"Method {name!r} lacks a name.", "A+B combines two methods.")
        if part not in known_methods():
            hint = did_you_mean(part, known_methods())
            raise RecipeError(f"Method {part!r} is not known.", f"{hint} A+B combines two.")
    methods = [_read(part) for part in names]
    return methods[0] if len(methods) == 1 else _combine(*methods)


def _read(name: str) -> Method:
    path = METHODS / f"{name}.yaml"
    try:
        return Method.model_validate(yamlfile.load(path))
    except ValidationError as error:
        raise RecipeError(f"{path}: {error}") from error


def _combine(a: Method, b: Method) -> Method:
    """Sampler and noise of ``a``, loss and class weights of ``b``."""
    starts: list[Start] = ["begin"]
    if len(a.phases) + len(b.phases) > 2:
        starts.append("defer")
    phases = [
        a.at(start).model_copy(update={"start": start, "weights": b.at(start).weights})
        for start in starts
    ]
    return Method(loss=b.loss, phases=phases)
