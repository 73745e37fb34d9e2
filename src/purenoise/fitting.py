"""A network made ready for what a recipe does with it, and made plain again when it is trained.

Before training: batch norms of the kind that steps with noise need, and a look at whether the model
can do what phases and method ask of its last layer. After: the second batch norms go, and the
method's adjustment (:mod:`purenoise.posthoc.heads`) is folded into the last layer, so that what is
evaluated and saved is a plain network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.auxbn import drop_auxiliary, fit_batch_norm
from purenoise.combining import adjusted_twice
from purenoise.conversion import route
from purenoise.errors import ModelError, RecipeError
from purenoise.finetune import freeze
from purenoise.headspec import PostSpec
from purenoise.headstage import check_heads
from purenoise.methods import Phase, build_phases, statements
from purenoise.modelinput import check_input
from purenoise.noisesource import check_source
from purenoise.posthoc.heads import check_prior, fold_shift, fold_tau, head_of, prior_shift
from purenoise.posthoc.priors import read_prior
from purenoise.prepare import Prepared
from purenoise.recipe import Recipe
from purenoise.speed import Switches
from purenoise.team import Team


def phases_of(recipe: Recipe, data: Prepared) -> list[Phase]:
    """Return the phases of a recipe's method on its data.

    Raises:
        DataError: If a class has no training images.
        RecipeError: If delta is outside [0, 1].
    """
    return build_phases(
        recipe.resolved_method(), data.dataset.train.labels, data.dataset.n_classes,
        epochs=recipe.train.epochs, defer=recipe.defer, delta=recipe.delta, seed=recipe.seed,
    )  # fmt: skip


def make_ready(
    model: nn.Module,
    recipe: Recipe,
    phases: Sequence[Phase],
    data: Prepared,
    team: Team | None = None,
) -> list[str]:
    """Make a plain network ready for training, in place.

    Args:
        model: The network.
        recipe: What will be done with it.
        phases: Of the recipe's method.
        data: Its images.
        team: The processes that share each batch.

    Returns:
        What a user should know, one sentence each.

    Raises:
        DataError: If images that stand in for noise are not there.
        ModelError: If the network cannot do what is asked of it.
    """
    notes = statements(phases)
    shape, name = data.dataset.image_shape, recipe.model.name
    if ":" in name:  # our own take any size
        check_input(model, name, shape, data.dataset.n_classes)
    frozen = freeze(model, recipe.model.train)
    if recipe.model.train != "full":
        notes.append(frozen.sentence(recipe.model.train))
    if any(phase.has_noise for phase in phases):
        check_source(recipe.noise)
        fit_batch_norm(model, recipe.batch_norm, recipe.stop_gradient)
        if not any(isinstance(module, _BatchNorm) for module in model.modules()):
            notes.append(
                "The model has no batch norm: it learns from noise without DAR-BN, as from any "
                "image."
            )
    if team is not None and not team.is_alone:
        route(model, recipe.stop_gradient, synchronise=True)
        notes.append(f"{team.size} processes share each batch; batch norm spans them.")
    check_heads((phase.spec for phase in phases), model, shape)
    post = recipe.resolved_method().post
    if post is not None:
        check_post(post, model, shape)
        target_of(post, data)
    return notes


def make_plain(
    model: nn.Module, recipe: Recipe, phases: Sequence[Phase], data: Prepared
) -> list[str]:
    """Make a trained network plain, in place, and do what the method does to it at last.

    Returns:
        What was done, one sentence each.
    """
    drop_auxiliary(model)
    post, last = recipe.resolved_method().post, phases[-1]
    if post is None:
        return []
    shares = {"train": data.counts, "sampled": last.priors(last.end - 1)["all"]}
    done = [apply_post(post, model, data.dataset.image_shape, shares, target_of(post, data))]
    twice = adjusted_twice(recipe.resolved_method())
    if twice:
        done.append(
            "Logit adjustment assumes plain training, and this method counters the class shares "
            f"already ({', '.join(twice)}): they may have been taken out twice."
        )
    return done


def target_of(post: PostSpec, data: Prepared) -> tuple[str, NDArray[np.float64]] | None:
    """Return name and class shares that logits are to be adjusted to; None: all classes alike.

    Raises:
        RecipeError: If they cannot be read, or do not fit the classes.
    """
    if post.target in (None, "uniform"):
        return None
    dataset = data.dataset
    test = dataset.test.counts(dataset.n_classes)
    return read_prior(post.target, dataset.class_names, data.counts, test)


def refuse_alone_only(recipe: Recipe, switches: Switches) -> None:
    """Refuse what only a process alone can do.

    Raises:
        RecipeError: Naming all of it.
    """
    asked = [
        ("speed.step=masked", switches.step == "masked" and switches.masked_asked),
        ("speed.compile", switches.compile),
        ("batch_norm=auxiliary", recipe.batch_norm == "auxiliary"),
    ]
    found = [name for name, is_on in asked if is_on]
    if found:
        raise RecipeError(
            f"Several processes cannot train one run with {' and '.join(found)}.",
            "Leave it out, or train in one process.",
        )


def check_post(post: PostSpec, model: nn.Module, shape: Sequence[int]) -> None:
    """Refuse, before anything is trained, a model that cannot be adjusted.

    Args:
        post: What is to be done.
        model: Which it will be done to; left as it is.
        shape: Channels, height and width of its images.

    Raises:
        ModelError: If the model does not end in a linear layer, or it lacks a bias that is needed.
    """
    if head_of(model, shape).bias is None and post.name == "logit-adjustment":
        raise ModelError(
            "The last linear layer has no bias, which logit adjustment would go into.",
            "Choose a model whose last layer has a bias.",
        )


def apply_post(
    post: PostSpec,
    model: nn.Module,
    shape: Sequence[int],
    priors: Mapping[str, ArrayLike],
    target: tuple[str, ArrayLike] | None = None,
) -> str:
    """Adjust a trained network, in place.

    Args:
        post: What is to be done.
        model: The network.
        shape: Channels, height and width of its images.
        priors: ``train`` and ``sampled``: class shares, each of shape (C,).
        target: Name and class shares (C,) of logit adjustment's target; None: all alike.

    Returns:
        What was done, in one sentence.

    Raises:
        ModelError: See :func:`check_post`.

    Source: Menon et al. 2021, equation 9; Kang et al. 2020, section 4.
    """
    head = head_of(model, shape)
    if post.name == "tau-norm":
        fold_tau(head, post.tau)
        return f"Weight vectors of the last layer were tau-normalised, tau {post.tau:g}, no bias."
    name, shares = target or ("uniform", None)
    fold_shift(head, prior_shift(check_prior(priors[post.prior]), shares, post.tau))
    to = "" if target is None else f" to the prior '{name}'"
    return f"Logits were adjusted by the prior '{post.prior}'{to}, tau {post.tau:g}."
