"""What a scikit-learn classifier does when it is fitted: parameters to a recipe, recipe to a model.

The same parts as a run from the command line (:mod:`purenoise.experiment`), in the same order, but
nothing is written unless a folder is asked for. Faults speak of the classifier's parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import nn

from purenoise.augment import build_augment
from purenoise.conversion import revert
from purenoise.data.decode import available_cores
from purenoise.data.types import Dataset
from purenoise.errors import ModelError, RecipeError, RunError, TrainingError
from purenoise.eventlog import is_of_another
from purenoise.experiment import run_recipe
from purenoise.faults import sentences
from purenoise.fitting import make_plain, make_ready, phases_of
from purenoise.models.libraries import ChannelsError
from purenoise.network import lay_out, load_run, network
from purenoise.overrides import plain
from purenoise.prepare import Prepared, prepare_dataset
from purenoise.recipe import Recipe
from purenoise.runlog import RunFolder, read_events
from purenoise.runtime import resolve_device, resolve_threads, torch_settings
from purenoise.speed import resolve_speed
from purenoise.training import Fit, Listener

# Where in a recipe each parameter stands.
PLACES = {
    "model": "model.name",
    "method": "method",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "optimizer": "train.optimizer",
    "lr": "train.lr",
    "momentum": "train.momentum",
    "weight_decay": "train.weight_decay",
    "schedule": "train.schedule",
    "warmup": "train.warmup",
    "defer": "defer",
    "delta": "delta",
    "stop_gradient": "stop_gradient",
    "augment": "augment.policy",
    "val_fraction": "data.val_fraction",
    "device": "device",
}
SET_ELSEWHERE = {"random_state": "seed", "threads": "threads"}
LOGGED = {"event", "time"}  # what a log adds to a record


class Fitted(NamedTuple):
    """A trained network and how it came about.

    Args:
        model: Plain, in evaluation mode, on the CPU.
        history: One record per epoch.
        constants: Mean and deviation per channel that normalise images.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    constants: tuple[tuple[float, ...], tuple[float, ...]]


def recipe_from(parameters: Mapping[str, Any], seed: int, threads: int | str | None) -> Recipe:
    """Return the recipe that a classifier's parameters stand for.

    Args:
        parameters: A value for each name in ``PLACES``.
        seed: Of the run.
        threads: As in a recipe; None: as many as torch uses now.

    Raises:
        RecipeError: Naming every parameter that cannot be used.
    """
    if threads is None:
        threads = min(torch.get_num_threads(), available_cores())
    content: dict[str, Any] = {
        "name": "classifier", "seed": seed, "threads": plain(threads),
        "data": {"name": "folder", "split_seed": seed, "cache": "off"},
    }  # fmt: skip
    for name, place in PLACES.items():
        section, dot, key = place.partition(".")
        here = content.setdefault(section, {}) if dot else content
        here[key if dot else section] = plain(parameters[name])
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        faults = [_by_parameter(fault) for fault in sentences(error, Recipe)]
    raise RecipeError(
        f"OPeNClassifier has {len(faults)} parameter{'s' * (len(faults) > 1)} that cannot be "
        "used:\n" + "\n".join(f"  - {fault}" for fault in faults),
        "Its docstring lists what is allowed.",
    )


def fit_dataset(
    recipe: Recipe, dataset: Dataset, listener: Listener, out: str | Path | None = None
) -> Fitted:
    """Train a network on images in memory.

    Args:
        recipe: From :func:`recipe_from`.
        dataset: The training images; test images may be none.
        listener: Called with every event.
        out: Folder of a run, written as by the command line; None: nothing is written.

    Raises:
        PureNoiseError: Any fault of the data, the model, the folder or the training.
    """
    data = prepare_dataset(dataset, recipe.data)
    try:
        if out is None:
            return _in_memory(recipe, data, listener)
        return _in_folder(recipe, data, listener, Path(out))
    except ChannelsError as error:
        raise ModelError(error.message, _three_channels(dataset.image_shape)) from error
    except TrainingError as error:
        raise TrainingError(error.message, "Try a lower lr, or a warmup of some epochs.") from error
    except ValueError as error:
        if "more than 1 value" not in str(error):
            raise
        raise TrainingError(
            "A batch has one natural image, too few for the batch norm of so small a network.",
            "Give more training images or a larger batch_size.",
        ) from error


def _three_channels(shape: Sequence[int]) -> str:
    """What to do if a model takes three channels only."""
    channels, height, width = shape
    colour = "images of shape (N, H, W, 3)"
    if channels == 1:
        colour = f"np.repeat(X.reshape(-1, {height}, {width}, 1), 3, axis=-1) without image_shape"
    return (f"Give {colour}, or choose a model of timm or one of our own, which take any number of "
            "channels.")  # fmt: skip


def on_device(model: nn.Module, name: str) -> nn.Module:
    """Return a network on the device where a classifier predicts, leaving the given one alone."""
    device = resolve_device(name)
    return model if device.type == "cpu" else copy.deepcopy(model).to(device)


def _in_memory(recipe: Recipe, data: Prepared, listener: Listener) -> Fitted:
    """Do what :mod:`purenoise.experiment` does, without its files."""
    device, threads = resolve_device(recipe.device), resolve_threads(recipe.threads)
    with torch_settings(threads, device, deterministic=recipe.deterministic,
                        tell=lambda text: listener("warning", {"text": text})):  # fmt: skip
        switches = resolve_speed(recipe.speed, device, recipe.precision)
        phases = phases_of(recipe, data)
        model = network(recipe, data).to(device)
        if switches.channels_last:
            lay_out(model)
        shape = data.dataset.image_shape
        _check_size(model, shape, recipe.model.name)
        notes = make_ready(model, recipe, phases, data)
        augment = build_augment(recipe.augment.policy, shape, flip=data.dataset.mirror_safe)
        fit = Fit(recipe, data, model, phases, augment, switches, listener=listener)
        for text in (*switches.warnings, *fit.warm_up(), *notes):
            listener("warning", {"text": text})
        history = fit.run()
        make_plain(model, recipe, phases, data)
    return Fitted(revert(model).cpu().eval(), history, (data.mean, data.std))


def _in_folder(recipe: Recipe, data: Prepared, listener: Listener, out: Path) -> Fitted:
    """Train in a run folder, go on with the run that is there, or read the one that is finished."""
    done = RunFolder(out).summary()
    # The run itself would look for changed files, and these images lie in memory.
    if done is not None and done.get("fingerprint") != data.dataset.fingerprint:
        raise RunError(
            f"{out} holds a finished run of other images or labels than X and y.",
            "Choose another folder for out, or move that one away.",
        )
    _check_size(network(recipe, data), data.dataset.image_shape, recipe.model.name)
    run_recipe(recipe, recipe, listeners=[listener], folder=out, data=data)
    _, _, model = load_run(out)
    events = read_events(RunFolder(out).events)
    if is_of_another(events, recipe.digest()):
        listener("warning", {"text": f"{out}/events.jsonl is of another run: history_ is empty."})
        events = []
    records = [event for event in events if event["event"] == "epoch"]
    epochs = [{k: v for k, v in record.items() if k not in LOGGED} for record in records]
    return Fitted(model, epochs, (data.mean, data.std))


def _check_size(model: nn.Module, shape: Sequence[int], name: str) -> None:
    """Refuse images that a network cannot take, before it is trained on them."""
    first = next(model.parameters())
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, *shape, dtype=first.dtype, device=first.device))
    except (RuntimeError, ValueError, AssertionError) as error:  # timm asserts
        channels, height, width = shape
        raise ModelError(
            f"{name} cannot take images of {height} x {width} pixels with channels: {channels}; "
            f"{str(error).splitlines()[0]}",
            "Take larger images or another model; small_cnn takes 4 x 4 pixels and more.",
        ) from error
    finally:
        model.train(was_training)


def _by_parameter(fault: str) -> str:
    """Name a fault's key as the classifier does."""
    for name, place in (PLACES | SET_ELSEWHERE).items():
        if fault.startswith(f"{place}: "):
            return name + fault.removeprefix(place)
    return fault
