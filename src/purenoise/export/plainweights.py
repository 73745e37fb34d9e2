"""Weights as safetensors that load into the unmodified model of torchvision, timm or our own.

The keys are those of ``torchvision.models.get_model(NAME, num_classes=C)`` or
``timm.create_model(NAME, num_classes=C)``; this is tried, strictly, before the file is written. The
one network that has no plain form is one with a cosine classifier (what ``ldam`` trains): it
normalises features, which no linear layer does. Its weights load into our own ``build_model`` with
``cosine=True``; ONNX and ``torch.export`` hold it whole.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as read_tensors
from safetensors.torch import save as safetensors_bytes
from torch import nn

from purenoise.checkpoint import load_weights
from purenoise.errors import ModelError, RunError
from purenoise.export.checking import Probe, difference
from purenoise.export.manifest import KEY, Manifest, read_manifest
from purenoise.export.standalone import Standalone, answers
from purenoise.models import CosineLinear, build_model

SUFFIX = ".safetensors"
# Their `load_state_dict` asks for the versions that a state dict made by torch carries with it.
ASK_FOR_VERSIONS = ("torchvision:mnasnet",)


def weights_bytes(model: nn.Module, manifest: Manifest) -> bytes:
    """Return a safetensors file with a plain network in float32 and its manifest in the header."""
    tensors = {
        key: (value.float() if value.is_floating_point() else value).contiguous().clone()
        for key, value in model.state_dict().items()
    }
    return safetensors_bytes(tensors, {KEY: manifest.to_json()})


def check_weights(content: bytes, expected: Standalone, manifest: Manifest, probe: Probe) -> float:
    """Load the bytes strictly into a newly built model and compare the two.

    Raises:
        RunError: If the model has other keys or shapes, or says something else.
    """
    fresh = _built(manifest)
    tensors = OrderedDict(read_tensors(content))
    if manifest.model.startswith(ASK_FOR_VERSIONS):
        tensors._metadata = fresh.state_dict()._metadata  # type: ignore[attr-defined]
    try:
        fresh.load_state_dict(tensors, strict=True)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"The weights do not fit the plain {manifest.model}: {_first_line(error)}",
            "Nothing was written.",
        ) from error
    got = answers(Standalone(fresh, manifest.mean, manifest.std), probe.images)
    return difference(answers(expected, probe.images), got, f"The plain {manifest.model}")


def read_weights(path: Path) -> tuple[Standalone, Manifest]:
    """Read exported weights into the model that they name; no code of the file is run.

    Raises:
        RunError: If the file is no safetensors file, says nothing of itself, or does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise RunError(
            f"{path} is truncated or no safetensors file: {error}.", "Export the run again."
        ) from error
    manifest = read_manifest(text, path)
    try:
        model = _built(manifest)
    except ModelError as error:
        raise RunError(f"{path} names a model that cannot be built: {error.message}", error.hint)\
            from error  # fmt: skip
    load_weights(path, model)
    return Standalone(model, manifest.mean, manifest.std), manifest


def how_to_load(manifest: Manifest) -> tuple[str, ...]:
    """Return the lines of Python that load the weights, the file being ``model.safetensors``."""
    library, _, name = manifest.model.rpartition(":")
    n, channels = len(manifest.class_names), manifest.image_shape[0]
    more = f", in_chans={channels}" * (channels != 3)
    own = f", in_channels={channels}" * (channels != 3)
    # These two have side heads, which are of no use once the network is trained.
    bare = ", aux_logits=False, init_weights=True" * (name in ("googlenet", "inception_v3"))
    if manifest.head == "cosine":
        lines = ["from purenoise.models import build_model",
                 f"model = build_model({manifest.model!r}, {n}{own}, cosine=True)",
                 "for module in model.modules():  # cosines are scaled in evaluation",
                 f"    if hasattr(module, 'scale'): module.scale = {manifest.scale!r}"]  # fmt: skip
    elif library == "torchvision":
        given = f"{name!r}, num_classes={n}{bare}"
        lines = ["import torchvision", f"model = torchvision.models.get_model({given})"]
    elif library == "timm":
        lines = ["import timm", f"model = timm.create_model({name!r}, num_classes={n}{more})"]
    else:
        lines = ["from purenoise.models import build_model",
                 f"model = build_model({manifest.model!r}, {n}{own})"]  # fmt: skip
    load = ["model.load_state_dict(load_file('model.safetensors'), strict=True)"]
    if manifest.model.startswith(ASK_FOR_VERSIONS):
        load = ["state = model.state_dict()  # with the versions that this model asks for",
                "state.update(load_file('model.safetensors'))",
                "model.load_state_dict(state, strict=True)"]  # fmt: skip
    return ("from safetensors.torch import load_file", *lines, *load, "model.eval()")


def _built(manifest: Manifest) -> nn.Module:
    """Build the model that a manifest names, with random weights."""
    n_classes, channels = len(manifest.class_names), manifest.image_shape[0]
    cosine = manifest.head == "cosine"
    model = build_model(
        manifest.model, n_classes, in_channels=channels, cosine=cosine, generator_seed=0
    )
    for module in model.modules():
        if isinstance(module, CosineLinear):
            module.scale = manifest.scale
    return model.to(torch.float32).eval()


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
