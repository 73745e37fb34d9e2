"""AutoAugment and its kin: each operation and the law of each policy against torchvision."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from purenoise import auto_ops
from purenoise.augment import build_augment
from purenoise.auto_policies import (
    OPERATIONS,
    AutoAugment,
    RandAugment,
    TrivialAugmentWide,
    run_round,
)
from purenoise.draws import chance

SHAPES = [(3, 32, 32), (1, 8, 8), (3, 17, 24), (1, 40, 5), (3, 2, 9), (1, 1, 6)]
NAMES = list(OPERATIONS)
POLICIES = {
    "autoaugment": (AutoAugment(), v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
    "randaugment": (RandAugment(), v2.RandAugment()),
    "trivialaugment": (TrivialAugmentWide(), v2.TrivialAugmentWide()),
}
each_policy = pytest.mark.parametrize("policy", POLICIES)
each_shape = pytest.mark.parametrize("shape", SHAPES)


def generator(seed: int = 0) -> torch.Generator:
    """Return a generator of the host."""
    return torch.Generator().manual_seed(seed)


def pixels(n: int, shape: tuple[int, ...], levels: int = 256) -> Tensor:
    """Return random uint8 images, each within a range of its own; few levels give flat channels."""
    values = torch.randint(levels, (n, *shape), generator=generator(1)) * 255 // (levels - 1)
    low = torch.randint(120, (n, 1, 1, 1), generator=generator(2))
    values[::3] = (low + values // 4)[::3]
    return values.to(torch.uint8)


def theirs(image: Tensor, name: str, magnitude: float) -> Tensor:
    """Run torchvision's own operation, with its magnitude, on one image."""
    policy = v2.RandAugment()
    return policy._apply_image_or_video_transform(
        image, name, magnitude, interpolation=policy.interpolation, fill=policy._fill
    )


def parameter(name: str, magnitude: float) -> float:
    """Return what torchvision gives to its functional form for a magnitude."""
    if name.startswith("Translate"):
        return float(int(magnitude))
    if name == "Solarize":  # compared as float32
        return torch.tensor(255 * magnitude).item()
    return magnitude


def ladder(*ends: float) -> list[float]:
    """Return the magnitudes between each end and its negative, twice 30 steps like a policy's."""
    return [m for end in ends for m in torch.linspace(-end, end, 61).tolist()]


MAGNITUDES = dict.fromkeys(NAMES, [0.0] * 12) | {
    "Posterize": [float(bits) for bits in range(9)],
    "Solarize": torch.linspace(1, 0, 31).tolist(),
    "Rotate": ladder(30, 135),
}
for name, ends in {"Shear": (0.3, 0.99), "Translate": (32, 14, 4)}.items():
    MAGNITUDES |= dict.fromkeys((f"{name}X", f"{name}Y"), ladder(*ends))
MAGNITUDES |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), ladder(0.9, 0.99))


@each_shape
@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("name", NAMES)
def test_operation_equals_torchvision_bit_for_bit(
    name: str, levels: int, shape: tuple[int, int, int]
) -> None:
    """Over all magnitudes, a batched operation does to each image what torchvision does to it."""
    magnitudes = MAGNITUDES[name]
    images = pixels(len(magnitudes), shape, levels)
    expected = [
        theirs(image, name, magnitude) for image, magnitude in zip(images, magnitudes, strict=True)
    ]
    before = images.clone()
    ours = OPERATIONS[name](images, torch.tensor([parameter(name, m) for m in magnitudes]))
    assert ours.dtype == torch.uint8
    assert torch.equal(images, before)
    differs = ours != torch.stack(expected)
    # A tie between two neighbours may fall either way, see the head of auto_ops.
    geometric = name.startswith(("Shear", "Rotate"))
    assert differs.float().mean() <= (1e-3 if geometric else 0)


@pytest.mark.parametrize("name", NAMES)
def test_operation_equals_torchvision_on_flat_and_skewed_images(name: str) -> None:
    """Images of one value, and of one value but for a few pixels, come out as in torchvision."""
    images = torch.arange(256, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 18, 18)
    images[::2, 1:2, :3] = pixels(128, (1, 3, 18))
    magnitudes = (MAGNITUDES[name] * 29)[:256]
    expected = [
        theirs(image, name, magnitude) for image, magnitude in zip(images, magnitudes, strict=True)
    ]
    ours = OPERATIONS[name](images, torch.tensor([parameter(name, m) for m in magnitudes]))
    assert (ours != torch.stack(expected)).float().mean() <= 1e-4 * (name == "Rotate")


@pytest.mark.parametrize(
    ("ours", "function"),
    [
        (auto_ops.autocontrast, tv.autocontrast),
        (auto_ops.equalize, tv.equalize),
        (auto_ops.invert, tv.invert),
    ],
)
def test_operation_without_parameter_equals_torchvision(ours: Callable, function: Callable) -> None:
    """Larger images, with all values and with very uneven ones, come out as in torchvision."""
    images = pixels(6, (3, 70, 61))
    images[3:] = (images[3:].float() / 255).pow(4).mul(255).to(torch.uint8)
    assert torch.equal(ours(images), torch.stack([function(image) for image in images]))


def test_rotation_by_right_angles_is_exact() -> None:
    """A quarter and a half turn of a square only move pixels."""
    images = pixels(4, (3, 9, 9))
    turned = auto_ops.rotate(images, torch.tensor([0.0, 90.0, 180.0, -90.0]))
    expected = [images[i].rot90(k, (1, 2)) for i, k in enumerate((0, 1, 2, -1))]
    assert torch.equal(turned, torch.stack(expected))


class Branches:
    """Random numbers that take one branch after another, and the probability of having done so."""

    def __init__(self, path: list[int]) -> None:
        self.path, self.n_taken, self.probability = path, 0, 1.0
        self.others: list[list[int]] = []  # paths that leave this one where it was not laid down

    def choose(self, shares: list[float]) -> int:
        """Return the next branch, of which each has its share."""
        if self.n_taken == len(self.path):
            self.others += [[*self.path, i] for i in range(1, len(shares))]
            self.path = [*self.path, 0]
        branch = self.path[self.n_taken]
        self.n_taken += 1
        self.probability *= shares[branch]
        return branch

    def __le__(self, p: float) -> bool:
        """Compare as a uniform random number does, such as in `torch.rand(()) <= p`."""
        return self.choose([1 - p, p]) == 1


Outcome = tuple[tuple[str, float], ...]  # operations but for identity, with their parameters


def follow(transform: v2.Transform, image: Tensor, branches: Branches) -> Outcome:
    """Return what torchvision's policy does when it takes these branches."""
    seen: list[tuple[str, float]] = []

    def record(image: Tensor, name: str, magnitude: float, **_: object) -> Tensor:
        seen.append((name, parameter(name, magnitude)))
        return image

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transform, "_apply_image_or_video_transform", record)
        patch.setattr(torch, "rand", lambda _: branches)
        patch.setattr(torch, "randint", lambda n, _: branches.choose([1 / n] * n))
        transform(image)
    return tuple(step for step in seen if step[0] != "Identity")


def law(transform: v2.Transform, shape: tuple[int, int, int]) -> dict[Outcome, float]:
    """Return each outcome of torchvision's policy with its probability, by taking all branches."""
    outcomes: Counter[Outcome] = Counter()
    waiting: list[list[int]] = [[]]
    while waiting:
        branches = Branches(waiting.pop())
        outcome = follow(transform, torch.zeros(shape, dtype=torch.uint8), branches)
        outcomes[outcome] += branches.probability  # type: ignore[assignment]
        waiting += branches.others
    return {outcome: p for outcome, p in outcomes.items() if p}


def nowhere(n: int, shape: tuple[int, ...]) -> Tensor:
    """Return images that have a size but no pixels: whatever asks for a pixel fails."""
    return torch.empty(n, *shape, dtype=torch.uint8, device="meta")


@each_policy
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 17, 24)])
def test_policy_draws_by_torchvisions_law(policy: str, shape: tuple[int, int, int]) -> None:
    """Every outcome of torchvision's policy, and no other, is drawn as often as it has to be."""
    ours, transform = POLICIES[policy]
    expected = law(transform, shape)
    assert sum(expected.values()) == pytest.approx(1)
    n = 200_000
    rounds = [(o.tolist(), p.tolist()) for o, p in ours.draw(nowhere(n, shape), generator())]
    counts = Counter(
        tuple((NAMES[o[i]], p[i]) for o, p in rounds if NAMES[o[i]] != "Identity") for i in range(n)
    )
    assert counts.keys() == expected.keys()
    for outcome, p in expected.items():
        assert counts[outcome] == pytest.approx(n * p, abs=5 * math.sqrt(n * p)), outcome


def test_law_takes_all_branches() -> None:
    """The law that serves as oracle has the probabilities that can be told by hand."""
    trivial = law(POLICIES["trivialaugment"][1], (3, 32, 32))
    assert trivial[()] == pytest.approx(1 / 14)
    assert trivial[("Rotate", -135.0),] == pytest.approx(1 / 14 / 31 / 2)
    auto = law(POLICIES["autoaugment"][1], (3, 32, 32))
    assert auto[("Color", 0.0),] == pytest.approx(0.9 * 0.7 / 25)
    assert not any(("Invert", 0.0) in outcome and "Solarize" in str(outcome) for outcome in auto)


@each_policy
@each_shape
def test_policy_does_what_it_drew(policy: str, shape: tuple[int, int, int]) -> None:
    """Each image is what torchvision's operations make of it, one after another."""
    ours, images = POLICIES[policy][0], pixels(60, shape)
    expected = list(images)
    for codes, parameters in ours.draw(images, generator(4)):
        for i, (code, value) in enumerate(zip(codes.tolist(), parameters.tolist(), strict=True)):
            magnitude = value / 255 if NAMES[code] == "Solarize" else value
            expected[i] = theirs(expected[i], NAMES[code], magnitude)
    differs = ours(images, generator(4)) != torch.stack(expected)
    assert differs.float().mean() <= 1e-3


def test_round_gives_each_image_its_own_operation() -> None:
    """Copies of one image come out differently, wherever they stand and whoever stands beside."""
    images = pixels(1, (3, 16, 16)).expand(45, -1, -1, -1)
    codes = torch.arange(45) % 15
    parameters = torch.linspace(0.1, 0.9, 45)
    out = run_round(images, codes, parameters)
    assert len(out[codes > 0].unique(dim=0)) > 20
    alone = [
        run_round(images[i : i + 1], codes[i : i + 1], parameters[i : i + 1]) for i in range(45)
    ]
    assert torch.equal(out, torch.cat(alone))
    order = torch.randperm(45, generator=generator())
    assert torch.equal(run_round(images, codes[order], parameters[order]), out[order])


@each_policy
def test_policy_draws_from_the_generator_alone(policy: str) -> None:
    """One state gives one result, the global generator stands still, and the input stays."""
    step, images = POLICIES[policy][0], pixels(40, (3, 16, 16))
    before, state, source = images.clone(), torch.get_rng_state(), generator(7)
    first, second = step(images, source), step(images, source)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)
    assert torch.equal(step(images, generator(7)), first)
    assert not torch.equal(first, second)


@each_policy
def test_policy_takes_no_images(policy: str) -> None:
    """An empty batch gives an empty batch."""
    out = POLICIES[policy][0](pixels(0, (3, 8, 8)), generator())
    assert out.shape == (0, 3, 8, 8)
    assert out.dtype == torch.uint8


@each_shape
@pytest.mark.parametrize("name", NAMES)
def test_operation_never_asks_for_a_pixel(name: str, shape: tuple[int, int, int]) -> None:
    """Without any pixels an operation runs, so that on a GPU the host has nothing to wait for."""
    out = OPERATIONS[name](nowhere(5, shape), torch.ones(5, device="meta"))
    assert out.shape == (5, *shape)
    assert out.dtype == torch.uint8


@each_policy
@each_shape
def test_policy_never_asks_for_a_pixel(policy: str, shape: tuple[int, int, int]) -> None:
    """Without any pixels a whole augmentation runs: what is done to which image, the host knows."""
    augment = build_augment(policy, shape, flip=True)
    assert augment(nowhere(64, shape), generator()).shape == (64, *shape)


@pytest.mark.parametrize(
    "asks",
    [
        lambda images: images[images > 3],
        lambda images: images.nonzero(),
        lambda images: images.masked_select(images > 3),
        lambda images: images.sum().item(),
        lambda images: images.index_fill_(0, torch.arange(2), 1) if images.any() else images,
        lambda images: images.cpu(),
    ],
)
def test_asking_for_a_pixel_fails_where_there_is_none(asks: Callable) -> None:
    """The two tests above can fail: each way to make the host wait raises."""
    with pytest.raises((NotImplementedError, RuntimeError)):
        asks(nowhere(5, (3, 4, 4)))


def test_chance_can_be_each_images_own() -> None:
    """Images get their own probability; 0 is never and 1 is always."""
    p = torch.tensor([0.0, 0.25, 1.0]).repeat(20_000)
    share = chance(p, p, generator()).view(-1, 3).float().mean(0)
    assert share.tolist() == [0, pytest.approx(0.25, abs=0.02), 1]


def test_policies_say_what_they_are() -> None:
    """A line names the method and how strong it is."""
    said = [str(step) for step, _ in POLICIES.values()]
    assert said == [
        "AutoAugment, CIFAR-10 policy",
        "RandAugment, 2 operations of magnitude 9",
        "TrivialAugmentWide",
    ]
