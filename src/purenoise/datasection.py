"""The data section of a recipe: which images, which of them, and how they are normalised."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from purenoise.data.torchvision_names import check_torchvision_set
from purenoise.names import LISTED_DATA, TORCHVISION, check_data_set, check_subset
from purenoise.places import check_place


def _fraction(value: Any) -> Any:
    """Read ``1/3`` as a number."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError, OverflowError):
            return value
    return value


def _check_name(name: str) -> str:
    """Return the name of a data set, ours or one of torchvision's."""
    if name.startswith(TORCHVISION):
        return TORCHVISION + check_torchvision_set(name.removeprefix(TORCHVISION))
    return check_data_set(name)


# Keys that only some data sets have: they must not be given to others in vain.
USED_BY: dict[str, tuple[str, ...]] = {
    "train_list": ("list", *LISTED_DATA),
    "val_list": ("list", *LISTED_DATA),
    "test_list": ("list", *LISTED_DATA),
    "decode": ("list", *LISTED_DATA, "celeba5"),
    "image_column": ("hf",),
    "label_column": ("hf",),
    "sha256": ("arrays",),
}
Share = Annotated[float, BeforeValidator(_fraction)]
Side = Annotated[int, Field(ge=1)]
Place = Annotated[str, AfterValidator(check_place)]
PlaceOrNone = Annotated[str | None, AfterValidator(check_place)]


class Part(BaseModel):
    """A section: frozen, without keys of other names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``epochs: yes``, which would count as 1."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            said = str(value).lower()
            raise ValueError(f"cannot be {said} (YAML reads yes, no, on and off as true and false)")
        return value


class Imbalance(Part):
    """How a balanced training set is made long-tailed."""

    also: ClassVar = ("imb_factor",)

    type: Literal["none", "exp", "step"] = "none"
    ratio: float = Field(default=1.0, ge=1, description="imbalance ratio, largest / smallest class")
    subset: str = "ldam"
    seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator("subset")
    @classmethod
    def _subset(cls, value: str, info: ValidationInfo) -> str:
        """Look for an index file only if a run is to be begun: a finished one needs it no more."""
        return check_subset(value) if (info.context or {}).get("begins") else value

    @model_validator(mode="before")
    @classmethod
    def _imb_factor(cls, values: Any) -> Any:
        """Accept LDAM-DRW's ``imb_factor`` = 1 / ratio."""
        if isinstance(values, Mapping) and "imb_factor" in values:
            rest = {k: v for k, v in values.items() if k != "imb_factor"}
            factor = _fraction(values["imb_factor"])
            number = isinstance(factor, int | float) and not isinstance(factor, bool)
            if not number or not 0 < factor <= 1:
                raise ValueError(f"imb_factor must be above 0 and at most 1, got {factor!r}")
            if "ratio" in values:
                raise ValueError("imb_factor is 1 / ratio: give one of them, got both")
            return rest | {"ratio": 1 / factor}
        return values

    @model_validator(mode="after")
    def _has_type(self) -> Imbalance:
        if self.type == "none" and self.ratio != 1:
            raise ValueError(
                f"the ratio is {self.ratio:g} and the type none, so nothing would be made "
                "long-tailed; add data.imbalance.type=exp or step"
            )
        return self


class Normalize(Part):
    """Constants per channel in [0, 1]."""

    mean: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _pairs(self) -> Normalize:
        if len(self.mean) != len(self.std):
            n, m = len(self.mean), len(self.std)
            raise ValueError(f"mean and std have one number per channel each, got {n} and {m}")
        return self


class Data(Part):
    """Which images, and which of them."""

    name: Annotated[str, AfterValidator(_check_name)] = "digits"
    root: PlaceOrNone = Field(default=None, description="the folder, or the file, of the images")
    train_list: PlaceOrNone = Field(default=None, description="file with lines `path label`")
    val_list: PlaceOrNone = None
    test_list: PlaceOrNone = None
    decode: Literal["auto", "ahead", "later"] = Field(
        default="auto", description="when listed images are decoded: before training, or in it"
    )
    image_column: str | None = None
    label_column: str | None = None
    sha256: str | None = Field(default=None, description="of arrays that were given in Python")
    download: bool | None = Field(
        default=None, description="fetch missing files: CIFAR unless false, torchvision: if true"
    )
    imbalance: Imbalance = Imbalance()
    val_fraction: Share = Field(default=0.0, ge=0, lt=1)
    test_fraction: Share = Field(default=0.2, gt=0, lt=1)
    split_seed: int = Field(default=0, ge=0)
    image_size: Side | tuple[Side, Side] | None = Field(
        default=None, description="auto, a side in pixels from 1 on, or [height, width]"
    )
    channels: Literal[1, 3] | None = None
    normalize: Annotated[
        Annotated[Literal["auto", "data"], Tag("word")] | Annotated[Normalize, Tag("numbers")],
        Discriminator(lambda v: "numbers" if isinstance(v, Mapping | Normalize) else "word"),
    ] = "auto"
    memory_mib: int = Field(default=1024, ge=0)
    cache: Place = Field(
        default="auto",
        min_length=1,
        description="where decoded images are kept: auto, off, or a folder",
    )
    cache_mib: int = Field(default=20480, ge=0, description="that all of them may take together")

    @model_validator(mode="before")
    @classmethod
    def _cache_off(cls, values: Any) -> Any:
        """Accept ``cache: off``, which YAML reads as false."""
        if isinstance(values, Mapping) and values.get("cache") is False:
            return {**values, "cache": "off"}
        return values

    @field_validator("image_size", mode="before")
    @classmethod
    def _auto_size(cls, value: Any) -> Any:
        """Accept ``image_size: auto``, which is the same as saying nothing."""
        return None if value == "auto" else value

    @model_validator(mode="after")
    def _keys_fit(self) -> Data:
        """Refuse keys that mean nothing for this data set."""
        for key, names in USED_BY.items():
            usual = type(self).model_fields[key].default
            if self.name not in names and getattr(self, key) != usual:
                raise ValueError(f"{key} is for {', '.join(names)} only, and name is {self.name}")
        return self

    @field_validator("cache")
    @classmethod
    def _no_word(cls, value: str) -> str:
        """Refuse what is meant as a switch and would become a folder."""
        if value.lower() in ("yes", "true", "on", "y"):
            raise ValueError(f"must be auto, off, or a folder such as ./{value}, got {value!r}")
        return value
