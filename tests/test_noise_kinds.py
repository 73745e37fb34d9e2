"""Kinds of noise: what each one is, where it is put in, and that a run with it can go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import purenoise as pn
from purenoise import prepare as preparing
from purenoise.augment import build_augment
from purenoise.data.digits import load_digits
from purenoise.data.outside import load_outside, outside_paths, outside_sha256
from purenoise.errors import DataError, RecipeError, RunError
from purenoise.feed import Feed
from purenoise.fitting import make_ready, phases_of
from purenoise.network import network
from purenoise.noise import noise_images, shuffle_pixels, uniform_images
from purenoise.noisesource import (
    N_PATCHES,
    NoiseSource,
    check_source,
    noise_fingerprint,
    noise_pool,
)
from purenoise.plan import StepPlan, plan_epoch
from purenoise.prepare import Prepared, placed, prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.runtime import PIXELS, generator, stream_seed
from purenoise.training import Fit, Interrupted, State

KINDS = ["noise=normal", "noise=uniform", "noise=shuffled",
         "noise={kind: images, source: photographs}", "noise.space=normalized",
         "noise={space: normalized, clip: false}"]  # fmt: skip
SHORT = ("epochs=2", "batch_size=128", "warmup=0", "defer=0.5")


pytestmark = pytest.mark.usefixtures("one_thread")


def recipe_of(*changes: str) -> Recipe:
    """Return the digits recipe for two short epochs, the second with noise."""
    return load_recipe("digits", [*SHORT, *changes])


def source_of(recipe: Recipe, data: Prepared, dtype: torch.dtype = torch.float64) -> NoiseSource:
    """Return the noise of a recipe."""
    feed = Feed(data.dataset.train, torch.device("cpu"))
    return NoiseSource(recipe.noise, data, feed, dtype, recipe.seed)


def rows_of(
    source: NoiseSource, plans: list[StepPlan], epoch: int, first_step: int = 0
) -> list[Tensor | None]:
    """Return the noise rows of an epoch's steps, None for a step without, from a step on."""
    steps = range(first_step, len(plans))
    with source.reading(plans, epoch, first_step):
        return [source.rows(m, epoch, s) if (m := plans[s].n_noise) else None for s in steps]


def drawn(
    recipe: Recipe, first_step: int = 0
) -> tuple[list[StepPlan], list[Tensor | None], Prepared]:
    """Return plans and noise rows of the second epoch, from a step on."""
    data = prepare(recipe.data)
    plans = plan_epoch(phases_of(recipe, data)[-1], 1, recipe.train.batch_size, recipe.seed)
    return plans, rows_of(source_of(recipe, data), plans, 1, first_step), data


# What each kind is


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


# What reaches the network


def pixels(rows: Tensor, data: Prepared) -> Tensor:
    """Undo the normalisation, channel by channel."""
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (data.mean, data.std)
    )
    return rows.double() * std + mean


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


# Training


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


def folder(root: Path, n: int = 5, size: int = 20) -> Path:
    """Write some colour images, one of them further down and one in grey."""
    for i in range(n):
        values = np.random.default_rng(i).integers(0, 256, (size, size + 3, 3), dtype=np.uint8)
        path = root / ("deep" if i == 0 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).convert("L" if i == 1 else "RGB").save(path)
    (root / "notes.txt").write_text("no image")
    return root


def test_a_folder_of_images(tmp_path: Path):
    """All images at any depth are loaded, by the project's decoder, in the order of their names."""
    place = folder(tmp_path / "out")
    assert outside_paths(place) == ("1.png", "2.png", "3.png", "4.png", "deep/0.png")
    for channels in (1, 3):
        assert load_outside(place, (channels, 8, 8)).shape == (5, channels, 8, 8)
    before = outside_sha256(place)
    (place / "3.png").write_bytes((place / "2.png").read_bytes())
    assert outside_sha256(place) != before


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


def test_rows_of_a_folder_are_its_images(tmp_path: Path):
    """Every row is an image of the folder; a limit on its bytes reaches the loader."""
    place = folder(tmp_path / "out")
    recipe = recipe_of(f"noise={{kind: images, source: {place}}}")
    _, found, data = drawn(recipe)
    loaded = load_outside(place, (1, 8, 8))
    assert np.array_equal(noise_pool(recipe.noise, (1, 8, 8)), loaded)
    rows = (pixels(found[0], data) * 255).round().to(torch.uint8).numpy()
    assert {row.tobytes() for row in rows} <= {image.tobytes() for image in loaded}
    feed = Feed(data.dataset.train, torch.device("cpu"))
    with pytest.raises(DataError, match=r"data\.memory_mib"):
        NoiseSource(recipe.noise, data, feed, torch.float32, 0, limit=10)


def test_the_files_that_stand_in_for_noise_have_a_hash(tmp_path: Path):
    """Noise that is drawn has none, the photographs their name, a folder that of its files."""
    place = folder(tmp_path / "out")
    expected = {"noise=normal": None, "noise=shuffled": None, KINDS[3]: "photographs",
                f"noise={{kind: images, source: {place}}}": outside_sha256(str(place))}  # fmt: skip
    for change, found in expected.items():
        noise = recipe_of(change).noise
        assert noise_fingerprint(noise) == found
        check_source(noise)
    with pytest.raises(DataError, match="There is no folder"):
        check_source(recipe_of(f"noise={{kind: images, source: {tmp_path}/none}}").noise)


def test_faults_of_a_folder_get_a_sentence(tmp_path: Path):
    """A missing or empty folder, a broken image and too many images are refused."""
    with pytest.raises(DataError, match="There is no folder"):
        load_outside(tmp_path / "none", (1, 8, 8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        check_source(
            load_recipe("digits", [f"noise={{kind: images, source: {tmp_path}/empty}}"]).noise
        )
    place = folder(tmp_path / "out")
    with pytest.raises(DataError, match=r"data\.memory_mib"):
        load_outside(place, (1, 8, 8), limit=5 * 64 - 1)
    (place / "2.png").write_bytes((place / "2.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"2\.png' cannot be used: a broken"):
        load_outside(place, (1, 8, 8))


def test_training_on_images_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run takes a relative folder, keeps its whole path, and sees it if the images change."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "out")
    given = {
        "epochs": 2,
        "batch_size": 128,
        "threads": 1,
        "noise": {"kind": "images", "source": "out"},
    }
    run = pn.train("digits", **given)
    kept = load_recipe(str(run.folder)).noise
    assert kept.source == str(tmp_path / "out")
    again = pn.train("digits", **given)
    assert not again.trained
    assert again.folder == run.folder
    (run.folder / "summary.json").unlink()
    (tmp_path / "out" / "4.png").unlink()
    with pytest.raises(RunError, match="begun with noise_images"):
        pn.train("digits", **given)


def test_kinds_have_folders_of_their_own(tmp_path: Path):
    """A run with another kind of noise lies beside the plain one, and finishes."""
    given = {"epochs": 2, "batch_size": 128, "threads": 1, "out": str(tmp_path)}
    runs = [pn.train("digits", **given, **more) for more in ({}, {"noise": "uniform"})]
    assert len({run.folder for run in runs}) == 2
    assert json.loads((runs[1].folder / "summary.json").read_text())["status"] == "finished"


# Recipes


def test_hashes_of_recipes_that_were_there_before():
    """Recipes that say nothing of noise kinds, stages or adjustments keep their hash and folder."""
    before = {
        "digits": "08e2c6e69c77be2692fa70531a4f714e73070953fd571889144b7aa78345b52f",
        "cifar10-lt": "239a420518b803d076df91d596c64ad5b4a87977b94f7638ef016114a99fd8f2",
        "cifar10-lt-open": "88a2588f18abe6048929842a4f5252594272d21d61aa9de4ca92af764e40b96c",
    }
    assert {name: load_recipe(name).digest() for name in before} == before
    same = load_recipe("digits", ["noise=normal", "batch_norm=dar"])
    assert same.digest() == before["digits"]


@pytest.mark.parametrize("change", [*KINDS[1:], "batch_norm=shared", "batch_norm=auxiliary"])
def test_every_kind_has_a_hash_and_survives_its_yaml(change: str, tmp_path: Path):
    """Another kind is another recipe, and a recipe written out loads to the same one."""
    recipe = load_recipe("digits", [change])
    assert recipe.digest() != load_recipe("digits").digest()
    path = tmp_path / "r.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(str(path)).digest() == recipe.digest()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["noise_kind=uniform"], "unknown key 'noise_kind'. Did you mean 'noise.kind'?"),
        (["noise=unifrom"], "Did you mean 'uniform'?"),
        (["noise=images"], "add noise.source=photographs or noise.source=FOLDER"),
        (["source=x"], "source has a meaning only with kind=images"),
        (["noise=uniform", "space=normalized"], "space and clip have a meaning only with"),
        (["noise=shuffled", "clip=false"], "space and clip have a meaning only with"),
        (["batch_norm=shared", "stop_gradient=none"], "only with batch_norm=dar"),
        (["batch_norm=auxiliary", "speed.step=masked"], "go with batch_norm=dar only"),
        (["batch_norm=auxiliary", "compile=force"], "go with batch_norm=dar only"),
        (["batch_norm=auxilary"], "Did you mean 'auxiliary'?"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(changes: list[str], sentence: str):
    """Wrong names, and settings without a meaning, are refused with what to do."""
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", changes)
    assert sentence in caught.value.message


def test_a_source_keeps_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder is kept by its whole path, the photographs and a missing folder as they are."""
    folder(tmp_path / "out")
    monkeypatch.chdir(tmp_path)

    def kept(source: str) -> str | None:
        changed = load_recipe("digits", [f"noise={{kind: images, source: {source}}}"])
        return placed(changed).noise.source

    assert kept("out") == str(tmp_path / "out")
    assert [kept("photographs"), kept("none")] == ["photographs", "none"]


# Constants of normalisation, subsets and augmentations that ablations need


def test_constants_are_customary_or_those_of_the_long_tailed_set(monkeypatch: pytest.MonkeyPatch):
    """`auto` takes a data set's customary constants, `data` those of the cut training set."""
    customary = ((0.3,), (0.2,))
    digits = replace(load_digits(), normalize=customary)
    monkeypatch.setattr(preparing, "load_data", lambda *_: digits)
    found = prepare(load_recipe("digits", ["normalize=auto"]).data)
    assert (found.mean, found.std) == customary
    cut = prepare(load_recipe("digits", ["normalize=data"]).data)
    values = (
        cut.dataset.train.images.load(np.arange(len(cut.dataset.train))).astype(np.float64) / 255
    )
    assert cut.mean == pytest.approx([values.mean()])
    assert cut.std == pytest.approx([values.std()])
    assert cut.noise_mean == cut.mean
    assert found.noise_mean == cut.noise_mean
    whole = digits.train.images.load(np.arange(len(digits.train))).astype(np.float64) / 255
    assert cut.mean != pytest.approx([whole.mean()], abs=1e-4)


def test_every_subset_trains_on_other_images(tmp_path: Path):
    """The subsets ldam, first, random and a file are there, with hashes that tell them apart."""
    listed = tmp_path / "indices.txt"
    listed.write_text("\n".join(map(str, range(0, 1297, 4))))
    subsets = ["ldam", "first", "random", str(listed)]
    found = [prepare(load_recipe("digits", [f"subset={name}"]).data) for name in subsets]
    assert len({data.dataset.subset_sha256 for data in found}) == 4
    assert len({tuple(data.counts) for data in found[:3]}) == 1
    assert found[3].counts.sum() == 325


def test_the_papers_augmentation_ladder_is_there():
    """Each step of the paper's ladder of augmentations is a policy, and adds to the one before."""
    ladder = ["flip-crop", "flip-crop-cutout", "open"]
    names = [
        load_recipe("digits", [f"augment={p}"]).augment.policy for p in [*ladder, "autoaugment"]
    ]
    assert names == [*ladder, "autoaugment"]
    said = [build_augment(p, (3, 32, 32), flip=True).describe() for p in ladder]
    steps = [text.partition(": ")[2] for text in said]
    assert steps[1].startswith(steps[0])
    assert steps[2].startswith(steps[1])
