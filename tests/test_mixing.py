"""Mixing against the papers' formulas, row by row in float64, and what is planned for it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from purenoise.errors import DataError, RecipeError
from purenoise.losses import build_loss
from purenoise.methodfile import MIX_OPTIONS, Method, MixSpec
from purenoise.mixedlabels import MixedLabels
from purenoise.mixing import MIXERS, cmo, cutmix, mix, mixup, remix

COUNTS = [400, 120, 30, 5]


def drawn(seed: int = 0) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def batch(n: int = 12, size: tuple[int, int] = (6, 10)) -> tuple[Tensor, Tensor]:
    """Return images in float64, every pixel with a value of its own, and labels."""
    pixels = torch.arange(n * 2 * size[0] * size[1], dtype=torch.float64) / 1e4
    return pixels.reshape(n, 2, *size), torch.arange(n) % 4


def partners(images: Tensor, mixed: Tensor, lam: float) -> list[int]:
    """Find, for each row, the image it was mixed with: the one for which the formula holds."""
    found = []
    for row in range(len(images)):
        fits = [
            j
            for j in range(len(images))
            if torch.allclose(mixed[row], lam * images[row] + (1 - lam) * images[j], atol=1e-9)
        ]
        assert len(fits) == 1
        found += fits
    return found


@pytest.mark.parametrize("seed", range(8))
def test_mixup_is_the_formula_with_a_permutation(seed: int) -> None:
    """Rows are lambda x_i + (1 - lambda) x_j, each j once, and labels go with them."""
    images, labels = batch()
    mixed, target = mixup(images, labels, drawn(seed), alpha=0.7)
    assert len(set(target.lam.tolist())) == 1
    j = partners(images, mixed, target.lam[0].item())
    assert sorted(j) == list(range(12))
    assert target.a.tolist() == labels.tolist()
    assert target.b.tolist() == labels[j].tolist()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_follows_the_beta_distribution(alpha: float) -> None:
    """Over many batches lambda is distributed as Beta(alpha, alpha)."""
    images, labels = batch(2, (1, 1))
    generator = drawn(3)
    lams = [mixup(images, labels, generator, alpha=alpha)[1].lam[0].item() for _ in range(800)]
    assert kstest(lams, "beta", args=(alpha, alpha)).pvalue > 1e-3


def remix_share(lam: float, n_a: int, n_b: int, kappa: float, tau: float) -> float:
    """Chou et al. 2020: the share of the label of the first image."""
    if n_a / n_b >= kappa and lam < tau:
        return 0.0
    if n_a / n_b <= 1 / kappa and 1 - lam < tau:
        return 1.0
    return lam


@pytest.mark.parametrize(("kappa", "tau"), [(3.0, 0.5), (1.0, 0.8), (5.0, 1.0), (3.0, 0.0)])
def test_remix_gives_labels_to_the_minority(kappa: float, tau: float) -> None:
    """In both directions the label's share is the paper's rule; the images are those of mixup."""
    images, labels = batch()
    seen = set()
    for seed in range(12):
        mixed, target = remix(images, labels, drawn(seed), counts=COUNTS, kappa=kappa, tau=tau)
        plain, of_image = mixup(images, labels, drawn(seed))
        assert torch.equal(mixed, plain)
        assert torch.equal(target.b, of_image.b)
        for row in range(12):
            lam, a, b = (x[row].item() for x in (of_image.lam, target.a, target.b))
            expected = remix_share(lam, COUNTS[a], COUNTS[b], kappa, tau)
            assert target.lam[row].item() == pytest.approx(expected, abs=1e-12)
            seen.add(expected if expected in (0.0, 1.0) else "lambda")
    assert seen == ({"lambda"} if tau == 0 else {0.0, 1.0, "lambda"})


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["cutmix", "cmo"])
def test_one_box_is_pasted_and_lambda_is_its_area(name: str, seed: int) -> None:
    """Every pixel is the image's or, in one box, the partner's; lambda is the area that is left."""
    images, labels = batch()
    patches, other = images + 1000, labels.flip(0)
    if name == "cmo":
        mixed, target = cmo(images, labels, drawn(seed), patches=patches, patch_labels=other)
        assert target.b.tolist() == other.tolist()
    else:
        mixed, target = cutmix(images, labels, drawn(seed))
    changed = mixed != images  # (n, C, H, W)
    if name == "cmo":
        inside = (mixed == patches)[0, 0]
        assert torch.equal(mixed, torch.where(inside, patches, images))
    else:  # a row that is its own partner shows no box
        inside = changed.any(0).any(0)
        for row in range(12):
            boxed = images[row].where(~inside, images)  # (n, C, H, W): a box of each image
            fits = [j for j in range(12) if torch.equal(mixed[row], boxed[j])]
            assert target.b[row] in labels[fits]
    area = int(inside.sum())
    if area:
        y, x = inside.nonzero().T
        assert area == (y.max() - y.min() + 1) * (x.max() - x.min() + 1)
    assert target.lam.tolist() == pytest.approx([1 - area / 60] * 12)


def test_boxes_have_the_papers_size_and_lie_everywhere() -> None:
    """Uncut boxes have about 1 - lambda of the area, and every pixel is pasted now and then."""
    images, labels = torch.zeros(1, 1, 40, 40), torch.zeros(1, dtype=torch.int64)
    times, share = torch.zeros(40, 40), []
    for seed in range(400):
        generator = drawn(seed)
        mixed, _ = cmo(images, labels, generator, patches=torch.ones_like(images),
                       patch_labels=labels)  # fmt: skip
        times += mixed[0, 0]
        drawn_lambda = mixup(images, labels, drawn(seed))[1].lam[0].item()  # the same first draw
        y, x = mixed[0, 0].nonzero().T
        if len(y) and y.min() > 0 and y.max() < 39 and x.min() > 0 and x.max() < 39:
            side = 40 * (1 - drawn_lambda) ** 0.5
            assert side - 2 < y.max() - y.min() + 1 <= side
            assert side - 2 < x.max() - x.min() + 1 <= side
            share.append(side)
    assert len(share) > 50
    assert times.min() > 10


@settings(deadline=None)
@given(
    n=st.integers(0, 7),
    m=st.integers(0, 5),
    name=st.sampled_from(sorted(MIXERS)),
    seed=st.integers(0, 1000),
)
def test_targets_are_probabilities_and_noise_keeps_its_label(
    n: int, m: int, name: str, seed: int
) -> None:
    """Each row of the targets adds up to 1, and rows that are not mixed are one-hot."""
    images, labels = batch(2 * n)
    p = 2 * n if name == "cmo" else n
    mixed, target = mix(name, images[:p], labels[:p], drawn(seed), n=n, counts=COUNTS)
    whole = torch.arange(m) % 4
    found = target.targets(4, whole=whole)
    assert mixed.shape == (n, 2, 6, 10)
    assert found.shape == (n + m, 4)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(n + m, dtype=torch.float64))
    assert torch.equal(found[n:], torch.eye(4, dtype=torch.float64)[whole])
    for row in range(n):
        expected = np.zeros(4)
        expected[target.a[row]] += target.lam[row].item()
        expected[target.b[row]] += 1 - target.lam[row].item()
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-15)


def test_the_larger_label_is_the_one_with_more_share() -> None:
    """Of two labels the one with at least half is the larger; in a tie the first."""
    labels = MixedLabels(torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1]),
                         torch.tensor([0.4, 0.5, 0.6]))  # fmt: skip
    assert labels.larger().tolist() == [1, 0, 0]


def test_a_part_of_mixed_labels_is_that_of_all_three() -> None:
    """A slice of the rows has their labels and shares, and so their targets."""
    labels = MixedLabels(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0]),
                         torch.tensor([0.25, 0.5, 1.0]))  # fmt: skip
    part = labels.part(slice(1, 3))
    assert [x.tolist() for x in (part.a, part.b, part.lam)] == [[1, 2], [1, 0], [0.5, 1.0]]
    assert torch.equal(part.targets(3), labels.targets(3)[1:])
    assert labels.targets(3).tolist() == [[0.25, 0.75, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("loss_name", ["cross-entropy", "focal", "ldam", "balanced-softmax"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", sorted(MIXERS))
def test_loss_of_a_mixed_batch_is_the_plain_formula(
    name: str, weighted: bool, loss_name: str
) -> None:
    """The sum of lambda L(a) + (1 - lambda) L(b), noise rows too, is divided once."""
    weight = [0.5, 1.0, 1.5, 2.0] if weighted else None
    loss = build_loss(loss_name, counts=COUNTS, prior=COUNTS, weight=weight)
    images, labels = batch(16)
    p = 16 if name == "cmo" else 8
    _, target = mix(name, images[:p], labels[:p], drawn(5), n=8, counts=COUNTS)
    whole = torch.tensor([3, 3, 1])
    logits = torch.randn(11, 4, dtype=torch.float64, generator=drawn(1))
    terms = norm = 0.0
    for row in range(11):
        if row < 8:
            parts = [(target.a[row], target.lam[row].item()),
                     (target.b[row], 1 - target.lam[row].item())]  # fmt: skip
        else:
            parts = [(whole[row - 8], 1.0)]
        for label, share in parts:
            term, w = loss.rows(logits[row : row + 1], label[None])
            terms, norm = terms + share * term.item(), norm + share * w.item()
    found = loss(logits, target.targets(4, whole=whole))
    assert found.item() == pytest.approx(terms / norm, rel=1e-9)


def test_mixing_takes_its_numbers_from_the_generator_alone() -> None:
    """The same generator state gives the same batch, whatever the global generator was."""
    images, labels = batch()
    for name in ("mixup", "remix", "cutmix"):
        found = []
        for seed in (1, 2):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                found.append(mix(name, images, labels, drawn(9), n=12, counts=COUNTS))
        (first, a), (second, b) = found
        assert torch.equal(first, second)
        assert torch.equal(a.lam, b.lam)


def test_images_that_are_given_are_left_as_they_are() -> None:
    """No mixing writes into its input."""
    images, labels = batch()
    before = images.clone()
    for name in MIXERS:
        mix(name, images, labels, drawn(), n=6, counts=COUNTS)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", sorted(MIXERS))
def test_no_value_of_the_device_is_asked_for(name: str) -> None:
    """Mixing and its targets run on the meta device, which has no values to read back."""
    images = torch.empty(16, 3, 8, 8, device="meta")
    labels = torch.empty(19, dtype=torch.int64, device="meta")
    counts = torch.empty(4, dtype=torch.int64, device="meta")
    p = 16 if name == "cmo" else 8
    mixed, target = mix(name, images[:p], labels[:p], drawn(), n=8, counts=counts)
    assert mixed.shape == (8, 3, 8, 8)
    assert target.targets(4, whole=labels[16:]).shape == (11, 4)
    assert target.larger().device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):  # the proof can fail
        target.larger()[0].item()


def test_mistakes_get_a_sentence() -> None:
    """A bad option, name or shape is refused, with what is allowed."""
    images, labels = batch()
    for alpha in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="alpha"):
            mixup(images, labels, drawn(), alpha=alpha)
    with pytest.raises(RecipeError, match="kappa"):
        remix(images, labels, drawn(), counts=COUNTS, kappa=0.5)
    with pytest.raises(DataError, match="cannot be mixed"):
        cutmix(images, labels[:3], drawn())
    with pytest.raises(DataError, match="cannot be mixed"):
        mixup(images.to(torch.uint8), labels, drawn())
    with pytest.raises(DataError, match="one patch label per image"):
        cmo(images, labels, drawn(), patches=images[:3], patch_labels=labels[:3])
    with pytest.raises(RecipeError, match="Did you mean 'mixup'"):
        mix("mixpu", images, labels, drawn(), n=12, counts=COUNTS)
    with pytest.raises(RecipeError, match="does not take these options"):
        mix("mixup", images, labels, drawn(), n=12, counts=COUNTS, kappa=3)


def test_options_of_methods_are_those_of_the_functions() -> None:
    """Names and defaults in method files are the functions' own."""
    assert set(MIX_OPTIONS) == set(MIXERS)
    for name, function in MIXERS.items():
        parameters = inspect.signature(function).parameters.values()
        own = {p.name: p.default for p in parameters if p.default is not p.empty}
        assert MixSpec.model_validate({"name": name}).options() == own


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"name": "mixup", "alfa": 1}, "Did you mean 'alpha'"),
        ({"name": "mixup", "kappa": 1}, "no option of the mixing 'mixup'"),
        ({"name": "mixup", "alpha": 0}, "alpha of 'mixup' must be a number above 0, got 0"),
        ({"name": "mixup", "alpha": True}, "above 0, got True"),
        ({"name": "cmo", "prob": 1.5}, "from 0 to 1, got 1.5"),
        ({"name": "cmo", "skip": 2.5}, "a whole number from 0 on, got 2.5"),
        ({"name": "cmo", "skip": float("inf")}, "a whole number"),
        ({"name": "remix", "kappa": "3"}, "kappa of 'remix' must be a number"),
        ({"name": "cutmax"}, "'cutmix' or 'cmo'"),
    ],
)
def test_options_that_cannot_be_are_refused(spec: dict[str, object], sentence: str) -> None:
    """Unknown options and values out of range are faults of the recipe."""
    with pytest.raises(ValueError, match=sentence):
        Method.model_validate({"phases": [{"mix": spec}]})
