"""PureNoise and NoiseAugment inside a plain training loop."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from purenoise.conversion import convert
from purenoise.errors import DataError, ModelError, RecipeError
from purenoise.inloop import NoiseAugment, PureNoise
from purenoise.noise import pixel_statistics
from purenoise.twopass import TwoPass

# Images are told apart by values that no pixel has.
pytestmark = pytest.mark.filterwarnings("ignore:The images reach from:UserWarning")

COUNTS = [10, 100, 1]  # the largest class is not the first
STATS = ([0.4, 0.5, 0.6], [0.1, 0.2, 0.3])


class Identity(nn.Module):
    """Returns what identifies a row: the mean of its channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C)."""
        return x.mean((2, 3))


def net() -> nn.Sequential:
    """Build a small converted net for 3 x 8 x 8 images and 3 classes."""
    return convert(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        )
    )


def batch(n: int = 60) -> tuple[Tensor, Tensor]:
    """Return images whose every pixel is 10 + their number, and labels 0, 1, 2, 0, ..."""
    images = (10 + torch.arange(n).float()).view(-1, 1, 1, 1).expand(n, 3, 8, 8).clone()
    return images, torch.arange(n) % 3


def test_labels_follow_the_rows_of_the_logits():
    """Each natural row keeps its own label, replaced rows hand theirs to the noise rows."""
    images, labels = batch(300)
    rows, new = PureNoise(COUNTS, *STATS, delta=1.0)(Identity(), images, labels)
    assert rows.shape == (300, 3)
    natural = rows[:, 0] >= 9
    n = int(natural.sum())
    assert natural[:n].all()  # natural rows first
    number = (rows[:n, 0] - 10).round().long()
    assert torch.equal(new[:n], labels[number])
    assert torch.equal(new.sort().values, labels.sort().values)
    replaced = torch.ones(300).bool()
    replaced[number] = False
    assert torch.equal(new[n:], labels[replaced])
    assert 1 not in new[n:]  # the largest class
    assert (new[n:] == 2).sum() > 90  # 99 % of 100
    assert 70 <= (new[n:] == 0).sum() <= 100  # 90 % of 100


def test_noise_is_drawn_clipped_and_normalised_with_the_loaders_constants():
    """Noise rows have the statistics of noise in [0, 1], then the loader's normalisation."""
    images, labels = torch.zeros(400, 3, 8, 8), torch.full((400,), 2)
    shift, scale = [0.4, 0.5, 0.6], [0.1, 0.4, 0.5]
    step = PureNoise([1000, 1000, 1], *STATS, delta=1.0, normalize=(shift, scale), seed=5)
    _, noise, _ = step.split(images, labels)
    assert len(noise) > 390
    pixels = noise * torch.tensor(scale).view(1, 3, 1, 1) + torch.tensor(shift).view(1, 3, 1, 1)
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert (pixels[:, 2] > 1 - 1e-6).double().mean() == pytest.approx(0.0912, abs=0.01)
    means, expected = pixels[:, :2].mean((0, 2, 3)), torch.tensor([0.4, 0.5])
    torch.testing.assert_close(means, expected, atol=0.005, rtol=0)
    torch.testing.assert_close(noise[:, 0].std(), torch.tensor(1.0), atol=0.02, rtol=0)


def test_delta_zero_is_the_plain_model():
    """With delta 0 a step gives the very bits of model(images) with the labels as they were."""
    model = net()
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = copy.deepcopy(model)(images)
    logits, new = PureNoise(COUNTS, *STATS, delta=0)(model, images, labels)
    assert torch.equal(logits, expected)
    assert torch.equal(new, labels)


def test_evaluation_mode_is_plain():
    """In eval() nothing is replaced or added, for the model, a TwoPass and a call of one's own."""
    images, labels = torch.randn(30, 3, 8, 8), torch.full((30,), 2)
    model = net().eval()
    call = lambda model, x: -model(x)  # noqa: E731
    for step in (PureNoise(COUNTS, *STATS, delta=1.0), NoiseAugment(3, *STATS)):
        for wrapped in (model, TwoPass(model)):
            logits, new = step(wrapped.eval(), images, labels)
            assert torch.equal(logits, model(images))
            assert torch.equal(new, labels)
    for mode in (True, False):
        step = PureNoise(COUNTS, *STATS, delta=0, call=call)
        for wrapped in (model, TwoPass(model, call)):
            torch.testing.assert_close(
                step(wrapped.train(mode), images, labels)[0], -model.train(mode)(images)
            )


def test_two_pass_module_gives_the_same_step():
    """PureNoise with a TwoPass gives the very logits of PureNoise with the model."""
    model = net()
    images, labels = torch.randn(30, 3, 8, 8), torch.arange(30) % 3
    results = [
        PureNoise(COUNTS, *STATS, seed=4)(m, images, labels)
        for m in (copy.deepcopy(model), TwoPass(copy.deepcopy(model)))
    ]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_seeds_decide_and_the_global_generator_is_left_alone():
    """The same seed gives the same rows, another does not, and global state is untouched."""
    images, labels = batch()
    state = torch.get_rng_state()
    steps = [PureNoise(COUNTS, *STATS, seed=s).split(images, labels) for s in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(steps[0], steps[1], strict=True))
    assert steps[0][1].shape != steps[2][1].shape or not torch.equal(steps[0][1], steps[2][1])


def test_noise_augment_adds_one_to_four_with_uniform_labels():
    """The balanced variant keeps all images and adds a quarter of noise with uniform labels."""
    images, labels = batch(40)
    step = NoiseAugment(3, *STATS)
    rows, new = step(Identity(), images, labels)
    assert rows.shape == (50, 3)
    assert torch.equal(rows[:40, 0], images[:, 0, 0, 0])
    assert (rows[40:] < 1).all()
    assert torch.equal(new[:40], labels)
    drawn = torch.cat([step.split(images, labels)[2][40:] for _ in range(600)])
    share = torch.bincount(drawn, minlength=3).double() / 6000
    assert (share - 1 / 3).abs().max() < 5 * (2 / 9 / 6000) ** 0.5
    assert NoiseAugment(3, *STATS, ratio=0).split(images, labels)[1].shape == (0, 3, 8, 8)


def test_images_of_another_dtype_and_channel_count():
    """Noise takes the images' dtype and size, with one channel as with five."""
    for channels, dtype in ((1, torch.float64), (5, torch.bfloat16)):
        images = torch.rand(20, channels, 5, 9).to(dtype)
        step = PureNoise([9, 1], [0.5] * channels, [0.2] * channels, delta=1.0)
        natural, noise, new = step.split(images, torch.tensor([0, 1] * 10))
        assert natural.dtype == noise.dtype == dtype
        assert noise.shape[1:] == (channels, 5, 9)
        assert len(natural) + len(noise) == len(new) == 20


def test_bad_inputs_get_a_sentence():
    """What does not fit is refused: counts, statistics, labels, shapes, dtypes, ratios."""
    images, labels = batch()
    step, model = PureNoise(COUNTS, *STATS), Identity()
    with pytest.raises(DataError, match="has no training images"):
        PureNoise([3, 0], *STATS)
    with pytest.raises(RecipeError, match="delta is 2"):
        PureNoise(COUNTS, *STATS, delta=2)
    for mean, std in [([124.0], [60.0]), ([0.5], [0.1, 0.1]), ([], []), ([float("nan")], [0.1])]:
        with pytest.raises(DataError, match=r"not pixel statistics in \[0, 1\]"):
            PureNoise(COUNTS, mean, std)
    for bad in (labels + 1, labels - 1):
        with pytest.raises(DataError, match="there are counts for 3 classes"):
            step(model, images, bad)
    for bad in (labels[:-1], labels.float(), F.one_hot(labels)):
        with pytest.raises(DataError, match="do not fit 60 images"):
            step(model, images, bad)
    with pytest.raises(DataError, match=r"Images are torch\.uint8"):
        step(model, images.byte(), labels)
    with pytest.raises(DataError, match="statistics of 3 channels"):
        step(model, images[:, :1], labels)
    for ratio in (-0.1, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="noise ratio"):
            NoiseAugment(3, *STATS, ratio=ratio)


class Flat(nn.Module):
    """A converted network whose last maps are 1 x 1, as those of torchvision's at 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convert(nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten()))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 4)."""
        return self.body(x)


def test_one_natural_row_is_never_left_alone():
    """Batch norm over 1 x 1 maps needs two rows: a second one stays natural, whatever is drawn."""
    model, seen = Flat(), set()
    noise = PureNoise(COUNTS, *STATS, delta=0.7)
    images, labels = torch.rand(3, 3, 8, 8), torch.tensor([2, 2, 1])
    for _ in range(40):
        rows, new = noise(model, images, labels)
        assert rows.shape == (3, 4)
        assert sorted(new.tolist()) == [1, 2, 2]
        seen.add(noise.n_noise)
    assert seen == {0, 1}  # the image of the largest class always stays, and one of the others
    with pytest.raises(ModelError, match="One natural row is too few") as caught:
        noise(model, images[2:], labels[2:])
    assert "drop_last=True" in caught.value.hint


@pytest.mark.filterwarnings("error:The images reach from:UserWarning")
def test_images_on_another_scale_are_warned_of_once():
    """Noise of [0, 1] among images of 0..255, or normalised without a word, is said at once."""
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    constants = ([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    for scaled, normalize in ((255 * images, None), (8 * images - 4, None), (images, None),
                              (4 * images - 2, constants), (255 * images, constants)):  # fmt: skip
        noise = PureNoise([1, 1, 99], *STATS, delta=1.0, normalize=normalize)
        fits = float(scaled.max()) < 3
        fits &= normalize is not None or float(scaled.min()) >= 0
        if fits:
            noise(net(), scaled, labels)
        else:
            with pytest.warns(UserWarning, match="noise is not on their scale"):
                noise(net(), scaled, labels)
            noise(net(), scaled, labels)  # once is enough


def test_an_unconverted_model_is_refused():
    """Forgetting convert is refused at the first noise row, with what to do."""
    model = nn.Sequential(nn.BatchNorm2d(3), Identity())
    with pytest.raises(ModelError, match=r"purenoise\.convert"):
        PureNoise(COUNTS, *STATS, delta=1.0)(model.train(), *batch())


def test_training_in_a_plain_loop_learns():
    """A loop with a DataLoader and PureNoise fits a separable task, and stays plain in eval."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 3
    images = torch.rand(240, 3, 8, 8, generator=g) * 0.2 + 0.4 * F.one_hot(labels)[:, :, None, None]
    loader = DataLoader(TensorDataset(images, labels), 40, shuffle=True, generator=g)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step = PureNoise(COUNTS, *STATS)
    for _ in range(3):
        for x, y in loader:
            logits, target = step(model, x, y)
            optimizer.zero_grad()
            F.cross_entropy(logits, target).backward()
            optimizer.step()
    assert (model.eval()(images).argmax(1) == labels).double().mean() > 0.95
    assert int(model[1].num_batches_tracked) == 18


@pytest.mark.parametrize(
    "normalize",
    [([0.5], [0.2]), ([0.5] * 3, [0.2, 0.0, 0.2]), [(0.5, 0.2)] * 3, ([0.5] * 3,),
     ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4])],
)  # fmt: skip
def test_constants_that_do_not_fit_are_refused_at_once(normalize):
    """Constants of another number, order or scale, or a deviation of 0, do not wait to be used."""
    with pytest.raises(DataError, match="normalize"):
        PureNoise([2, 1], [0.5] * 3, [0.2] * 3, normalize=normalize)


def test_state_continues_the_random_numbers():
    """A PureNoise with a loaded state draws what the first one goes on to draw."""
    images, labels = torch.rand(12, 3, 4, 4), torch.tensor([0, 1] * 6)
    first, second = (PureNoise([90, 3], [0.5] * 3, [0.2] * 3, delta=1.0, seed=s) for s in (0, 5))
    first.split(images, labels)
    second.load_state_dict(first.state_dict())
    for a, b in zip(first.split(images, labels), second.split(images, labels), strict=True):
        assert torch.equal(a, b)


def test_inactive_is_the_plain_step():
    """While it is not active, a step is model(images): no noise, no random number drawn."""
    images, labels = batch(32)
    model, noise = net(), PureNoise(COUNTS, *STATS)
    model[1].momentum = 0.0
    before = noise.state_dict()
    noise.active = False
    rows, new = noise(model, images, labels)
    assert torch.equal(rows, model(images))
    assert torch.equal(new, labels)
    assert noise.made == 0
    assert torch.equal(noise.state_dict()["choice"], before["choice"])


def test_noise_rows_are_counted():
    """The count of noise rows is that of the rows that were put in place of images, over calls."""
    images, labels = batch(60)
    noise = PureNoise(COUNTS, *STATS, delta=1.0)
    seen = 0
    for _ in range(3):
        natural, rows, _ = noise.split(images, labels)
        assert len(natural) + len(rows) == 60
        seen += len(rows)
        assert noise.made == seen
    assert seen > 0


def test_statistics_of_numpy_do():
    """What pixel_statistics returns goes in as it is."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    mean, std = pixel_statistics([pixels])
    noise = PureNoise(COUNTS, mean, std, normalize=(mean, std))
    assert np.allclose(noise.mean, mean)
    assert np.allclose(noise.std, std)


def test_order_carries_what_else_belongs_to_an_image():
    """A weight per image follows its row by the order, also to the noise that stands in for it."""
    images, labels = batch(300)
    images = images - 10  # the mean of image i is i
    weights = 100.0 * labels
    noise = PureNoise(COUNTS, *STATS, delta=1.0)
    rows, new = noise(Identity(), images, labels)
    assert torch.equal(noise.order.sort().values, torch.arange(300))
    assert torch.equal(weights[noise.order], 100.0 * new)
    natural = 300 - noise.n_noise
    assert 0 < natural < 300
    assert torch.equal(noise.order[:natural], rows[:natural, 0].round().long())
    noise(Identity().eval(), images[:7], labels[:7])
    assert torch.equal(noise.order, torch.arange(7))
    assert noise.n_noise == 0


def test_added_noise_is_last():
    """The balanced-data variant keeps the images' order and counts the rows that it adds."""
    images, labels = batch(40)
    noise = NoiseAugment(3, *STATS)
    rows, _ = noise(Identity(), images, labels)
    assert torch.equal(noise.order, torch.arange(40))
    assert noise.n_noise == len(rows) - 40 == 10
