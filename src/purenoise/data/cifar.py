"""CIFAR-10 and CIFAR-100 through torchvision, which checks the MD5 sum of every file it unpickles.

Differs from torchvision in what happens when something is wrong: a download goes to a folder of its
own and is moved into place whole, an official archive that lies beside is unpacked without a
network, nothing is printed, and every failure says where the files belong.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from purenoise.data.fetching import aside, patient, reason
from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.errors import DataError, did_you_mean

Constants = tuple[tuple[float, float, float], tuple[float, float, float]]

# Mean and standard deviation per channel that the field uses for each set.
NORMALIZE: dict[str, Constants] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def load_cifar(name: str, root: str | Path, download: bool = True) -> Dataset:
    """Load CIFAR-10 or CIFAR-100, balanced, as they are published.

    Args:
        name: ``cifar10`` or ``cifar100``.
        root: Folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``, or the official
            archive, or to which it is downloaded.
        download: Whether to download what is missing.

    Returns:
        50,000 training and 10,000 test images, uint8 of shape (N, 3, 32, 32), with the constants
        that are customary for normalising them.

    Raises:
        DataError: The name is unknown, or the files are missing and cannot be downloaded, or
            damaged.
    """
    if name not in NORMALIZE:
        raise DataError(f"There is no CIFAR set {name!r}.", did_you_mean(name, NORMALIZE))
    import torchvision.datasets as sets  # slow to import

    source = {"cifar10": sets.CIFAR10, "cifar100": sets.CIFAR100}[name]
    root = Path(os.path.expanduser(root))
    _provide(name, source, root, download)
    train, _ = _read(name, source, root, train=True)
    test, class_names = _read(name, source, root, train=False)
    return Dataset(name, class_names, train, test, normalize=NORMALIZE[name])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what torchvision and the unpickling of numpy 1 files print and warn about."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _read(name: str, source: Any, root: Path, train: bool) -> tuple[Split, tuple[str, ...]]:
    """Return one split and the names of the classes."""
    try:
        with quiet():
            data = source(str(root), train=train, download=False)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"The files of {TITLES[name]} in '{root / source.base_folder}' are damaged or cannot "
            f"be read: {_damaged(source, root)}.",
            f"Move that folder away, then run again, or unpack {source.filename} anew.",
        ) from error
    pixels = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))  # (N, 3, 32, 32)
    return Split(MemoryImages(pixels), np.array(data.targets, np.int64)), tuple(data.classes)


def _files(source: Any) -> dict[str, str]:
    """Return the MD5 sum of each file of a set."""
    sums = dict((*source.train_list, *source.test_list))
    return {**sums, source.meta["filename"]: source.meta["md5"]}


def _damaged(source: Any, root: Path) -> str:
    """Name the files whose MD5 sum is wrong."""
    from torchvision.datasets.utils import check_integrity

    bad = []
    for file, md5 in _files(source).items():
        try:
            good = check_integrity(root / source.base_folder / file, md5)
        except OSError:
            good = False
        if not good:
            bad.append(file)
    return ", ".join(bad)


def _provide(name: str, source: Any, root: Path, download: bool) -> None:
    """Unpack or download the files of a set unless they are there."""
    if all((root / source.base_folder / file).is_file() for file in _files(source)):
        return
    try:
        if (root / source.filename).is_file():
            _unpack(source, root / source.filename, root)
        elif download:
            _download(source, root)
        else:
            raise FileNotFoundError("downloading is switched off")
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"{TITLES[name]} is not in '{root}' and could not be had ({reason(error)}): its files "
            f"belong in '{root / source.base_folder}', unpacked from the official archive "
            f"{source.filename}.",
            f"Put {source.filename} into '{root}', or try `purenoise train` on the embedded "
            "digits, or data=FOLDER for images of your own.",
        ) from error


def _download(source: Any, root: Path) -> None:
    """Download the archive to a folder that vanishes, and unpack it from there."""
    from torchvision.datasets.utils import download_url

    with aside(root) as folder:
        with quiet(), patient():
            download_url(source.url, str(folder), source.filename, source.tgz_md5)
        _unpack(source, folder / source.filename, folder)
        (folder / source.filename).unlink()


def _unpack(source: Any, archive: Path, root: Path) -> None:
    """Unpack an archive whose MD5 sum is right, beside its place, and move the files there."""
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(archive, source.tgz_md5):
        raise RuntimeError(f"{archive.name} is damaged: its MD5 sum is wrong")
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=root) as folder:
        with quiet():
            extract_archive(str(archive), folder)
        (root / source.base_folder).mkdir(exist_ok=True)
        for file in _files(source):
            os.replace(Path(folder) / source.base_folder / file, root / source.base_folder / file)
