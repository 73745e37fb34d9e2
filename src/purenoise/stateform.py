"""What a state must look like before a run goes on from it.

A state comes from a file that may be a stranger's: its numbers must be possible, its history that
of the epochs it has behind it, and its optimiser that of the network, or the run would fail half
way with words that only a programmer understands. What is kept beside that is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

# What optimisers keep of a parameter. A fused update writes beyond a tensor that is too small.
KEPT = {"SGD": {"momentum_buffer"}, "Adam": {"step", "exp_avg", "exp_avg_sq"}}
KEPT["AdamW"] = KEPT["Adam"]
_ABSENT: Any = None  # a default is not looked at; null is, and refused
Count = Annotated[int, Field(ge=0, le=2**40)]
Number = Annotated[float, Field(allow_inf_nan=False)]
OptionalShare = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1)] | None


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _Groups(_Form):
    many: OptionalShare
    medium: OptionalShare
    few: OptionalShare


class _Scores(_Form):
    accuracy: Number
    balanced_accuracy: Number
    nll: Number
    ece: Number
    groups: _Groups


class _Record(_Form):
    epoch: Count
    phase: Count
    lr: Number
    loss: Number
    accuracy: Number
    seconds: Number
    val: _Scores = _ABSENT
    test: _Scores = _ABSENT


class _History(_Form):
    history: list[_Record]


class _State(_Form):
    epoch: Count
    step: Count
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    meters: dict[str, Number]
    history: list[dict[str, Any]]
    identity: dict[str, Any]


def fault_of_state(content: Mapping[str, Any]) -> str:
    """Return what is wrong with the content of a state's file; empty if nothing is.

    Example:
        >>> fault_of_state({"epoch": -1})
        'epoch: Input should be greater than or equal to 0'
    """
    epoch, history = content.get("epoch"), content.get("history")
    if isinstance(epoch, int) and isinstance(history, list) and len(history) > max(epoch, 0):
        return f"it has records of {len(history):,} epochs, more than {epoch}"
    return _fault(_State, content)


def fault_of_history(history: Any, epochs: int) -> str:
    """Return what is wrong with the records of the epochs that a state has behind it.

    Args:
        history: One record per epoch.
        epochs: How many there are to be.

    Example:
        >>> fault_of_history([], 2)
        'it has records of 0 epochs, not of 2'
    """
    fault = _fault(_History, {"history": history})
    if fault:
        return fault
    numbers = [record["epoch"] for record in history]
    if len(numbers) != epochs or numbers != list(range(epochs)):
        return f"it has records of {len(history)} epochs, not of {epochs}"
    try:
        json.dumps(history)
    except (TypeError, ValueError, RecursionError):
        return "its records hold what is no plain value"
    return ""


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Put a state into an optimiser that was made anew by the same recipe.

    Args:
        optimizer: Of the network.
        state: As ``state_dict`` gave it.

    Raises:
        ValueError: If it is the state of another optimiser or other parameters.
    """
    wanted = [_options(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    if [_options(group) for group in optimizer.param_groups] != wanted:
        raise ValueError("the optimizer has other settings")
    names = KEPT[type(optimizer).__name__]
    for parameter, kept in optimizer.state.items():
        if not isinstance(kept, dict) or kept.keys() != names:
            raise ValueError("the optimizer keeps something else of a parameter")
        for name, value in kept.items():
            shape = torch.Size() if name == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.shape != shape or value.is_sparse:
                raise ValueError(f"{name} of the optimizer does not fit its parameter")
            if not value.is_floating_point() or (value.dtype != parameter.dtype and shape):
                raise ValueError(f"{name} of the optimizer has the type {value.dtype}")


def _options(group: Mapping[str, Any]) -> dict[str, str]:
    """Return the types of the settings: their values are the recipe's, but for the rate."""
    return {key: type(value).__name__ for key, value in group.items() if key != "params"}


def _fault(form: type[BaseModel], content: Mapping[str, Any]) -> str:
    try:
        form.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""
