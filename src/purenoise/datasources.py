"""From a recipe's data section to the images that it names: the one place that knows all loaders.

What comes back is one type (`purenoise.data.types.Dataset`), or first a scan of files, which
`purenoise inspect` shows as well. Nothing after this asks where images came from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from purenoise.data.types import Dataset
from purenoise.datasection import Data
from purenoise.errors import DataError, RecipeError
from purenoise.names import LISTED_DATA, TORCHVISION
from purenoise.overrides import plain
from purenoise.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from purenoise.data.arrays import ArrayData
    from purenoise.data.cacheroot import CacheChoice
    from purenoise.data.listset import ListedSet
    from purenoise.data.scan import FolderScan
    from purenoise.data.target import Keep, Target

SIDE = 64  # of images from files and arrays, unless the recipe says otherwise
LISTS = ("list", *LISTED_DATA)
SAME_CALL = "the same call of purenoise.train, with the same arrays"
WITH_ROOT = ("folder", "npz", "hf", "celeba5", *LISTS)  # whose root is a place of its own


def scan_data(data: Data, *, insists: bool = True) -> FolderScan | None:
    """Look at every file that a recipe names, keeping decoded images as it says.

    Args:
        data: The data section of a recipe.
        insists: Whether it is an error if decoded images cannot be kept in a place that the recipe
            names; otherwise they are not kept.

    Returns:
        What is there; None if the data are no files, or so many that they are decoded later.

    Raises:
        DataError: If the files cannot be used, or decoded images cannot be kept where the recipe
            says.
        RecipeError: If the recipe asks for a folder and names none.
    """
    from purenoise.data.scan import scan_folder

    if data.name == "folder":
        if data.root is None:
            raise RecipeError("data.name is folder, and data.root is not set.", "Give data=PATH.")
        keep, notes = _keep(data, insists)
        scan = scan_folder(data.root, keep)
    elif (listed := _listed(data)) is not None and not listed.is_long(data.decode):
        keep, notes = _keep(data, insists)
        scan = listed.scan(keep)
    else:
        return None
    return replace(scan, notes=(*notes, *scan.notes))


def _keep(data: Data, insists: bool) -> tuple[Keep, Sequence[str]]:
    """Return what becomes of decoded pixels, and notes on it."""
    from purenoise.data.target import Keep

    choice, notes = _cache_choice(data)
    if choice is not None and not insists:
        choice = replace(choice, required=False)
    return Keep(_target(data), choice, data.memory_mib << 20), notes


def _target(data: Data) -> Target:
    from purenoise.data.target import Target

    return Target(data.image_size, data.channels, SIDE)


def _listed(data: Data) -> ListedSet | None:
    """Return the lists of a data set that has such, read and checked."""
    if data.name in LISTS:
        from purenoise.data.listset import read_lists

        return read_lists(data.name, data.root, data.train_list, data.val_list, data.test_list)
    if data.name == "celeba5":
        from purenoise.data.celeba import celeba_lists

        return celeba_lists(data.root)
    return None


def _cache_choice(data: Data) -> tuple[CacheChoice | None, list[str]]:
    """Return where decoded images are to be kept (None: nowhere), and a note if they cannot be."""
    from purenoise.data.cacheroot import MIB, CacheChoice, NoCacheError, default_root

    if data.cache == "off":
        return None, []
    if data.cache != "auto":
        root = Path(os.path.abspath(os.path.expanduser(data.cache)))
        return CacheChoice(root, data.cache_mib * MIB, required=True), []
    try:
        return CacheChoice(default_root(), data.cache_mib * MIB), []
    except NoCacheError as error:
        return None, [f"Decoded images are not kept: {error}."]


def absolute_root(data: Data) -> Data:
    """Return the data section with the whole path of its folder of images, if there is that folder.

    So a run can be evaluated from anywhere, and ``grey``, ``grey/`` and ``/data/grey`` are one. A
    folder for decoded images gets its whole path as well.
    """
    if data.cache not in ("auto", "off"):
        data = data.model_copy(update={"cache": os.path.abspath(os.path.expanduser(data.cache))})
    changes: dict[str, Any] = {}
    if data.name in LISTS:
        changes = _absolute_lists(data)
    path = os.path.expanduser(data.root or "")
    if data.name.startswith(TORCHVISION) and path:  # which may be fetched there yet
        changes["root"] = os.path.abspath(path)
    # Loading refuses a place that is missing in the user's own words.
    if path and data.name in WITH_ROOT and Path(path).exists():
        changes["root"] = os.path.realpath(path)
    return data.model_copy(update=changes)


def _absolute_lists(data: Data) -> dict[str, Any]:
    """Return the whole paths of the lists that are given and there, and the folder of images."""
    from purenoise.data.listset import find_list

    first = os.path.expanduser(data.train_list or "")
    root = Path(os.path.expanduser(data.root) if data.root else os.path.dirname(first) or ".")
    changes: dict[str, Any] = {}
    for key in ("train_list", "val_list", "test_list"):
        given = getattr(data, key)
        if given is not None and find_list(given, root).is_file():
            changes[key] = os.path.realpath(find_list(given, root))
    if data.root is None and data.train_list is not None and root.is_dir():
        changes["root"] = os.path.realpath(root)
    return changes


def reads_files(data: Data) -> bool:
    """Return whether the images are files, read one by one and kept in the cache."""
    return data.name in ("folder", "celeba5", *LISTS)


def is_there(data: Data) -> bool:
    """Return whether images of one's own are where the recipe says, so that they can be compared.

    Published sets with checksums are not looked at again, and arrays cannot be.
    """
    return data.name in WITH_ROOT and data.root is not None and Path(data.root).exists()


def load_data(
    data: Data, scan: FolderScan | None = None, arrays: ArrayData | None = None
) -> Dataset:
    """Load the images that a data section names.

    Args:
        data: The section.
        scan: What `scan_data` returned for it, to save looking twice.
        arrays: The images of ``data.name=arrays``.

    Raises:
        DataError: They cannot be used.
        RecipeError: The section lacks what its data set needs.
    """
    if data.name == "digits":
        from purenoise.data.digits import load_digits

        return load_digits(seed=data.split_seed)
    if data.name in ("cifar10", "cifar100"):
        from purenoise.data.cifar import load_cifar

        return load_cifar(data.name, data.root or "data", download=data.download is not False)
    if data.name == "folder":
        return _load_folder(data, scan or scan_data(data))
    listed = _listed(data)
    return _load_items(data, arrays) if listed is None else _load_listed(data, listed, scan)


def _load_folder(data: Data, scan: FolderScan | None) -> Dataset:
    from purenoise.data.folder import load_folder

    assert scan is not None
    assert data.root is not None
    return load_folder(
        data.root,
        image_size=data.image_size,
        channels=data.channels,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        split_seed=data.split_seed,
        memory_limit=data.memory_mib << 20,
        scan=scan,
        usual_side=SIDE,
    )


def _load_listed(data: Data, listed: ListedSet, scan: FolderScan | None) -> Dataset:
    """Load images of lists, decoded before or later."""
    if listed.is_long(data.decode):
        return listed.load_later(
            _target(data), test_fraction=data.test_fraction, split_seed=data.split_seed
        )
    scan = scan or scan_data(data)
    assert scan is not None
    return listed.load_scanned(
        scan, _target(data), val_fraction=data.val_fraction, test_fraction=data.test_fraction,
        split_seed=data.split_seed, memory_limit=data.memory_mib << 20,
    )  # fmt: skip


def _load_items(data: Data, arrays: ArrayData | None) -> Dataset:
    """Load images that come one by one from a library or from arrays."""
    options: dict[str, Any] = {
        "test_fraction": data.test_fraction, "split_seed": data.split_seed,
        "memory_limit": data.memory_mib << 20,
    }  # fmt: skip
    if data.name.startswith(TORCHVISION):
        from purenoise.data.torchvision_sets import load_torchvision_set

        return load_torchvision_set(
            data.name.removeprefix(TORCHVISION), data.root or "data", _target(data),
            download=data.download is True, **options,
        )  # fmt: skip
    if data.name == "arrays":
        return _arrays(data, arrays).dataset("arrays", _target(data), **options)
    if data.root is None:
        raise RecipeError(
            f"data.name is {data.name}, and data.root is not set.",
            "Give data=FILE.npz." if data.name == "npz" else "Give data=hf:FOLDER.",
        )
    if data.name == "npz":
        from purenoise.data.arrays import load_npz

        return load_npz(data.root, _target(data), **options)
    from purenoise.data.huggingface import load_huggingface

    return load_huggingface(
        data.root, _target(data), image_column=data.image_column, label_column=data.label_column,
        **options,
    )  # fmt: skip


def _arrays(data: Data, arrays: ArrayData | None) -> ArrayData:
    """Return the arrays of a section, if they are at hand and the same."""
    if arrays is None:
        raise DataError(
            "The images of this run are NumPy arrays that were given in Python, and they are not "
            "here.",
            "Call purenoise.train(..., data=ArrayData(...)) with the same arrays, or keep them in "
            "a file (numpy.savez: train_images, train_labels, test_images, test_labels) and give "
            "data=FILE.npz.",
        )
    if data.sha256 != arrays.sha256():
        raise DataError(
            f"These are not the arrays of the recipe, whose SHA-256 begins with "
            f"{(data.sha256 or 'nothing')[:8]}: theirs begins with {arrays.sha256()[:8]}.",
            "Give the same arrays, or train anew.",
        )
    return arrays


def array_recipes(
    recipe: str | Path | Recipe | None, arrays: ArrayData, overrides: Mapping[str, Any]
) -> tuple[Recipe, Recipe]:
    """Return the recipe of a run on arrays, and the recipe without changes.

    The recipe holds the arrays' hash, so that other arrays make another run.

    Args:
        recipe: As `purenoise.train` takes it; None: ``arrays``.
        arrays: The images.
        overrides: Keys of the recipe; ``data`` is left aside.
    """
    section = {"name": "arrays", "sha256": arrays.sha256()}
    if isinstance(recipe, Recipe):
        data = Data.model_validate({**recipe.data.model_dump(), **section, "root": None})
        return recipe.model_copy(update={"data": data}), recipe
    name = str(recipe or "arrays")
    values = {key: plain(value) for key, value in overrides.items()}
    return load_recipe(name, values={**values, "data": section}), load_recipe(name)
