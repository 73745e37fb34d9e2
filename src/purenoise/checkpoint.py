"""Weights and resumable state on disk: whole or not at all, and nothing that can run code.

Weights are safetensors. A state is ``torch.save`` read back with ``weights_only=True``; the last
two are kept, so that a damaged one costs some minutes and not the run. Both carry a checksum
(:mod:`purenoise.checksums`). Version 1 of a state had none; it is read as well, and the CRC-32 of
its records, which torch writes and does not look at, is checked.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from purenoise.checksums import KEY, checksum_line, line_fits, tensors_fit, tensors_sha256
from purenoise.errors import RunError
from purenoise.models.weightsfile import is_compressed, load_plain
from purenoise.stateform import fault_of_state
from purenoise.training import State
from purenoise.wholefile import write_whole, writing

VERSION = 2
READS = (1, 2)


_ABOUT = ("version", "identity")  # of a state


def save_state(folder: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Write ``state.pt`` into ``folder``, keeping the one before as ``previous.pt``.

    Args:
        folder: The run's ``state`` folder.
        state: What to resume from.
        identity: What a resumed run must agree with.

    Raises:
        RunError: If it cannot be written; the states before are still there.
    """
    content = state_bytes(state, identity)
    write_whole(folder / "state.pt", content, previous=folder / "previous.pt")


def state_bytes(state: State, identity: Mapping[str, Any]) -> bytes:
    """Return a state as a file holds it."""
    buffer = io.BytesIO()
    torch.save({"version": VERSION, "identity": dict(identity), **asdict(state)}, buffer)
    buffer.write(checksum_line(buffer.getbuffer()))
    return buffer.getvalue()


def state_of_bytes(content: bytes) -> State:
    """Return the state in what :func:`state_bytes` made."""
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return State(**{key: value for key, value in found.items() if key not in _ABOUT})


def load_state(folder: Path) -> tuple[State, dict[str, Any], list[str]] | None:
    """Read the newest state that is whole.

    Returns:
        The state, its identity and a warning for each damaged file; None if there is no state.

    Raises:
        RunError: If there are states and none can be read.
    """
    damaged: list[str] = []
    for name in ("state.pt", "previous.pt"):
        path = folder / name
        if not path.exists():
            continue
        try:
            if not is_whole(path):
                raise ValueError("its checksum does not fit")
            content = load_plain(path)
            version = content.pop("version")
            if version not in READS:
                raise RunError(
                    f"{path} has version {version}; this purenoise reads "
                    f"{' and '.join(map(str, READS))}.",
                    "Go on with the purenoise that it was begun with.",
                )
            if fault := fault_of_state(content):
                raise ValueError(fault)
            identity = content.pop("identity")
            return State(**content), identity, damaged
        except RunError:
            raise
        except Exception as error:  # a dozen types, see load_plain
            # torch's own words advise to load it unsafely: they are not passed on.
            strange = isinstance(error, pickle.UnpicklingError)
            reason = (
                "not a state, or one that would run code" if strange else "cut short or changed"
            )
            damaged.append(f"{path} is damaged ({reason})")
    if damaged:
        raise RunError(
            f"No state can be read: {'; '.join(damaged)}.",
            "Remove the run folder to begin again.",
        )
    return None


def is_whole(path: Path) -> bool:
    """Return whether a state's file is what was written, by its SHA-256, else by its CRC-32.

    A file that is no state at all is left to whoever reads it.

    Raises:
        OSError: If it cannot be read.
        Exception: Of several types, if it is a damaged archive.
    """
    fits = line_fits(path)
    if fits is None and zipfile.is_zipfile(path) and not is_compressed(path):
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    return fits is not False


def set_damaged_aside(folder: Path) -> None:
    """Move a damaged ``state.pt`` away, so that the next one does not replace the good one by it.

    Args:
        folder: Of a run whose ``previous.pt`` is good and whose ``state.pt`` is not.

    Raises:
        RunError: If it cannot be moved.
    """
    path = folder / "state.pt"
    if path.exists():
        with writing(path):
            path.replace(folder / "damaged.pt")


def save_weights(path: Path, model: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a model's weights as safetensors, with ``metadata`` (JSON) in the header.

    Raises:
        RunError: If the file cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    about = json.dumps({**metadata, KEY: tensors_sha256(tensors)})
    write_whole(path, safetensors_bytes(tensors, {"purenoise": about}))  # two keys have no order


def load_weights(path: Path, model: nn.Module, digest: str | None = None) -> None:
    """Read safetensors weights into ``model``.

    Args:
        path: Of the file.
        model: Gets them.
        digest: Of the recipe that they must be of, if their header says of which; None: of any.

    Raises:
        RunError: If the file is missing, truncated, a pickle, of another run, or of another model
            (the first differences are named).
    """
    own = model.state_dict()
    # mnasnet of torchvision takes no dict without its versions:
    tensors = OrderedDict(_read_tensors(path, own, digest))
    tensors._metadata = own._metadata  # type: ignore[attr-defined]
    model.load_state_dict(tensors)


def _read_tensors(path: Path, own: Mapping[str, Tensor], digest: str | None) -> dict[str, Tensor]:
    """Read what has the names and shapes of a network's own tensors, which the header says."""
    if not path.is_file():
        raise RunError(f"There are no weights at {path}.", "A finished run has them; train first.")
    with path.open("rb") as file:
        start = file.read(16)
    # Byte 8 of a safetensors file opens its header, whatever the header's length looks like.
    if start[8:9] != b"{" and (start[:1] == b"\x80" or start[:2] == b"PK"):
        raise RunError(
            f"{path} is a pickle, which may run code when it is read; it was not read.",
            "Weights are read from safetensors files only.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            _refuse_other_model(path, own, {
                key: tuple(file.get_slice(key).get_shape()) for key in file.keys()  # noqa: SIM118
            })  # fmt: skip
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if not tensors_fit(tensors, file.metadata()):
                raise ValueError("it was changed or damaged, its checksum does not fit")
            _refuse_other_run(path, file.metadata(), digest)
            return tensors
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise RunError(
            f"{path} is truncated or no safetensors file: {error}.",
            "Take another copy, or train again.",
        ) from error


def _refuse_other_run(path: Path, metadata: Mapping[str, str] | None, digest: str | None) -> None:
    """Refuse weights whose header, of which the checksum fits, names another recipe."""
    head = json.loads((metadata or {}).get("purenoise", "{}"))
    known = head.get("recipe") if isinstance(head, dict) else None
    if None not in (known, digest) and known != digest:
        raise RunError(
            f"{path} holds the weights of another run (recipe {str(known)[:8]}, not "
            f"{str(digest)[:8]}).",
            "Put the run's own file back, or train it again.",
        )


def _refuse_other_model(
    path: Path, own: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    wrong = [f"{k} is missing" for k in own.keys() - shapes.keys()]
    wrong += [f"{k} is not in the model" for k in shapes.keys() - own.keys()]
    wrong += [
        f"{k} has shape {shapes[k]}, not {tuple(own[k].shape)}"
        for k in own.keys() & shapes.keys()
        if tuple(own[k].shape) != shapes[k]
    ]
    if wrong:
        raise RunError(
            f"{path} holds the weights of another model: {'; '.join(sorted(wrong)[:3])}"
            + (f" and {len(wrong) - 3} more differences." if len(wrong) > 3 else "."),
            "The recipe beside the weights says which model they belong to.",
        )
