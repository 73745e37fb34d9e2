"""Recipes: one YAML file says all that an experiment is.

A recipe is read from the package, from a file or from a run folder, changed by ``key=value``
overrides, checked as a whole (every fault is reported at once) and then frozen. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from purenoise import yamlfile
from purenoise.datasection import Data, Part, Place, Share, Side
from purenoise.errors import RecipeError, did_you_mean
from purenoise.faults import keys, sentences
from purenoise.methodfile import Method, known_methods, load_method, method_names
from purenoise.methodoptions import MethodOptions, with_options
from purenoise.names import DATA_SETS, KNOWN_DATA, TORCHVISION
from purenoise.noisesection import Noise
from purenoise.overrides import (
    PLACE_KEYS,
    apply_overrides,
    data_section,
    parse_overrides,
    python_overrides,
    whole_keys,
)
from purenoise.trainsection import Augment, Eval, Model, Speed, Train

RECIPES = Path(__file__).parent / "recipes"
LATER_KEYS = (
    "noise",
    "batch_norm",
    "options",
    "deterministic",
)  # are hashed only where they are set
LATER_DATA_KEYS = ("decode", *PLACE_KEYS)


MethodOrName = Annotated[
    Annotated[str, Tag("name")] | Annotated[Method, Tag("written")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "written"),
]


class Recipe(Part):
    """An experiment."""

    name: str = "recipe"
    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    method: MethodOrName = Field(
        default="open", description="a method's name, A+B, or keys and values (loss, phases)"
    )
    options: MethodOptions = MethodOptions()
    delta: Share = Field(default=1 / 3, ge=0, le=1)
    stop_gradient: Literal["branch", "affine", "none"] = "branch"
    noise: Noise = Noise()
    batch_norm: Literal["dar", "shared", "auxiliary"] = "dar"  # for steps with noise
    defer: Share = Field(default=0.8, ge=0, le=1)
    train: Train = Train()
    eval: Eval = Eval()
    speed: Speed = Speed()
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: str = "auto"
    threads: Side | Literal["auto"] = Field(
        default="auto", description="a whole number from 1 on, or auto"
    )
    precision: Literal["float32", "float64"] = "float32"
    deterministic: bool = False
    out: Place = "runs"

    @field_validator("augment", mode="before")
    @classmethod
    def _policy(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @field_validator("noise", mode="before")
    @classmethod
    def _noise_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("model", mode="before")
    @classmethod
    def _model_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("data", mode="before")
    @classmethod
    def _data_name(cls, value: Any) -> Any:
        return data_section(value) if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _folder(cls, value: str) -> str:
        """The name becomes a folder's, and must not lead out of ``out``."""
        if not value.strip(" .") or set(value) & set('/\\:*?"<>|') or not value.isprintable():
            raise ValueError(f"must do as the name of a folder, got {value!r}")
        return value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        kind, colon, index = value.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps"):
            raise ValueError(f"must be auto, cpu, cuda, cuda:N or mps, got {value!r}")
        if colon and not (kind == "cuda" and index.isdecimal()):
            raise ValueError(f"only cuda takes a number, as in cuda:0, got {value!r}")
        return value

    @field_validator("method")
    @classmethod
    def _method(cls, value: str | Method) -> str | Method:
        if isinstance(value, str):
            value = "+".join(method_names(value))
            load_method(value)
        return value

    @model_validator(mode="after")
    def _options_fit(self) -> Recipe:
        """Refuse options that the method does not have."""
        self.resolved_method()
        return self

    @model_validator(mode="after")
    def _batch_norm_fits(self) -> Recipe:
        """Refuse what only DAR-BN has."""
        if self.batch_norm == "dar":
            return self
        if self.stop_gradient != "branch":
            raise ValueError(
                f"stop_gradient has a meaning only with batch_norm=dar, and batch_norm is "
                f"{self.batch_norm}, where gradients flow everywhere"
            )
        if self.speed.step == "masked" or self.speed.compile in (True, "force"):
            raise ValueError(
                f"speed.step=masked and speed.compile go with batch_norm=dar only, and batch_norm "
                f"is {self.batch_norm}"
            )
        return self

    def resolved_method(self) -> Method:
        """Return the phases and the loss that ``method`` stands for, with ``options``."""
        method = load_method(self.method) if isinstance(self.method, str) else self.method
        name = f"Method {self.method!r}" if isinstance(self.method, str) else "This method"
        return with_options(method, self.options, name)

    def method_name(self) -> str:
        """Return the method's name; one written out in the recipe is ``custom-`` and a hash."""
        if isinstance(self.method, str):
            return self.method
        return f"custom-{_digest(self.method.model_dump(mode='json'))[:8]}"

    def digest(self, *, with_method: bool = True) -> str:
        """Return the SHA-256 of all that changes the result.

        Args:
            with_method: False leaves out method and seed, which have folders of their own.
        """
        content = self.content()
        if not with_method:
            del content["method"], content["seed"]
        return _digest(content)

    def content(self) -> dict[str, Any]:
        """Return all that changes the result, as plain values; the method written out."""
        idle = {
            "name": True, "out": True, "device": True, "train": {"save_seconds"},
            "speed": {"resident"}, "data": {"memory_mib", "cache", "cache_mib", "download"},
        }  # fmt: skip
        content = self.model_dump(mode="json", exclude=idle)  # type: ignore[arg-type]
        content["method"] = self.resolved_method().model_dump(mode="json")
        for key in LATER_KEYS:  # so that runs from before there were such keys keep their folders
            if getattr(self, key) == type(self).model_fields[key].default:
                del content[key]
        for key in ("weights", "train"):  # likewise
            if getattr(self.model, key) == Model.model_fields[key].default:
                del content["model"][key]
        for key in LATER_DATA_KEYS:
            if getattr(self.data, key) == Data.model_fields[key].default:
                del content["data"][key]
        if self.data.name in ("cifar10", "cifar100"):  # MD5 sums are checked: any place will do
            del content["data"]["root"]
        return content

    def to_yaml(self) -> str:
        """Return the whole recipe as YAML that loads to the same recipe."""
        return yamlfile.dump(self.model_dump(mode="json"))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """Return where a recipe lies: one of the package's, a YAML file, or a run folder.

    Raises:
        RecipeError: If there is none.
    """
    if name in recipe_names():
        return RECIPES / f"{name}.yaml"
    path = Path(name)  # may be no path at all: os.path asks without an error
    if os.path.isfile(path / "recipe.yaml"):
        return path / "recipe.yaml"
    if os.path.isfile(path):
        return path
    for place in (path / "recipe.yaml", path):
        if os.path.lexists(place) and not os.path.isdir(place):
            raise RecipeError(
                f"{str(place)!r} is no ordinary file, so it cannot be a recipe.",
                "Give the path of a YAML file; a link must lead to one.",
            )
    if os.path.isdir(path):
        raise RecipeError(f"{name!r} is a folder, not a recipe.", f"For its images: data={name}")
    hint = did_you_mean(name, recipe_names()) + " Or give the path of a YAML file."
    if any(name in (key, key.rpartition(".")[2]) for key in keys(Recipe)):
        hint = f"{name!r} is a key of recipes: write {name}=..., without spaces around =."
    elif all(part in known_methods() for part in method_names(name)):
        hint = f"{name!r} is a method: write method={name}."
    raise RecipeError(f"There is no recipe {name!r}, and no such file.", hint)


def load_recipe(
    name: str | Path | None = None,
    overrides: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
) -> Recipe:
    """Load a recipe and apply overrides.

    Args:
        name: A recipe of the package, a YAML file or a run folder. None: the recipe that fits the
            ``data=`` override, or ``digits``.
        overrides: ``key=value`` texts; values are YAML.
        values: Keys with values of Python: numbers (also numpy's), paths, tuples, mappings.

    Raises:
        RecipeError: Naming every unknown key and every value that cannot be used.

    Example:
        >>> load_recipe("digits", ["method=erm", "epochs=3"]).train.epochs
        3
        >>> load_recipe("digits", values={"delta": 0.5, "model": {"name": "resnet8"}}).delta
        0.5
    """
    faults: list[str] = []
    given = parse_overrides(overrides, faults) + python_overrides(values or {})
    name = str(name or _fitting(whole_keys(given, Recipe)))
    path = recipe_path(name)
    content = yamlfile.load(path)
    begins = content.pop("digest", None) is None  # a run folder's recipe carries one
    apply_overrides(content, given, Recipe, faults)
    content.setdefault("name", path.stem)
    try:
        recipe = Recipe.model_validate(content, context={"begins": begins})
    except ValidationError as error:
        faults += sentences(error, Recipe)
    if faults:
        raise RecipeError(
            f"The recipe {name!r} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n"
            + "\n".join(f"  - {fault}" for fault in faults),
            "`purenoise recipes show` lists every key.",
        )
    return recipe


def folder_name(recipe: Recipe, base: Recipe) -> str:
    """Return the recipe's name for folders, with 8 hex digits if overrides change the result."""
    digest = recipe.digest(with_method=False)
    plain = digest == base.digest(with_method=False)
    return recipe.name if plain else f"{recipe.name}-{digest[:8]}"


def _fitting(given: Mapping[str, Any]) -> str:
    """The recipe that fits a data= override."""
    data, name = given.get("data"), given.get("data.name")
    if data is not None:
        name = data_section(str(data))["name"]
    return recipe_for(str(name)) if name is not None else "digits"


def plain_recipe(name: str | None, overrides: Sequence[str]) -> Recipe:
    """Return the recipe without overrides, but for the known data set that chose it.

    A folder of images is a change like any other, so that two folders have runs of their own.
    """
    named = [t for t in overrides if t.startswith("data=") and not t.startswith("data={")]
    recipe = load_recipe(name, named)
    known = recipe.data.name in KNOWN_DATA
    return recipe if known else load_recipe(name or recipe_for(recipe.data.name))


def recipe_for(data_set: str) -> str:
    """Return the name of the packaged recipe that fits a data set.

    Example:
        >>> recipe_for("cifar10"), recipe_for("torchvision:SVHN"), recipe_for("npz")
        ('cifar10-lt', 'torchvision', 'npz')
    """
    if data_set in ("cifar10", "cifar100"):
        return f"{data_set}-lt"
    if data_set.startswith(TORCHVISION):
        return TORCHVISION.rstrip(":")
    return data_set if data_set in DATA_SETS else "folder"


__all__ = ["Recipe", "folder_name", "known_methods", "load_recipe", "method_names", "recipe_names"]
