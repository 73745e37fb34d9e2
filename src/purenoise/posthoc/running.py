"""What a finished run would say for other class shares, without training it again.

Four adjustments. Two take their strength from the user (:mod:`purenoise.posthoc.heads`): logit
adjustment (Menon et al. 2021) and tau-normalisation (Kang et al. 2020). Two are fitted on the run's
validation images (:mod:`purenoise.posthoc.fitting`): temperature (Guo et al. 2017) and class
offsets. The test images are used to measure, never to fit; only ``prior="test"`` reads their
labels, and says so.

The run is left as it is: results go to ``RUN/adjusted/METHOD-HASH/``, with the predictions and a
summary in the shape of a run's.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from purenoise.checkpoint import save_weights
from purenoise.combining import counters
from purenoise.errors import RecipeError, RunError, did_you_mean
from purenoise.evaluate import predict_logits
from purenoise.metrics import evaluate_logits
from purenoise.network import load_run
from purenoise.posthoc.change import Change, Logits
from purenoise.posthoc.fitting import fit_offsets, fit_temperature
from purenoise.posthoc.heads import check_tau, prior_shift
from purenoise.posthoc.priors import Prior, read_prior
from purenoise.predictions import are_of, read_predictions, write_predictions
from purenoise.prepare import Prepared, check_unchanged, prepare
from purenoise.recipe import Recipe
from purenoise.runlinks import refuse_links
from purenoise.runlog import RunFolder

# What each adjustment takes.
METHODS: dict[str, tuple[str, ...]] = {
    "logit-adjustment": ("tau", "prior"),
    "tau-norm": ("tau",),
    "temperature": ("prior",),
    "offsets": ("prior", "l2"),
}
LEAVE = " tau=0 leaves them out of the adjustment, and offsets fit its strength."
MANY = 500  # validation images that tell a temperature well
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Adjusted:
    """A run after an adjustment.

    Args:
        folder: Where predictions and summary lie, inside the run's folder.
        summary: In the shape of a run's, with ``adjusted`` and ``base``.
        before: Metrics of the run itself on the same test images.
        notes: What a reader has to know, one sentence each.
    """

    folder: Path
    summary: dict[str, Any]
    before: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics on the test images after the adjustment."""
        return dict(self.summary["test"])


def adjust_run(
    run: str | Path,
    method: str = "logit-adjustment",
    *,
    tau: float | None = None,
    prior: Prior | None = None,
    l2: float | None = None,
    save: str | Path | None = None,
) -> Adjusted:
    """Adjust a finished run to other class shares, and measure it.

    Args:
        run: Its folder.
        method: ``logit-adjustment``, ``tau-norm``, ``temperature`` or ``offsets``.
        tau: Strength of the first two, from 0 on; None: 1.
        prior: Class shares where the network will be used (not for tau-norm): ``uniform``, which
            is the default, ``train``, ``test``, numbers, a mapping from class names, or a file.
        l2: Penalty of ``offsets``; None: 1.
        save: File to write the adjusted network to, as plain weights (safetensors).

    Returns:
        The adjusted run; ``metrics`` and ``before`` are what changed.

    Raises:
        PureNoiseError: If the run is not finished or has no test images, the method or one of its
            settings is not known, or there are no validation images to fit on.

    Example:
        >>> import purenoise as pn
        >>> found = pn.adjust_run("runs/digits/erm/seed-0", "offsets")  # doctest: +SKIP
        >>> found.before["balanced_accuracy"], found.metrics["balanced_accuracy"]  # doctest: +SKIP
    """
    if method not in METHODS:
        raise RecipeError(f"There is no adjustment {method!r}.", f"{did_you_mean(method, METHODS)}")
    given = {k: v for k, v in (("tau", tau), ("prior", prior), ("l2", l2)) if v is not None}
    _check_settings(method, given)
    target = _check_save(save)
    refuse_links(Path(run), "adjusted")
    work = _Work(Path(run), method, given)
    change = work.change()
    folded = None if target is None else work.folded(change)
    return work.write(change, folded, target, _command(run, method, given, save))


def _check_settings(method: str, given: dict[str, Any]) -> None:
    for key in given:
        if key not in METHODS[method]:
            owners = [name for name, keys in METHODS.items() if key in keys]
            raise RecipeError(
                f"{method} takes no {key}: it belongs to {', '.join(owners)}.",
                f"It takes {', '.join(METHODS[method])}.",
            )
    if "tau" in given:
        check_tau(given["tau"])


def _check_save(save: str | Path | None) -> Path | None:
    if save is None:
        return None
    path = Path(save)
    if path.suffix != SUFFIX:
        raise RecipeError(f"Weights go to a {SUFFIX} file, got {str(path)!r}.")
    if path.exists():
        raise RunError(f"{path} exists; it was left as it is.", "Name another file.")
    return path


class _Work:
    """One run, one adjustment."""

    def __init__(self, run: Path, method: str, given: dict[str, Any]) -> None:
        self.run, self.method, self.given = run, method, given
        self.recipe, self.base, self.model = load_run(run)
        if self.base["test"] is None:
            raise RunError(f"{run} has no test images, so nothing can be measured.")
        self.counts = np.array(self.base["counts"])
        self.shape = tuple(self.base["image_shape"])
        self.z, self.y = self._test_logits()
        test = np.bincount(self.y, minlength=len(self.counts))
        names = self.base["class_names"]
        wanted = given.get("prior", "uniform")
        self.prior_name, self.prior = read_prior(wanted, names, self.counts, test)

    @cached_property
    def data(self) -> Prepared:
        """The run's images, which must be those that it was trained with."""
        data = prepare(self.recipe.data)
        check_unchanged(self.base, data.dataset, self.recipe.data, self.run)
        return data

    def _test_logits(self) -> tuple[Logits, NDArray[np.int64]]:
        """What the run said of its test images, from its folder."""
        path = RunFolder(self.run).predictions
        z, y = read_predictions(path)
        if z.shape != (self.base["n_test"], len(self.counts)):
            raise RunError(f"{path} is not of this run: it has shape {z.shape}.")
        if not are_of(self.base["test"], z, y, self.base["counts"]):
            raise RunError(
                f"{path} is not of this run: it does not give the run's result.",
                "Put the run's own file back, or train it again.",
            )
        return z, y

    def _validation(self) -> tuple[Logits, NDArray[np.int64]]:
        """Logits and labels of validation images."""
        if not self.base["n_val"]:
            raise RunError(
                f"{self.run} has no validation images, and {self.method} is fitted on them; "
                "fitted on test images it would measure itself.",
                "Train with val_fraction=0.1, which sets a tenth of the training images aside.",
            )
        split = self.data.dataset.val
        assert split is not None
        z = predict_logits(self.model, split.images, self.data.mean, self.data.std)
        return z, split.labels

    def change(self) -> Change:
        """Work out what is to be done; the test images are not looked at."""
        tau = float(self.given.get("tau", 1.0))
        if self.method == "tau-norm":
            did = counters(self.recipe.resolved_method())
            said = f"This run counters the imbalance already ({', '.join(did)})."
            return Change(tau=tau, notes=(said,) if did else ())
        if self.method == "logit-adjustment":
            shift = prior_shift(self.counts, self.prior, tau)
            return Change(shift=_centred(shift), notes=_unusual(self.recipe, LEAVE))
        z, y = self._validation()
        if self.method == "temperature":
            found = fit_temperature(z, y, self.prior)
            notes: tuple[str, ...] = ()
            if not found.determined:
                notes = ("The validation images determine no temperature; nothing was changed.",)
            elif len(y) < MANY:
                notes = (f"Fitted on {len(y)} validation images, which is few for a temperature.",)
            return Change(temperature=found.value, fitted=asdict(found), notes=notes)
        offsets = fit_offsets(z, y, self.counts, self.prior, float(self.given.get("l2", 1.0)))
        names = [self.base["class_names"][c] for c in offsets.without_images]
        notes = (f"Without validation images, by logit adjustment alone: {', '.join(names)}.",)
        return Change(shift=offsets.values, fitted=asdict(offsets), notes=notes if names else ())

    def folded(self, change: Change) -> nn.Module:
        """Return the adjusted network, compared with what it should say."""
        model = change.fold(self.model, self.shape)
        first = next(model.parameters())
        x = torch.linspace(-1, 1, 4 * math.prod(self.shape), dtype=first.dtype)
        with torch.no_grad():
            x = x.view(4, *self.shape)
            plain, own = self.model(x).numpy(), model(x).numpy()
        if change.tau is None and not np.allclose(change.to_logits(plain), own, 1e-3, 1e-3):
            raise RunError("The adjusted network does not say what it should; nothing was written.")
        return model

    def _adjusted(self, change: Change) -> NDArray[np.float32]:
        """Logits of the test images after the change."""
        if change.tau is None:
            return change.to_logits(self.z)
        model, images = change.fold(self.model, self.shape), self.data.dataset.test.images
        return predict_logits(model, images, self.data.mean, self.data.std)

    def write(
        self, change: Change, folded: nn.Module | None, target: Path | None, command: str
    ) -> Adjusted:
        """Measure, and write predictions, weights and, last of all, the summary."""
        after = self._adjusted(change)
        before, metrics = (evaluate_logits(z, self.y, self.counts) for z in (self.z, after))
        shares = self.prior.tolist()
        settings = {
            "method": self.method,
            **self.given,
            "prior": shares,
            "run": self.base["digest"],
        }
        name = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        folder = self.run / "adjusted" / f"{self.method}-{name.hexdigest()[:8]}"
        notes = list(change.notes)
        if self.prior_name == "test":
            notes.append("The prior is that of the test labels: a bound, unless you know it.")
        tau = float(self.given.get("tau", 1.0)) if "tau" in METHODS[self.method] else None
        adjusted = {
            "method": self.method, "tau": tau, "prior": {"name": self.prior_name, "shares": shares},
            "temperature": change.temperature, "shift": change.shift, "fitted": change.fitted,
            "before": before, "notes": notes, "weights": str(target) if target else None,
            "accuracy_at_prior": {
                "before": _at(before, self.prior), "after": _at(metrics, self.prior),
            },
        }  # fmt: skip
        summary = self.base | {
            "method": f"{self.base['method']}:{self.method}", "command": command, "test": metrics,
            "val": None, "selection": self.base["selection"], "adjusted": adjusted,
            "optimistic_best_on_test": {"accuracy": None, "epoch": None},
            "base": {"folder": "../..", **{k: self.base[k] for k in _BASE}},
        }  # fmt: skip
        if folded is not None and target is not None:
            save_weights(target, folded, {"adjusted": settings})
        write_predictions(folder / "predictions.npz", after, self.y)
        RunFolder(folder).write_summary(summary)
        return Adjusted(folder, summary, before, tuple(notes))


_BASE = ("recipe", "method", "seed", "digest", "command")


def _at(metrics: dict[str, Any], prior: NDArray[np.float64]) -> float | None:
    """Accuracy for test images with these class shares; None if a class has none."""
    if any(v is None for v in metrics["per_class"]):
        return None
    return float(prior @ np.array(metrics["per_class"]))


def _centred(shift: NDArray[np.float64]) -> tuple[float, ...]:
    """A shift of all logits by one number changes nothing; without it numbers stay small."""
    return tuple((shift - shift.mean()).tolist())


def _unusual(recipe: Recipe, hint: str) -> tuple[str, ...]:
    """Say what a run did that already counters the class shares of its training images."""
    method = recipe.resolved_method()
    did = counters(method)
    did += ["it was adjusted when it was trained"] * (method.post is not None)
    if not did:
        return ()
    why = ", ".join(did)
    return (
        f"This run counters the imbalance already ({why}), so it holds less of the training's "
        f"class shares than is assumed here.{hint}",
    )


def _command(run: str | Path, method: str, given: dict[str, Any], save: str | Path | None) -> str:
    words = ["purenoise", "adjust", str(run), f"method={method}"]
    words += [f"{key}={value}" for key, value in given.items()]
    return shlex.join([*words, *([f"save={save}"] if save else [])])
