"""What is loaded and trained once, before anything is measured."""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

OUT = tempfile.TemporaryDirectory(prefix="hostile-base-")


@functools.cache
def base_run() -> Path:
    """Return a small finished run, with test images, events, predictions and a report."""
    import purenoise as pn

    with contextlib.redirect_stdout(io.StringIO()):
        return pn.train(
            "digits", method="erm", model="small_cnn", epochs=1, threads=1, out=OUT.name
        ).folder


class _EnoughError(Exception):
    """Half of the small run is done."""


@functools.cache
def half_run() -> Path:
    """Return a small run that was killed in its second of three epochs."""
    from purenoise.experiment import run_recipe
    from purenoise.recipe import load_recipe

    words = ["method=erm", "model=small_cnn", "epochs=3", "threads=1", "save_seconds=0",
             "batch_size=512", f"out={OUT.name}/half"]  # fmt: skip
    recipe = load_recipe("digits", words)

    def kill(state: object, _: object) -> None:
        if getattr(state, "epoch", 0) == 2:
            raise _EnoughError

    folder = Path(OUT.name) / "half-run"
    with contextlib.suppress(_EnoughError):
        run_recipe(recipe, recipe, folder=folder, on_epoch=kill)
    return folder


@functools.cache
def warm_up() -> None:
    """Load every library that an attempt may need: once a limit holds, they do not fit any more."""
    import onnx
    import onnxruntime
    import torchvision.datasets
    import torchvision.transforms.v2  # noqa: F401

    from .kind import command

    assert onnx
    assert onnxruntime
    run, half = base_run(), half_run()
    assert (half / "state" / "state.pt").is_file()
    folder = Path(OUT.name) / "images"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}{i}.png")
    command("inspect", folder)
    command("evaluate", run)
    command("report", run, f"out={OUT.name}/report.html")
    command("predict", run, folder / "a")
    for kind in ("onnx", "weights"):
        command("export", run, kind, f"to={OUT.name}/export/")


def exported(name: str) -> bytes:
    """Return an exported file, ``model.onnx`` or ``model.safetensors``."""
    return (Path(OUT.name) / "export" / name).read_bytes()
