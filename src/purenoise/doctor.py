"""Is this machine ready: versions, devices, data sets, disk."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What.
        ok: False if it needs mending; None if it only informs.
        text: What was found.
    """

    name: str
    ok: bool | None
    text: str


def examine(root: str = "data", out: str = "runs") -> list[Check]:
    """Look at the machine.

    Args:
        root: Where data sets are looked for.
        out: Where runs would be written.
    """
    return [*_versions(), *_devices(), *_data_sets(Path(root)), *_disk(Path(out)), _cache()]


def _versions() -> list[Check]:
    import platform

    import numpy as np
    import torch

    import purenoise

    checks = [
        Check("purenoise", None, purenoise.__version__),
        Check("python", None, platform.python_version()),
        Check("numpy", None, np.__version__),
        Check("torch", None, torch.__version__),
    ]
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        text = f"cannot be imported: {error}. Install the one that belongs to torch."
        return [*checks, Check("torchvision", False, text)]
    wanted = next((r for r in requires("torchvision") or () if re.match(r"torch\b", r)), "torch")
    fits = versions_match(torch.__version__, wanted)
    text = torchvision.__version__
    if not fits:
        text += f" does not belong to torch {torch.__version__}: it needs {wanted}"
    return [*checks, Check("torchvision", fits, text)]


def versions_match(torch_version: str, requirement: str) -> bool:
    """Whether a torch is the one that torchvision asks for: ``torch==X`` or, later, ``torch>=X``.

    Example:
        >>> versions_match("2.11.0+cpu", "torch==2.11.0"), versions_match("2.11.0", "torch>=2.14.0")
        (True, False)
    """
    found = re.search(r"(==|>=)\s*([\d.]+)", requirement)
    if found is None:
        return True
    wanted = [int(part) for part in found[2].strip(".").split(".")]
    own = [int(part) for part in re.findall(r"\d+", torch_version.split("+")[0])][: len(wanted)]
    return own == wanted if found[1] == "==" else own >= wanted


def _devices() -> list[Check]:
    import torch

    from purenoise.runtime import available_cores, resolve_threads

    cores = available_cores()
    checks = [Check("cores", None, f"{cores}; threads=auto uses {resolve_threads('auto')}")]
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            checks.append(Check(f"cuda:{i}", True, f"{p.name}, {p.total_memory / GIB:.0f} GiB"))
    else:
        checks.append(Check("cuda", None, "none; training runs on the CPU"))
    if torch.backends.mps.is_available():
        checks.append(Check("mps", True, "available"))
    return checks


def _data_sets(root: Path) -> list[Check]:
    """Whether CIFAR lies under ``root``, with its MD5 sums."""
    from torchvision.datasets import CIFAR10, CIFAR100

    from purenoise.data.cifar import quiet

    checks = []
    for name, kind in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        folder = root / kind.base_folder
        if not folder.is_dir():
            checks.append(Check(name, None, f"not at {folder}"))
            continue
        try:
            with quiet():
                kind(str(root), train=True, download=False)
            checks.append(Check(name, True, f"at {folder}, MD5 sums as published"))
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            checks.append(Check(name, False, f"at {folder}, but damaged: {error}"))
    return checks


def _disk(out: Path) -> list[Check]:
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    checks = [Check("free disk", free > GIB, f"{free / GIB:.1f} GiB at {there}")]
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        checks.append(Check("write access", True, str(there)))
    except OSError as error:
        checks.append(Check("write access", False, f"{there}: {error.strerror}"))
    return checks


def _cache() -> Check:
    """Where decoded images are kept, and what they take."""
    from purenoise.data.cacheroot import NoCacheError, cache_folders, default_root, megabytes

    try:
        root = default_root()
    except NoCacheError as error:
        return Check("decoded images", None, f"are not kept: {error}")
    folders = cache_folders(root)
    count = "1 folder" if len(folders) == 1 else f"{len(folders)} folders"
    taken = megabytes(sum(folder.size for folder in folders))
    return Check("decoded images", None, f"{count}, {taken}, in {root}")
