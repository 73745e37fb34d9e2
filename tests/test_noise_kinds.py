"""Kinds of noise: what each one is, where it is put in, and that a run with it can go on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from purenoise.augment import build_augment
from purenoise.fitting import make_ready, phases_of
from purenoise.network import network
from purenoise.noise import noise_images, shuffle_pixels, uniform_images
from purenoise.noisesource import (
    N_PATCHES,
    noise_pool,
)
from purenoise.plan import StepPlan, plan_epoch
from purenoise.prepare import prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.runtime import PIXELS, generator, stream_seed
from purenoise.training import Fit, Interrupted, State

from .noisekinds import KINDS, drawn, pixels, recipe_of, rows_of, source_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_uniform_noise_is_uniform():
    """Values lie in [0, 1) with mean 1/2 and variance 1/12 in every channel, independently."""
    rows = uniform_images(200, (3, 16, 16), generator(0)).double()
    assert rows.min() >= 0
    assert rows.max() < 1
    for c in range(3):
        assert rows[:, c].mean().item() == pytest.approx(0.5, abs=0.005)
        assert rows[:, c].var().item() == pytest.approx(1 / 12, abs=0.002)
    pairs = torch.stack(
        [rows[:, 0].flatten(), rows[:, 1].flatten(), rows.roll(1, 3)[:, 0].flatten()]
    )
    assert torch.corrcoef(pairs).fill_diagonal_(0).abs().max() < 0.02


def test_shuffling_moves_whole_pixels():
    """Each image keeps its pixels with all their channels, in an order of its own."""
    images = torch.randint(256, (20, 3, 5, 4), generator=generator(0), dtype=torch.uint8)
    found = shuffle_pixels(images, generator(1))
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    for before, after in zip(images, found, strict=True):
        pixels = [sorted(map(tuple, x.flatten(1).T.tolist())) for x in (before, after)]
        assert pixels[0] == pixels[1]
        assert not torch.equal(before, after)
    same = torch.arange(20).view(1, 1, 5, 4).expand(8, 1, 5, 4)
    assert len({tuple(x.flatten().tolist()) for x in shuffle_pixels(same, generator(2))}) == 8


def test_all_orders_of_pixels_are_equally_likely():
    """Of three pixels each of the six orders comes up a sixth of the time."""
    images = torch.arange(3).view(1, 1, 1, 3).expand(6000, 1, 1, 3)
    orders = shuffle_pixels(images, generator(0)).flatten(1) @ torch.tensor([9, 3, 1])
    _, counts = orders.unique(return_counts=True)
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 5 * (6000 * 1 / 6 * 5 / 6) ** 0.5


def test_unclipped_noise_differs_only_outside():
    """Without clipping the same draws come, and those outside of [0, 1] stay there."""
    clipped = noise_images(50, (8, 8), [0.5], [0.4], generator(3))
    free = noise_images(50, (8, 8), [0.5], [0.4], generator(3), clip=False)
    assert (free < 0).any()
    torch.testing.assert_close(free.clamp(0, 1), clipped)


def test_normal_noise_is_what_it_was():
    """The default draws N(mean, std) of the training pixels from the step's own stream."""
    recipe = recipe_of()
    plans, found, data = drawn(recipe)
    for step, (plan, rows) in enumerate(zip(plans, found, strict=True)):
        draws = generator(stream_seed(0, PIXELS, 1, step))
        expected = noise_images(plan.n_noise, (8, 8), data.noise_mean, data.noise_std, draws)
        torch.testing.assert_close(pixels(rows, data), expected.double())


def test_uniform_rows_are_normalised_like_images():
    """Uniform noise is drawn in [0, 1] and normalised with the constants of the images."""
    plans, found, data = drawn(recipe_of("noise=uniform"))
    for step, (plan, rows) in enumerate(zip(plans, found, strict=True)):
        draws = generator(stream_seed(0, PIXELS, 1, step))
        expected = torch.rand((plan.n_noise, 1, 8, 8), generator=draws).double()
        torch.testing.assert_close(pixels(rows, data), expected)


def test_shuffled_rows_are_training_images_drawn_without_regard_to_classes():
    """Every row has the pixels of a training image; classes come up as often as they are there."""
    recipe = recipe_of("noise=shuffled", "method=noise-augment", "noise.kind=shuffled", "epochs=40")
    data = prepare(recipe.data)
    train, source = data.dataset.train, source_of(recipe, data)
    (phase,) = phases_of(recipe, data)
    owner = {tuple(np.sort(image.ravel())): label for image, label in
             zip(train.images.load(np.arange(len(train))), train.labels, strict=True)}  # fmt: skip
    labels = []
    for epoch in range(40):
        plans = plan_epoch(phase, epoch, 128, 0)
        for rows in rows_of(source, plans, epoch):
            whole = (pixels(rows, data) * 255).round().to(torch.uint8).flatten(1).numpy()
            labels += [owner[tuple(np.sort(row))] for row in whole]
    share = np.bincount(labels, minlength=10) / len(labels)
    expected = data.counts / data.counts.sum()
    assert len(labels) > 2000
    assert np.abs(share - expected).max() < 5 * (0.25 / len(labels)) ** 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_give_patches(channels: int):
    """The photographs give many different patches, in the size and the channels of the images."""
    noise = load_recipe("digits", ["noise={kind: images, source: photographs}"]).noise
    pool = noise_pool(noise, (channels, 8, 6))
    assert pool.shape == (N_PATCHES, channels, 8, 6)
    assert pool.dtype == np.uint8
    assert len({image.tobytes() for image in pool}) > 0.99 * N_PATCHES
    assert 20 < pool.std() < 120


def test_image_rows_are_those_of_the_pool():
    """Each row is one of the pool, normalised; rows are drawn anew in every step."""
    recipe = recipe_of("noise={kind: images, source: photographs}")
    _, found, data = drawn(recipe)
    pool = {image.tobytes() for image in noise_pool(recipe.noise, (1, 8, 8))}
    rows = [(pixels(r, data) * 255).round().to(torch.uint8).numpy() for r in found if r is not None]
    images = [image.tobytes() for step in rows for image in step]
    assert set(images) <= pool
    assert len(set(images)) > 0.8 * len(images)


@pytest.mark.parametrize("clip", [True, False])
def test_noise_after_normalisation_is_the_reproductions(clip: bool):
    """It is N(constants of normalisation), clipped or not, and is not normalised itself."""
    words = ["noise.space=normalized", f"clip={str(clip).lower()}",
             "normalize={mean: [0.4], std: [0.5]}"]  # fmt: skip
    plans, found, data = drawn(recipe_of(*words))
    assert data.noise_mean[0] != pytest.approx(0.4, abs=0.01)
    for step, (plan, rows) in enumerate(zip(plans, found, strict=True)):
        draws = generator(stream_seed(0, PIXELS, 1, step))
        normal = torch.empty((plan.n_noise, 1, 8, 8)).normal_(generator=draws).double() * 0.5 + 0.4
        torch.testing.assert_close(rows, normal.clamp(0, 1) if clip else normal, atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", KINDS)
def test_rows_depend_on_epoch_and_step_alone(change: str):
    """Noise from a later step on is the tail of the epoch's, whatever came before."""
    recipe = recipe_of(change)
    plans, whole, _ = drawn(recipe)
    _, tail, _ = drawn(recipe, first_step=2)
    assert [0 if rows is None else len(rows) for rows in whole] == [p.n_noise for p in plans]
    assert len(tail) == len(whole) - 2
    assert all(torch.equal(a, b) for a, b in zip(tail, whole[2:], strict=True))
    alone = source_of(recipe, prepare(recipe.data)).rows(plans[1].n_noise, 1, 1)
    assert torch.equal(alone, whole[1])


def test_steps_without_noise_have_none():
    """In a phase without noise every step has None, also where images would be read."""
    recipe = recipe_of("noise=shuffled")
    data = prepare(recipe.data)
    plans = plan_epoch(phases_of(recipe, data)[0], 0, 128, 0)
    assert rows_of(source_of(recipe, data), plans, 0) == [None] * len(plans)


def fit_of(recipe: Recipe, **options: object) -> Fit:
    """Return a loop that has not begun."""
    data = prepare(recipe.data)
    phases, model = phases_of(recipe, data), network(recipe, data)
    make_ready(model, recipe, phases, data)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    return Fit(recipe, data, model, phases, augment, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", KINDS)
def test_the_loop_feeds_these_rows(change: str):
    """The rows that reach the network's step are those of the source, in order."""
    recipe = recipe_of(change)
    fit, seen = fit_of(recipe), []
    step = fit.step.__call__

    def watching(natural: Tensor, noise: Tensor | None, *, phase_has_noise: bool) -> Tensor:
        seen.append(None if noise is None else noise.clone())
        return step(natural, noise, phase_has_noise=phase_has_noise)

    watching.warm_up = fit.step.warm_up  # type: ignore[attr-defined]
    fit.step = watching  # type: ignore[assignment]
    fit.run()
    data = prepare(recipe.data)
    plans = plan_epoch(phases_of(recipe, data)[-1], 1, recipe.train.batch_size, recipe.seed)
    expected = rows_of(source_of(recipe, data, torch.float32), plans, 1)
    assert [rows is None for rows in seen[: -len(expected)]] == [True] * (len(seen) - len(expected))
    for found, wanted in zip(seen[-len(expected) :], expected, strict=True):
        assert (found is None) == (wanted is None)
        assert found is None or torch.equal(found, wanted)


@pytest.mark.parametrize("change", KINDS[1:4])
def test_a_resumed_run_ends_the_same(change: str):
    """Stopped in the noise phase and continued, a run ends with the same weights."""
    recipe = recipe_of(change)
    whole = fit_of(recipe)
    whole.run()
    asked, kept = iter([False] * 4 + [True]), list[State]()
    with pytest.raises(Interrupted):
        fit_of(recipe, save=kept.append, should_stop=lambda: next(asked)).run()
    assert (kept[-1].epoch, kept[-1].step) == (1, 2)
    other = fit_of(recipe)
    other.run(kept[-1])
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[name]) for name, v in other.model.state_dict().items())


def test_normal_rows_have_the_statistics_of_the_pixels_not_of_the_normalisation():
    """Other constants of normalisation change how rows are normalised, not what was drawn.

    Rows are as exact as their dtype.
    """
    recipe = recipe_of("normalize={mean: [0.1], std: [0.7]}")
    plans, found, data = drawn(recipe)
    draws = generator(stream_seed(0, PIXELS, 1, 0))
    expected = noise_images(plans[0].n_noise, (8, 8), data.noise_mean, data.noise_std, draws)
    assert data.noise_mean[0] != pytest.approx(0.1, abs=0.05)
    torch.testing.assert_close(found[0], (expected.double() - 0.1) / 0.7, rtol=1e-14, atol=1e-14)


def test_shuffled_rows_are_shuffled():
    """The pixels of a row stand in another order than in the image that they are of."""
    _, found, data = drawn(recipe_of("noise=shuffled"))
    images = data.dataset.train.images.load(np.arange(len(data.dataset.train)))
    whole = {image.tobytes() for image in images}
    rows = (pixels(found[0], data) * 255).round().to(torch.uint8).numpy()
    assert not whole & {row.tobytes() for row in rows}


@pytest.mark.parametrize("change", ["noise=shuffled", KINDS[3]])
def test_images_are_read_ahead_for_the_steps_that_have_noise(
    change: str, monkeypatch: pytest.MonkeyPatch
):
    """From the first step on, steps without noise take no images; afterwards rows are read alone.

    Rows that are asked for outside of an epoch are the same ones.
    """
    recipe = recipe_of(change)
    source = source_of(recipe, prepare(recipe.data))
    none = np.zeros(0, np.int64)
    sizes = (3, 0, 0, 2)
    plans = [StepPlan(none, np.zeros(n, np.int64)) for n in sizes]
    alone = [source.rows(n, 1, step) for step, n in enumerate(sizes)]
    read, asked = source._feed.images, []
    monkeypatch.setattr(source._feed, "images", lambda plan: asked.append(len(plan)) or read(plan))
    with source.reading(plans, 1):
        ahead = [source.rows(n, 1, step) for step, n in enumerate(sizes) if n]
    assert all(torch.equal(a, b) for a, b in zip(ahead, [alone[0], alone[3]], strict=True))
    assert asked == [2]  # once, for both steps
    assert torch.equal(source.rows(3, 1, 0), alone[0])
