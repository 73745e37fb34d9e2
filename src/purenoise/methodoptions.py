"""Options of a method that a recipe may change, whatever part of the method holds them.

A method is a loss, phases with mixing and stages of the head, and an adjustment at last. An option
is set in every part that knows it: ``tau`` of ``logit-adjustment`` is that of its adjustment, of
``balanced-softmax`` that of its loss. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from purenoise.datasection import Part
from purenoise.errors import RecipeError
from purenoise.headspec import HeadSpec, PostSpec, SpecPart
from purenoise.methodfile import LOSS_OPTIONS, MIX_OPTIONS, LossSpec, Method, MixSpec, PhaseSpec

Spec = TypeVar("Spec", bound=BaseModel)

_HEAD = {"head_decay": "weight_decay", "max_norm": "max_norm"}


class MethodOptions(SpecPart, Part):
    """Options of the method in place of its own; what is not given is left as the method has it."""

    tau: float | None = Field(default=None, ge=0, description="strength of a prior, or of tau-norm")
    target: str | list[float] | dict[str, float] | None = Field(
        default=None, description="prior to adjust logits to: uniform, train, test, shares, a file"
    )
    prior: Literal["all", "natural"] | None = Field(
        default=None, description="rows whose class shares balanced softmax assumes"
    )
    gamma: float | None = Field(default=None, ge=0, description="of focal loss")
    form: Literal["standard", "ldam-drw"] | None = Field(default=None, description="of focal loss")
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    max_m: float | None = Field(default=None, gt=0, description="largest margin of LDAM")
    s: float | None = Field(default=None, gt=0, description="scale of LDAM's logits")
    head: float | None = Field(default=None, ge=0, lt=1, description="smoothing of large classes")
    tail: float | None = Field(default=None, ge=0, lt=1, description="smoothing of small classes")
    shape: Literal["concave", "linear", "convex"] | None = Field(
        default=None, description="of label-aware smoothing between the two"
    )
    alpha: float | None = Field(default=None, gt=0, description="of mixup, CutMix, CMO: Beta")
    kappa: float | None = Field(default=None, ge=1, description="of remix: ratio of counts")
    prob: float | None = Field(default=None, ge=0, le=1, description="of mixing a batch")
    skip: int | None = Field(default=None, ge=0, description="epochs without mixing, at both ends")
    head_decay: float | None = Field(default=None, ge=0, description="weight decay of a stage")
    max_norm: float | None = Field(default=None, gt=0, description="of each class's weights")

    def given(self) -> dict[str, Any]:
        """Return the options that are set."""
        return {key: value for key, value in self if value is not None}


def with_options(method: Method, options: MethodOptions, name: str = "this method") -> Method:
    """Return a method with options in place of its own.

    Args:
        method: As its file or the recipe has it.
        options: What to change.
        name: What to call the method in a message.

    Raises:
        RecipeError: If no part of the method has an option, two parts have it, or a value does not
            fit there.

    Example:
        >>> from purenoise.methodfile import load_method
        >>> with_options(load_method("tau-norm"), MethodOptions(tau=0.5)).post.tau
        0.5
    """
    given = options.given()
    if not given:
        return method
    known = options_of(method)
    idle = [key for key in given if key not in known]
    if idle:
        has = f"Its options are {', '.join(sorted(known))}." if known else "It has none."
        raise RecipeError(f"{name} has no option {' and no option '.join(idle)}.", has)
    for key in given:
        if len(owners := _owners(method, key)) > 1:
            raise RecipeError(
                f"{name} has {key} in {len(owners)} parts: {' and '.join(owners)}.",
                "To set it in one of them, write the method out in a recipe, under method.",
            )
    try:
        return _changed(method, given)
    except ValidationError as error:
        text = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise RecipeError(f"An option does not fit {name}: {text}.") from error


def options_of(method: Method) -> dict[str, Any]:
    """Return the options that a method has, with their values; None where a default holds.

    Example:
        >>> from purenoise.methodfile import load_method
        >>> sorted(options_of(load_method("mixup")))
        ['alpha', 'label_smoothing', 'prob', 'skip']
    """
    found: dict[str, Any] = {}
    for loss in (method.loss, *(phase.loss for phase in method.phases)):
        if loss is not None:
            found |= {key: getattr(loss, key, None) for key in _loss_keys(loss)}
    for phase in method.phases:
        if phase.mix is not None:
            found |= phase.mix.settings()
        if phase.head is not None:
            found |= {key: getattr(phase.head, _HEAD[key]) for key in _head_keys(phase.head)}
    if method.post is not None:
        found["tau"] = method.post.tau
        if method.post.name == "logit-adjustment":
            found["target"] = method.post.target or "uniform"
    return {key: value for key, value in found.items() if key in MethodOptions.model_fields}


def _owners(method: Method, key: str) -> list[str]:
    """Name the parts of a method that have an option."""
    found = []
    for phase in method.phases:
        loss = method.loss_of(phase)
        if key in _loss_keys(loss):
            found.append("the loss")
        if phase.mix is not None and key in MIX_OPTIONS[phase.mix.name]:
            found.append(f"the mixing {phase.mix.name!r}")
        if phase.head is not None and key in _head_keys(phase.head):
            found.append("the training of the head")
    if method.post is not None and key in _post_keys(method.post):
        found.append(f"the adjustment {method.post.name!r}")
    return list(dict.fromkeys(found))


def _loss_keys(loss: LossSpec) -> tuple[str, ...]:
    """The options of a loss; only one looks at a prior."""
    prior = ("prior",) if loss.name == "balanced-softmax" else ()
    return (*LOSS_OPTIONS[loss.name], *prior)


def _post_keys(post: PostSpec) -> tuple[str, ...]:
    return ("tau", "target") if post.name == "logit-adjustment" else ("tau",)


def _changed(method: Method, given: Mapping[str, Any]) -> Method:
    phases = [_phase(phase, given) for phase in method.phases]
    post = method.post
    if post is not None:
        post = _remade(post, {k: given[k] for k in _post_keys(post) if k in given})
    return Method(loss=_loss(method.loss, given), phases=phases, post=post)


def _phase(phase: PhaseSpec, given: Mapping[str, Any]) -> PhaseSpec:
    changes: dict[str, Any] = {}
    if phase.loss is not None:
        changes["loss"] = _loss(phase.loss, given)
    if phase.mix is not None:
        changes["mix"] = _mix(phase.mix, given)
    if phase.head is not None:
        inner = {_HEAD[key]: given[key] for key in _head_keys(phase.head) if key in given}
        changes["head"] = _remade(phase.head, inner)
    return phase.model_copy(update=changes)


def _head_keys(head: HeadSpec) -> tuple[str, ...]:
    """The options of a stage that its phase may have; factors on vectors leave no bound on them."""
    if head.learn == "all" and head.max_norm is None:  # weight balancing bounds its second stage
        return ("head_decay",)
    return ("head_decay",) if head.learn == "scale" else ("head_decay", "max_norm")


def _loss(loss: LossSpec, given: Mapping[str, Any]) -> LossSpec:
    return _remade(loss, {k: given[k] for k in _loss_keys(loss) if k in given})


def _mix(mix: MixSpec, given: Mapping[str, Any]) -> MixSpec:
    return _remade(mix, {k: given[k] for k in MIX_OPTIONS[mix.name] if k in given})


def _remade(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """Return a part with changes, checked as a whole; itself without any."""
    if not changes:
        return spec
    return type(spec).model_validate(spec.model_dump(exclude_unset=True) | dict(changes))
