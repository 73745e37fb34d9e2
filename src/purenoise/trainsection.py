"""The sections of a recipe about network, augmentation, optimiser, speed and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from purenoise.datasection import Part, PlaceOrNone
from purenoise.names import check_model, check_policy


class Augment(Part):
    """What is done to training images."""

    policy: Annotated[str, AfterValidator(check_policy)] = "none"
    flip: bool | None = None


class Model(Part):
    """The network."""

    name: Annotated[str, AfterValidator(check_model)] = "resnet32"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    pretrained: bool = False
    weights: PlaceOrNone = Field(default=None, description="a file of weights, or a run's folder")
    train: Literal["full", "last-block", "head"] = "full"  # what learns; the rest is frozen

    @model_validator(mode="after")
    def _one_beginning(self) -> Model:
        if self.pretrained and self.weights is not None:
            raise ValueError("pretrained and weights are two beginnings: give one of them")
        return self


class Train(Part):
    """Optimiser and schedule."""

    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=2e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    warmup: int | None = Field(default=None, ge=0)
    save_seconds: float = Field(default=30.0, ge=0)  # between states; 0: after every step


Switch = bool | Literal["auto", "force"]


class Speed(Part):
    """What may be faster on some devices; it changes rounding and nothing else."""

    step: Literal["auto", "two-pass", "masked"] = "auto"  # form of the steps with noise
    channels_last: Switch = Field(default="auto", description="true, false, auto or force")
    bf16: Switch = Field(default="auto", description="true, false, auto or force")
    compile: Switch = Field(default="auto", description="true, false, auto or force")
    resident: Switch = Field(default="auto", description="true, false, auto or force")


class Eval(Part):
    """When the test images are looked at (the last epoch always)."""

    every: int = Field(default=1, ge=1)
