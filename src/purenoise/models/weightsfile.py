"""Weights from a file of the user's: safetensors, or what torch saved; nothing in it is executed.

A file may come from another trainer: its state dict may lie inside a larger one, and its keys may
carry the prefix of a wrapper. A last layer for other classes is left out, with a word; any other
difference is an error, so that no network is trained on weights that are half there.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from purenoise.checksums import tensors_fit
from purenoise.errors import ModelError
from purenoise.models.parts import head_names
from purenoise.smallfile import check_small

# Under which a checkpoint keeps its state dict, and what wrappers put before its keys.
NESTS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "net", "weights")
PREFIXES = ("module.", "_orig_mod.")
RUN_WEIGHTS = "weights.safetensors"  # of a run folder
DEEPEST = 8  # state dicts inside each other
STARTS = (b"PK\x03\x04", b"\x80")  # of torch's archive and of its old form, a pickle
SHOWN = 3  # keys that a message names


def weights_path(path: str | Path) -> Path:
    """Return the file of weights that is meant: a file, or the one in a run folder.

    Raises:
        ModelError: If there is none.
    """
    place = Path(os.path.expanduser(path))
    if place.is_dir() and (place / RUN_WEIGHTS).is_file():
        return place / RUN_WEIGHTS
    if place.is_file():
        return place
    what = "is a folder without weights.safetensors" if place.is_dir() else "does not exist"
    raise ModelError(
        f"model.weights={path} {what}.",
        "Give a .safetensors, .pth or .pth.tar file, or the folder of a finished run.",
    )


def weights_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file of weights."""
    with weights_path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU.

    Args:
        path: A safetensors file or one of ``torch.save``, or a run folder.

    Returns:
        Tensors by key, without the prefixes of wrappers.

    Raises:
        ModelError: If the file is missing, damaged, holds no weights, or would run code.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": {"module.bias": torch.ones(2)}}, f"{folder}/a.pth")
        ...     read_weights(f"{folder}/a.pth")
        {'bias': tensor([1., 1.])}
    """
    path = weights_path(path)
    content = _read(path)
    for _ in range(DEEPEST):  # a checkpoint may hold itself
        content = _inner(content) or content
    found = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not found:
        raise ModelError(
            f"{path} holds no weights: no tensors by name were found in it.",
            f"A state dict is wanted, or a checkpoint with one under {', '.join(NESTS[:3])}.",
        )
    return _without_prefixes(found)


def load_file(model: nn.Module, path: str | Path) -> list[str]:
    """Load a file of weights into a model; a last layer for other classes begins anew.

    Args:
        model: With a head for our classes.
        path: See :func:`read_weights`.

    Returns:
        What a user should know, one sentence each.

    Raises:
        ModelError: See :func:`read_weights`; also if the weights are of another network.
    """
    tensors, own, heads = read_weights(path), model.state_dict(), head_names(model)
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in own]
    shapes = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    differing = {*missing, *unexpected, *(k for k in shapes if _other_classes(own[k], tensors[k]))}
    anew = [h for h in heads if any(k.startswith(f"{h}.") for k in differing)]
    of_head = tuple(f"{head}." for head in anew)
    rest = [[k for k in keys if not k.startswith(of_head)] for keys in (missing, unexpected)]
    rest.append([k for k in shapes if not (k.startswith(of_head) and k in differing)])
    if any(rest):
        raise _another_network(path, len(own), rest, own, tensors)
    taken = {k: v for k, v in tensors.items() if k in own and not k.startswith(of_head)}
    try:
        model.load_state_dict({**own, **taken})
    except (RuntimeError, NotImplementedError) as error:  # sparse, or without numbers
        raise ModelError(
            f"{path} holds tensors that are no plain numbers: they cannot be loaded.",
            "Save the state dict of the model itself, on the CPU.",
        ) from error
    if not anew:
        return []
    n = [len(t) for k, t in tensors.items() if k.startswith(of_head) and k.endswith("weight")]
    what = f"is for {n[0]} classes" if n and n[0] != _n_classes(own, of_head) else "is of another"
    what += " kind" if what == "is of another" else ""
    return [f"The last layer ({', '.join(anew)}) in {path} {what}: here it begins anew."]


def _n_classes(own: Mapping[str, Tensor], of_head: tuple[str, ...]) -> int:
    return next(len(t) for k, t in own.items() if k.startswith(of_head) and k.endswith("weight"))


def _other_classes(own: Tensor, given: Tensor) -> bool:
    """Whether two tensors differ in the number of classes alone."""
    return own.dim() == given.dim() > 0 and own.shape[1:] == given.shape[1:]


def _another_network(
    path: str | Path,
    n: int,
    rest: list[list[str]],
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> ModelError:
    missing, unexpected, shapes = rest
    said = [f"{k} is missing" for k in missing] + [f"{k} is not in the model" for k in unexpected]
    said += [f"{k} is {tuple(tensors[k].shape)} and not {tuple(own[k].shape)}" for k in shapes]
    firsts = [part[0] for part in (said[: len(missing)], said[len(missing) :]) if part]
    firsts += [text for text in said if text not in firsts][: SHOWN - len(firsts)]
    more = f"; and {len(said) - len(firsts)} more" if len(said) > len(firsts) else ""
    return ModelError(
        f"{path} holds the weights of another network: of the model's {n} keys {len(missing)} are "
        f"missing and {len(shapes)} have another shape, and {len(unexpected)} keys are "
        f"unexpected: {'; '.join(firsts)}{more}.",
        "Choose model.name (and the images' channels) as they were when the weights were saved.",
    )


def _read(path: Path) -> Mapping[Any, Any]:
    with path.open("rb") as file:
        start = file.read(9)
    try:
        if start[8:9] == b"{":  # opens the header of a safetensors file
            return _read_safetensors(path)
        content = load_plain(path)
    except Exception as error:  # a dozen types, none in common
        # torch's own words advise to load it unsafely: they are not passed on.
        raise ModelError(
            f"{path} was not read: it is damaged, or no file of weights, or would run code when "
            "it is read.",
            "Give a state dict alone, saved as safetensors or by torch.save(model.state_dict(), "
            "FILE).",
        ) from error
    return content if isinstance(content, Mapping) else {}


def load_plain(path: Path) -> Any:
    """Read tensors and plain values with torch, onto the CPU; nothing in the file is executed.

    Raises:
        Exception: Of a dozen types, none in common, if the file is anything else, or may grow when
            it is read.
    """
    check_small(path)
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith(STARTS) or is_compressed(path):
        raise ValueError("torch writes no such file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a stranger's pickle: the error says enough
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors; ours have a checksum, which must fit."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        fit = tensors_fit(tensors, file.metadata())
    if not fit:
        raise ValueError("its checksum does not fit")
    return tensors


def is_compressed(path: Path) -> bool:
    """Return whether an archive may grow when it is read; those of torch.save never do."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())


def _inner(content: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
    """Return the state dict inside a checkpoint, if there is one."""
    for key in NESTS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and inner:
            return inner
    return None


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for _ in range(len(PREFIXES) + 1):  # one wrapper may be inside another
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in tensors):
                tensors = {key.removeprefix(prefix): v for key, v in tensors.items()}
    return tensors
