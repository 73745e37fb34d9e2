"""A network as a ``torch.export`` program (``.pt2``): torch runs it without the model's code.

Reading one is not safe: ``torch.export.load`` unpickles tensors and constants that the archive
marks as pickled, without restriction, so a file made for it can run any code. Nothing in a file can
prove who wrote it, so a program is read only when its user says that it is trusted.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from purenoise.errors import ModelError, RunError
from purenoise.export.checking import Probe, difference
from purenoise.export.manifest import KEY, Manifest, read_manifest
from purenoise.export.standalone import Standalone, answers

SUFFIX = ".pt2"
INSIDE = f"{KEY}.json"


def traced(model: nn.Module, shape: tuple[int, int, int]) -> Any:
    """Return a network as an exported program with any number of images.

    Args:
        model: From images (N, C, H, W) to logits.
        shape: Channels, height and width.

    Raises:
        ModelError: If torch cannot trace it.
    """
    example = torch.zeros(2, *shape)
    sizes = ({0: torch.export.Dim("batch", min=1)},)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, about itself
            program = torch.export.export(model, (example,), dynamic_shapes=sizes)
    except Exception as error:  # of many types: whatever the model's code stumbles on
        raise ModelError(
            f"The model cannot be traced by torch.export: {_short(error)}",
            "Its weights can be exported; choose another model for a graph.",
        ) from error
    for node in program.graph.nodes:  # lines and paths of the machine that exported it
        node.meta.pop("stack_trace", None)
    return program


def program_bytes(program: Any, manifest: Manifest) -> bytes:
    """Return a program as a file, with its manifest inside."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer, extra_files={INSIDE: manifest.to_json()})
    return buffer.getvalue()


def check_program(content: bytes, expected: Standalone, probe: Probe) -> float:
    """Read a program that was just made, and compare it with its network; one image too.

    Raises:
        RunError: If it says something else.
    """
    got = _loaded(io.BytesIO(content))
    wanted = answers(expected, probe.images)
    difference(wanted[:1], answers(got, probe.images[:1]), "The program with one image")
    return difference(wanted, answers(got, probe.images), "The program")


def read_program(path: Path, *, trust: bool) -> tuple[nn.Module, Manifest]:
    """Read a program.

    Args:
        path: Of the file.
        trust: Whether the file may run code.

    Raises:
        RunError: If it is not trusted, cannot be read, or says nothing of itself.
    """
    if not trust:
        raise RunError(
            f"{path} is a torch.export program, and reading one can run code that it holds.",
            "If you made it, or trust who did: --trust (trust=True in Python). Files of ONNX and "
            "safetensors need no trust.",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n.endswith(f"/extra/{INSIDE}")]
            text = archive.read(inside[0]).decode() if inside else None
        manifest = read_manifest(text, path)
        with path.open("rb") as file:
            return _loaded(file), manifest
    except RunError:
        raise
    except Exception as error:  # zip, JSON, schema, operators: no common base
        raise RunError(f"{path} is truncated or no torch.export program: {_short(error)}.",
                       "Export the run again.") from error  # fmt: skip


def _loaded(file: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(file).module()


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200].rstrip(".")
