"""Results of ``purenoise adjust`` as what they are: a run's recipe with another last layer.

They lie in ``RUN/adjusted/NAME``; a comparison takes each as a variant of its run's method, such as
``erm:offsets``, seed by seed. Imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

NAME = "adjusted"
Share = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1)]


class _Prior(BaseModel):
    name: str
    shares: list[Share]


class _How(BaseModel):
    method: str = Field(pattern=r"^[a-z-]+$")
    tau: float | None
    prior: _Prior
    fitted: dict[str, Any] | None = None
    before: dict[str, Any]


class _Base(BaseModel):
    command: str


class _Summary(BaseModel):
    adjusted: _How
    base: _Base


def is_adjusted(path: Path) -> bool:
    """Say whether a folder lies where adjusted results of a run do."""
    there = path.absolute()
    return there.parent.name == NAME and (there.parent.parent / "recipe.yaml").is_file()


def run_of(path: Path) -> Path:
    """Return the folder of the run that an adjusted result is of."""
    return path.absolute().parent.parent


def adjusted_inside(folder: Path) -> list[Path]:
    """Return the adjusted results in a folder at any depth, in order."""
    if is_adjusted(folder):
        return [folder] if (folder / "summary.json").exists() else []
    inside = folder.absolute().name == NAME
    found = folder.glob("*/summary.json") if inside else folder.rglob(f"{NAME}/*/summary.json")
    return sorted(path.parent for path in found if is_adjusted(path.parent))


def fault_of_adjusted(summary: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    """Return why an adjusted result cannot be used; empty if it can.

    Args:
        summary: Of the result.
        base: Of its run; None if that is not finished.
    """
    try:
        how = _Summary.model_validate(dict(summary)).adjusted
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"its summary.json is damaged: {place}: {first['msg']}"
    if base is None:
        return "its run is not finished"
    test = base.get("test") or {}
    if how.before.get("confusion") != test.get("confusion"):
        return "its run was trained again since: adjust it again"
    return ""


def label_of_adjusted(summary: Mapping[str, Any]) -> str:
    """Name an adjustment by its method and what is not its default.

    Example:
        >>> prior = {"name": "train", "shares": [0.9, 0.1]}
        >>> how = {"method": "logit-adjustment", "tau": 0.5, "prior": prior, "before": {}}
        >>> label_of_adjusted({"adjusted": how})
        'logit-adjustment:tau=0.5:prior=train'
    """
    how = _How.model_validate(summary["adjusted"])
    parts = [how.method]
    if how.tau not in (None, 1.0):
        parts.append(f"tau={how.tau:g}")
    if how.method != "tau-norm" and how.prior.name != "uniform":
        parts.append(f"prior={_prior(how.prior)}")
    l2 = (how.fitted or {}).get("l2", 1.0)
    if isinstance(l2, int | float) and l2 != 1.0:
        parts.append(f"l2={l2:g}")
    return ":".join(parts)


def _prior(prior: _Prior) -> str:
    """The word that was given, the shares if they are few, else what tells them apart."""
    if prior.name in ("train", "test"):
        return prior.name
    if len(prior.shares) <= 4:
        return "/".join(f"{share:.3g}" for share in prior.shares)
    return hashlib.sha256(repr(prior.shares).encode()).hexdigest()[:6]
