"""A method in words: what it learns from in each phase, what noise is, where its gradients stop.

What has no words here is shown as the recipe has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from purenoise.headspec import HeadSpec, PostSpec
from purenoise.lab.records import Record
from purenoise.methodfile import LossSpec, MixSpec, PhaseSpec
from purenoise.methods import Span, mixing_epochs, phase_spans
from purenoise.noisesection import Noise

COLUMNS = ("loss", "phases", "noise", "gradients of noise stop at", "batch norm of noise")
SAMPLERS = {
    "instance": "draws every image once an epoch",
    "class-balanced": "draws all classes equally often",
    "square-root": "draws classes by the square root of their sizes",
    "effective-number": "draws images by the effective number of their class",
    "progressive": "goes from every image once an epoch to all classes equally often",
}
WEIGHTS = {"effective-number": "classes weigh by their effective number"}
NOISE = {"open": "some images become noise", "augment": "noise images come on top"}
LEARNS = {
    "all": "",
    "head": "only the last layer learns",
    "scale": "only one factor per class learns",
}
PRIORS = {"all": "prior of all rows", "natural": "prior of natural rows"}
OPTIONS = {
    "label_smoothing": "label smoothing", "max_m": "largest margin", "s": "scale",
    "head": "smoothing of the largest class", "tail": "of the smallest",
}  # fmt: skip
TAKEN_OUT = {
    "train": "the class shares of the training images",
    "sampled": "the class shares that the last phase saw",
}
KINDS = {
    "normal": "",
    "uniform": "uniform noise",
    "shuffled": "training images with shuffled pixels",
    "images": "other images",
}
ONE_TO_FOUR = "one noise image to four natural ones"
STOPS = {
    "branch": "every batch norm",
    "affine": "scale and shift of batch norms",
    "none": "nowhere",
}
BATCH_NORMS = {"dar": "DAR"}
WITHOUT_PRIOR = ("tau-norm", "temperature")  # adjustments that ask for no class shares


def described(record: Record) -> tuple[str, ...]:
    """Describe a run's method: loss, phases, noise, where its gradients stop, and its batch norm.

    The last three are empty without noise.
    """
    method, recipe = record.recipe.resolved_method(), record.recipe
    phases = _phases(phase_spans(method, recipe.train.epochs, recipe.defer))
    if method.post is not None:
        phases += f"; at last {_post(method.post)}"
    if record.adjusted is not None:
        phases += f"; afterwards {_adjusted(record.adjusted)}"
    kinds = {phase.noise for phase in method.phases} - {"none"}
    if not kinds:
        return _loss(method.loss), phases, "", "", ""
    noise = [f"delta {recipe.delta:.4g}" if "open" in kinds else ONE_TO_FOUR]
    noise += _noise(recipe.noise)
    stop = recipe.stop_gradient if recipe.batch_norm == "dar" else "none"
    return (
        _loss(method.loss), phases, ", ".join(noise), STOPS.get(stop, stop),
        BATCH_NORMS.get(recipe.batch_norm, recipe.batch_norm),
    )  # fmt: skip


def _phases(spans: Sequence[Span]) -> str:
    """Describe the phases that a run of this length has."""
    said = [
        _phase(phase, (first, end), window)
        for (phase, first, end), window in zip(spans, mixing_epochs(spans), strict=True)
    ]
    return said[0] if len(said) == 1 else f"first {said[0]}; then {'; then '.join(said[1:])}"


def _phase(phase: PhaseSpec, span: tuple[int, int], mixed: tuple[int, int]) -> str:
    """Describe a phase.

    Args:
        phase: What the method says.
        span: Its first epoch, counted from 0, and the epoch after its last.
        mixed: The same of the epochs of it in which images are mixed.
    """
    parts = [SAMPLERS.get(phase.sampler, phase.sampler)]
    if phase.noise != "none":
        parts.append(NOISE.get(phase.noise, phase.noise))
    if phase.weights != "none":
        parts.append(WEIGHTS.get(phase.weights, phase.weights))
    if phase.mix is not None and mixed[0] < mixed[1]:
        parts.append(
            _mix(phase.mix, "" if mixed == span else f"in epochs {mixed[0] + 1} to {mixed[1]}")
        )
    if phase.loss is not None:
        parts.append(f"with the loss {_loss(phase.loss)}")
    if phase.head is not None:
        parts += _head(phase.head)
    return ", ".join(parts)


def _mix(mix: MixSpec, when: str) -> str:
    found = {key: value for key, value in mix.settings().items() if key != "skip"}
    prob = found.pop("prob")
    said = [f"{k} {_plain(v)}" for k, v in found.items()]
    said += [f"in {100 * prob:g} % of the batches"] * (prob != 1)
    said += [when] * bool(when)
    return f"images are mixed by {mix.name} ({', '.join(said)})"


def _head(head: HeadSpec) -> list[str]:
    parts = ["the last layer is drawn anew"] * head.reset
    parts.append(LEARNS.get(head.learn, head.learn))
    if head.weight_decay is not None:
        parts.append(f"weight decay {head.weight_decay:g}")
    if head.max_norm is not None:
        parts.append(
            f"weight vectors of classes at most {head.max_norm:g} long"
            if head.max_norm_is == "absolute"
            else f"lengths of weight vectors bounded {100 * head.max_norm:g} % of the way from the "
            "shortest to the longest"
        )
    parts += ["by a cosine of its own"] * (head.schedule == "own")
    return [part for part in parts if part]


def _post(post: PostSpec) -> str:
    """Say what is done to the trained network; only logit adjustment has a prior."""
    if post.name == "tau-norm":
        return _tau_norm(post.tau)
    target = "" if post.target is None else f", put in: {_plain(post.target)}"
    taken = TAKEN_OUT.get(post.prior, post.prior)
    return f"{taken} are taken out of the logits (tau {post.tau:g}{target})"


def _tau_norm(tau: float) -> str:
    return (
        "the weight vectors of the last layer are divided by their length to the power of "
        f"{tau:g}, without the bias"
    )


def _adjusted(how: Mapping[str, Any]) -> str:
    """Say what `purenoise adjust` did."""
    if how["method"] == "tau-norm" and how["tau"] is not None:
        return _tau_norm(how["tau"])
    parts = [] if how["tau"] is None else [f"tau {how['tau']:g}"]
    if how["method"] not in WITHOUT_PRIOR:
        parts.append(f"prior {how['prior']['name']}")
    said = f" ({', '.join(parts)})" if parts else ""
    return f"adjusted by {how['method']}{said}"


def _loss(loss: LossSpec) -> str:
    """Name a loss with what was set of it."""
    said = [PRIORS[loss.prior]] if loss.name == "balanced-softmax" else []
    said += [f"{OPTIONS.get(k, k)} {_plain(v)}" for k, v in loss.options().items()]
    return f"{loss.name} ({', '.join(said)})" if said else loss.name


def _noise(noise: Noise) -> list[str]:
    """Say how noise images differ from those of the paper."""
    parts = [KINDS.get(noise.kind, noise.kind)]
    parts += [f"from {noise.source}"] * (noise.source is not None)
    parts += ["put in after normalisation"] * (noise.space == "normalized")
    parts += ["not clipped"] * (not noise.clip)
    return [part for part in parts if part]


def _plain(value: Any) -> str:
    """Write a setting without braces and quotes."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
