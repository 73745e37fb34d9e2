"""What a method may say of the last layer: how a phase trains it, and what is done to it at last.

A second stage trains the head of a network whose features are finished, or goes on with other
weight decay. Source: Kang et al. 2020 (cRT, LWS); Alshammari et al. 2022 (weight balancing).
Imports no torch.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


class SpecPart(BaseModel):
    """A part of a method: frozen, without keys of other names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not there, so that a new optional key changes no older hash."""
        fields = type(self).model_fields
        content = handler(self).items()
        return {k: v for k, v in content if not (v is None and fields[k].default is None)}


class HeadSpec(BaseModel):
    """How a phase trains the network; phases in a row with the same one are one stage.

    A stage begins with a new optimiser: what an earlier one had gathered is dropped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # `head`: only the last layer; batch norms keep their statistics. `scale`: one factor per class.
    learn: Literal["all", "head", "scale"] = "all"
    reset: bool = False  # draw the last layer anew
    weight_decay: float | None = Field(default=None, ge=0)  # in place of the recipe's
    max_norm: float | None = Field(default=None, gt=0)  # of the weight vector of each class
    # `relative`: max_norm lies between the shortest (0) and the longest (1) at the stage's begin.
    max_norm_is: Literal["absolute", "relative"] = "absolute"
    # `own`: a cosine from train.lr to 0 within the stage, and the recipe's schedule before it ends
    # where the stage begins. `run`: the recipe's schedule over all epochs.
    schedule: Literal["run", "own"] = "run"

    @model_validator(mode="after")
    def _fits_together(self) -> HeadSpec:
        if self.learn == "scale" and (self.reset or self.max_norm is not None):
            raise ValueError(
                "learn: scale keeps the weight vectors that are there, so reset and max_norm "
                "have no meaning with it"
            )
        if self.max_norm is None and self.max_norm_is != "absolute":
            raise ValueError("max_norm_is has a meaning only with max_norm")
        if self.max_norm_is == "relative" and self.max_norm is not None and self.max_norm > 1:
            raise ValueError(f"a relative max_norm is at most 1, got {self.max_norm:g}")
        return self


class PostSpec(SpecPart):
    """What is done to the trained network before it is evaluated and saved."""

    name: Literal["logit-adjustment", "tau-norm"]
    tau: float = Field(default=1.0, ge=0)
    # Of logit adjustment: what is taken out. `train`: shares of the training images; `sampled`:
    # shares of the rows that the last phase sees.
    prior: Literal["train", "sampled"] = "train"
    # What is put in: the shares that are expected; None: all classes alike. See posthoc.priors.
    target: str | list[float] | dict[str, float] | None = None

    @model_validator(mode="after")
    def _prior_is_used(self) -> PostSpec:
        if self.name == "tau-norm" and (self.prior != "train" or self.target is not None):
            raise ValueError("tau-norm uses no prior: leave prior and target out")
        return self
