"""Image data sets of Hugging Face from local files (extra ``hf``): nothing is ever fetched.

Read are what ``save_to_disk`` writes, Parquet files, and folders that their ``imagefolder`` reads
(with ``metadata.csv`` or ``.jsonl``). Differs from indexing such a data set: images are decoded by
our decoder, and a path that a row names instead of bytes must lie inside the folder, since a data
set from a stranger could name any file of this machine.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from purenoise.data.decode import UnusableImageError, decode, path_inside
from purenoise.data.items import Items, checked_labels, item_dataset
from purenoise.data.listing import SPLIT_NAMES
from purenoise.data.target import Target
from purenoise.data.types import Dataset
from purenoise.errors import DataError, did_you_mean

MISSING = "The package datasets, which reads Hugging Face's data sets, is not installed."


def load_huggingface(
    root: str | Path, target: Target, *, image_column: str | None = None,
    label_column: str | None = None, **options: Any,
) -> Dataset:  # fmt: skip
    """Load an image data set of Hugging Face from a folder.

    Args:
        root: What ``save_to_disk`` wrote, or a folder of Parquet files or of images.
        target: The shape that is asked for.
        image_column: Name of the images' column; None: the only one.
        label_column: Name of the labels' column; None: the only one of class labels, or ``label``.
        **options: As `purenoise.data.items.item_dataset` takes them.

    Raises:
        DataError: ``datasets`` is not installed, the folder holds no such data set, or its columns
            do not do.
    """
    folder = Path(os.path.expanduser(root))
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'.", "Write data=hf:FOLDER.")
    folder = folder.resolve()
    parts = _splits(folder)
    features = parts["train"].features
    image = _image_column(features, image_column)
    label = _label_column(features, label_column, image)
    names = getattr(features[label], "names", None)
    values = {split: part[label][:] for split, part in parts.items()}
    if names is None:
        names = sorted({str(v) for v in values["train"]}, key=_as_number)
        number = {name: i for i, name in enumerate(names)}
        values = {split: [number.get(str(v), -1) for v in y] for split, y in values.items()}
    items = {
        split: Items(
            _reader(part, image, folder, split),
            checked_labels(np.array(values[split], np.int64), len(names), f"'{folder}', {split}"),
        )
        for split, part in parts.items()
        if len(part)
    }
    return item_dataset(folder.name, tuple(map(str, names)), items, target, **options)


def _splits(folder: Path) -> dict[str, Any]:
    """Return the data set of each split that there is."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(MISSING, 'Run: pip install "purenoise[hf]"') from error
    try:
        with _quiet_and_offline(datasets):
            found = _read(datasets, folder)
    except Exception as error:  # its builders raise many kinds of errors on strange files
        text = (str(error) or type(error).__name__).partition("\n")[0][:160].rstrip(".")
        raise DataError(
            f"'{folder}' holds no data set of Hugging Face that can be read: {text}.",
            "Expected: what save_to_disk wrote, Parquet files, or an image folder.",
        ) from error
    parts: dict[str, Any] = {}
    for name, part in found.items():
        split = SPLIT_NAMES.get(str(name).casefold())
        if split is not None:
            parts.setdefault(split, part)
    if "train" not in parts:
        raise DataError(
            f"'{folder}' has the splits {', '.join(map(str, found))}, and no train.",
            "Name the split with the training images train.",
        )
    return {split: parts[split] for split in ("train", "val", "test") if split in parts}


@contextlib.contextmanager
def _quiet_and_offline(datasets: Any) -> Iterator[None]:
    """Show no progress, and keep `datasets` from telling its servers that a file is read."""
    bars, counts = datasets.utils.logging.is_progress_bar_enabled(), "HF_UPDATE_DOWNLOAD_COUNTS"
    before = getattr(datasets.config, counts, None)
    datasets.utils.logging.disable_progress_bar()
    setattr(datasets.config, counts, False)
    try:
        yield
    finally:
        setattr(datasets.config, counts, before)
        if bars:
            datasets.utils.logging.enable_progress_bar()


def _read(datasets: Any, folder: Path) -> dict[str, Any]:
    """Return the splits of a folder, in whatever form it has."""
    if (folder / "dataset_dict.json").is_file():
        return dict(datasets.load_from_disk(str(folder)))
    if (folder / "state.json").is_file():
        return {"train": datasets.load_from_disk(str(folder))}
    parquet = sorted(p for p in folder.rglob("*.parquet") if p.resolve().is_relative_to(folder))
    if not parquet:
        return dict(datasets.load_dataset("imagefolder", data_dir=str(folder)))
    files: dict[str, list[str]] = {}
    for path in parquet:  # train-00000-of-00002.parquet, or train/0.parquet
        words = [path.name.split("-")[0].split(".")[0], path.parent.name]
        split = next(
            (SPLIT_NAMES[w.casefold()] for w in words if w.casefold() in SPLIT_NAMES), "train"
        )
        files.setdefault(split, []).append(str(path))
    return dict(datasets.load_dataset("parquet", data_files=files))


def _image_column(features: Any, wanted: str | None) -> str:
    """Return the column of images."""
    found = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    if wanted is not None:
        if wanted not in found:
            raise DataError(
                f"There is no column of images {wanted!r}.", did_you_mean(wanted, found)
            )
        return wanted
    if len(found) != 1:
        raise DataError(
            f"There are {len(found)} columns of images ({', '.join(found) or 'none'}).",
            "Give data.image_column=NAME." if found else f"Columns: {', '.join(features)}.",
        )
    return found[0]


def _label_column(features: Any, wanted: str | None, image: str) -> str:
    """Return the column of labels."""
    if wanted is not None:
        if wanted not in features:
            raise DataError(f"There is no column {wanted!r}.", did_you_mean(wanted, features))
        return wanted
    found = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    found = found or [name for name in ("label", "labels") if name in features]
    if len(found) != 1:
        others = [name for name in features if name != image]
        raise DataError(
            f"There are {len(found)} columns of class labels ({', '.join(found) or 'none'}).",
            f"Give data.label_column=NAME; columns: {', '.join(others)}.",
        )
    return found[0]


def _reader(part: Any, column: str, folder: Path, split: str) -> Any:
    """Return a function that gives image ``i`` of a split, decoded by our own decoder."""
    import datasets

    rows = part.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def read(i: int) -> Image.Image:
        row = rows[i][column] or {}
        if row.get("bytes"):
            return decode(io.BytesIO(row["bytes"]))[0]
        if not row.get("path"):
            raise UnusableImageError("without content")
        with open(_place(row["path"], folder, f"Row {i} of {split}"), "rb") as file:
            return decode(file)[0]

    return read


def _place(path: str, folder: Path, row: str) -> Path:
    """Return the file that a row names.

    Raises:
        DataError: It lies outside the folder.
        UnusableImageError: It is missing, or a link that leads out.
    """
    full = os.path.normpath(folder / path)
    try:
        return path_inside(folder, os.path.relpath(full, folder))
    except UnusableImageError:
        if Path(full).is_relative_to(folder):
            raise
        raise DataError(
            f"{row} of '{folder}' holds no image but names a file outside that folder, "
            f"{path[:200]!r}, and such files are not opened.",
            "Put the images into the data set: load it with datasets where those files are, and "
            "call save_to_disk. Or copy the files into the folder and name them by relative paths.",
        ) from None


def _as_number(text: str) -> tuple[int, int, str]:
    """Sort numbers as numbers, before names."""
    return (0, int(text), "") if text.lstrip("-").isdecimal() else (1, 0, text)
