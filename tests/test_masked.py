"""The masked step against the paper's listing: values, gradients, statistics, edges."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from purenoise.conversion import convert, revert
from purenoise.darbn import DARBatchNorm2d, NoiseRouting, dar_batch_norm
from purenoise.errors import ModelError
from purenoise.masked import NATURAL, NOISE, PADDING, masked_batch_norm, row_kinds
from purenoise.maskedpass import MaskedPass
from purenoise.models import build_model
from purenoise.twopass import TwoPass, two_pass

from .reference import images, small

STOPS = ["branch", "affine", "none"]


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors on a shared machine: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw float64 values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(function, x: Tensor, seed: int = 0, **options) -> list[Tensor]:
    """Return output, gradients and running statistics of a DAR-BN function on fresh parameters."""
    channels = x.shape[1]
    x = x.clone().requires_grad_()
    weight, bias = (draw(channels, seed=seed + i).requires_grad_() for i in (1, 2))
    running = [draw(channels, seed=seed + 3), draw(channels, seed=seed + 4).abs()]
    out = function(x, running[0], running[1], weight, bias, options)
    (out * draw(*x.shape, seed=seed + 5)).sum().backward()
    return [out.detach(), x.grad, weight.grad, bias.grad, *running]


def masked(kinds: Tensor, **options):
    """Return the masked form for given kinds."""
    return lambda x, mean, var, w, b, o: masked_batch_norm(
        x, kinds, mean, var, w, b, **o, **options
    )


def listing(is_noise: Tensor, **options):
    """Return the paper's listing for given rows."""
    return lambda x, mean, var, w, b, o: dar_batch_norm(
        x, is_noise, mean, var, w, b, **o, **options
    )


def assert_same(a: list[Tensor], b: list[Tensor]) -> None:
    """Compare in units of the largest value."""
    for left, right in zip(a, b, strict=True):
        scale = right.abs().max().clamp_min(1)
        assert ((left - right).abs().max() / scale).item() < 1e-10


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.booleans(), min_size=2, max_size=12).filter(lambda r: r.count(False) > 1),
    channels=st.integers(1, 4),
    space=st.sampled_from([(), (3,), (2, 3), (2, 1, 2)]),
    stop=st.sampled_from(STOPS),
    training=st.booleans(),
)
def test_equals_the_listing(rows, channels, space, stop, training):
    """In any order of rows, for any shape and gradient stop, all is as in the paper's listing."""
    is_noise = torch.tensor(rows)
    x = draw(len(rows), channels, *space) * 2 + 1
    options = {"stop_gradient": stop, "training": training}
    if not space and rows.count(True) == 1:
        return  # a single noise value: the listing leaves rounding errors of 0 / sqrt(eps)
    kinds = is_noise.to(torch.int8)
    assert_same(run(masked(kinds), x, **options), run(listing(is_noise), x, **options))


@pytest.mark.parametrize("stop", STOPS)
def test_padding_changes_nothing(stop):
    """Padding rows enter no statistics and no gradient, whatever they hold, and become beta."""
    x = draw(7, 3, 2, 2)
    kinds = torch.tensor([0, 1, 0, 0, 1, 0, 1])
    padded = torch.cat([x, 1e6 * draw(3, 3, 2, 2, seed=9)])
    whole = torch.cat([kinds, torch.full((3,), PADDING)])
    without = run(masked(kinds), x, stop_gradient=stop)

    def of_rows(x, mean, var, w, b, o):
        return masked_batch_norm(x, whole, mean, var, w, b, **o)[:7]

    with_padding = run_padded(of_rows, padded, stop)
    assert_same(with_padding, without)
    bias = draw(3)
    out = masked_batch_norm(padded, whole, None, None, None, bias)
    assert torch.equal(out[7:], bias.view(1, 3, 1, 1).expand(3, 3, 2, 2))


def run_padded(function, x: Tensor, stop: str) -> list[Tensor]:
    """Do as `run`, with an upstream gradient and an input gradient for the first 7 rows."""
    x = x.clone().requires_grad_()
    weight, bias = (draw(3, seed=i).requires_grad_() for i in (1, 2))
    running = [draw(3, seed=3), draw(3, seed=4).abs()]
    out = function(x, running[0], running[1], weight, bias, {"stop_gradient": stop})
    (out * draw(*out.shape, seed=5)).sum().backward()
    assert not x.grad[7:].any()
    return [out.detach(), x.grad[:7], weight.grad, bias.grad, *running]


@pytest.mark.parametrize("kind", [NOISE, PADDING])
def test_without_natural_rows_the_running_statistics_stay(kind):
    """A batch of noise or padding alone leaves running statistics as they were, and no NaN."""
    mean, var = draw(3), draw(3).abs()
    before = mean.clone(), var.clone()
    out = masked_batch_norm(draw(4, 3, 2, 2), torch.full((4,), kind), mean, var)
    assert torch.equal(mean, before[0])
    assert torch.equal(var, before[1])
    assert out.isfinite().all()


@pytest.mark.parametrize("kind", [NATURAL, NOISE])
def test_one_value_per_channel_gives_beta(kind):
    """A group with one value per channel comes out as beta; nothing can raise here."""
    out = masked_batch_norm(draw(1, 3), torch.tensor([kind]), None, None, draw(3), draw(3, seed=1))
    assert torch.equal(out[0], draw(3, seed=1))


def test_float32_statistics_resist_a_large_mean():
    """Values far from zero, in float32 and in bfloat16, are normalised mean first."""
    x = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.05 + 30
    kinds = row_kinds(32, 32, 64, "cpu")
    out = masked_batch_norm(x, kinds, None, None, eps=0.0)
    exact = masked_batch_norm(x.double(), kinds, None, None, eps=0.0)
    torch.testing.assert_close(out.double(), exact, atol=1e-3, rtol=0)
    half = masked_batch_norm(x.bfloat16(), kinds, None, None)
    assert half.dtype == torch.bfloat16
    wide = masked_batch_norm(x.bfloat16().double(), kinds, None, None)
    torch.testing.assert_close(half.double(), wide, atol=0.02, rtol=0.01)


def test_row_kinds():
    """Natural rows come first, then noise, then padding."""
    assert row_kinds(0, 2, 3, "cpu").tolist() == [NOISE, NOISE, PADDING]
    assert row_kinds(3, 0, 3, "cpu").tolist() == [NATURAL] * 3


def step(model: nn.Module, forward, natural: Tensor, noise: Tensor | None) -> list[Tensor]:
    """Return loss, gradients and buffers of one step."""
    model.zero_grad(set_to_none=True)
    logits = forward(natural, noise)
    labels = torch.arange(len(logits)) % 10
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [loss.detach(), *gradients, *(b.double() for b in model.buffers())]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("name", ["resnet8", "wide_resnet10_1"])
def test_a_masked_step_equals_two_passes(name, stop):
    """Loss, gradients and statistics of several steps are those of the two-pass step."""
    model = convert(build_model(name, 10, generator_seed=0), stop).double()
    twin = copy.deepcopy(model)
    one, two = MaskedPass(model, rows=12), TwoPass(twin)
    for n, m in [(8, 3), (9, 3), (5, 4), (8, 0), (12, 3)]:  # padded, full, short, none, too long
        x, noise = images(n, 16).double(), images(m, 16, 1).double() if m else None
        assert_same(step(model, one, x, noise), step(twin, two, x, noise))


def test_channels_last_batches_stay_channels_last():
    """The batch that the model sees has the memory format of the natural images."""
    seen = []
    net = convert(small())
    net.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    x = images(4).contiguous(memory_format=torch.channels_last)
    MaskedPass(net, 8)(x, images(2))
    assert seen[-1]


def test_what_is_not_exact_is_refused():
    """A plain batch norm, or another layer with statistics, is refused at the first noise rows."""
    with pytest.raises(ModelError, match="would change the statistics"):
        MaskedPass(small(), 8)(images(4), images(2))
    net = small(nn.InstanceNorm2d(4, track_running_stats=True))
    with pytest.raises(ModelError, match="changed the buffer"):
        MaskedPass(net, 8)(images(4), images(2))


def test_layers_are_plain_again_after_the_step():
    """After a masked step the layers take natural rows, and reverting leaves nothing behind."""
    net = convert(small())
    MaskedPass(net, 8)(images(4), images(2))
    assert all(m.row_kinds is None for m in net.modules() if isinstance(m, NoiseRouting))
    x = images(4)
    assert torch.equal(copy.deepcopy(net)(x), revert(net)(x))


def test_cumulative_averages_are_those_of_the_layer():
    """With momentum=None the masked form averages over batches as torch does."""
    layers = [DARBatchNorm2d(3, momentum=None).double() for _ in range(2)]
    for seed in range(7):
        x = draw(6, 3, 2, 2, seed=seed)
        layers[0](x)
        layers[1].row_kinds = row_kinds(6, 0, 6, "cpu")
        layers[1](x)
    for name in ("running_mean", "running_var"):
        a, b = (getattr(layer, name) for layer in layers)
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)  # float32 would be 3e-8 off
    assert layers[1].num_batches_tracked == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_of_noise_alone_is_counted_as_torch_counts_no_rows(dtype: torch.dtype):
    """With momentum=None a batch without natural rows counts, and moves nothing, as in torch."""
    plain, layer = (kind(3, momentum=None).to(dtype) for kind in (nn.BatchNorm2d, DARBatchNorm2d))
    for seed, n in enumerate((6, 0, 6, 0, 4)):
        x = draw(6, 3, 2, 2, seed=seed).to(dtype)
        plain(x[:n])
        layer.row_kinds = row_kinds(n, 6 - n, 6, "cpu")
        layer(x)
        assert int(layer.num_batches_tracked) == int(plain.num_batches_tracked) == seed + 1
        torch.testing.assert_close(layer.running_mean, plain.running_mean)
        torch.testing.assert_close(layer.running_var, plain.running_var)


def test_compiled_once_for_every_number_of_noise_rows():
    """However many rows are noise or padding, the compiled step is one graph and the same step."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    model = convert(small()).double()
    twin = copy.deepcopy(model)
    compiler = partial(torch.compile, backend=counter, dynamic=False, fullgraph=True)
    one = MaskedPass(model, rows=16, compiler=compiler)
    for n, m in [(12, 4), (11, 5), (10, 4), (16, 0), (2, 13), (9, 6)]:
        x, noise = images(n).double(), images(m, seed=1).double() if m else None
        assert_same(
            step(model, one, x, noise),
            step(twin, lambda a, b: two_pass(twin, a, b), x, noise),
        )
    assert counter.frame_count == 1


def test_defaults_are_those_of_batch_norm():
    """Without options the masked form trains, with torch's momentum and eps, without affine."""
    x = draw(6, 3, 2, 2) / 50
    ours, theirs = ((torch.zeros(3).double(), torch.ones(3).double()) for _ in range(2))
    out = masked_batch_norm(x, torch.zeros(6), *ours)
    expected = nn.functional.batch_norm(x, *theirs, training=True, momentum=0.1, eps=1e-5)
    assert_same([out, *ours], [expected, *theirs])


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"track_running_stats": False}])
def test_a_masked_layer_in_evaluation_changes_nothing(options):
    """In eval() rows of both kinds are those of the parent, and no buffer changes, count or all."""
    layer = DARBatchNorm2d(3, **options).double()
    layer(draw(8, 3, 2, 2))
    layer.eval()
    before, x = copy.deepcopy(list(layer.buffers())), draw(5, 3, 2, 2, seed=3)
    expected = layer(x)
    layer.row_kinds = torch.full((5,), NATURAL)
    assert_same([layer(x)], [expected])
    assert all(torch.equal(a, b) for a, b in zip(before, layer.buffers(), strict=True))


@pytest.mark.parametrize(
    ("n", "m", "rows"), [(3, 0, 8), (5, 3, 8), (0, 2, 8), (7, 2, 16), (0, 0, 8)]
)
def test_batches_have_a_multiple_of_the_rows(n, m, rows):
    """What the model sees is padded to the next multiple, at least one; what comes back is not."""
    seen = []
    step = MaskedPass(convert(small()), 8, call=lambda net, x: seen.append(len(x)) or net(x))
    natural, noise = images(n), images(m, seed=1)
    assert step(natural, noise).shape == (n + m, 10)
    assert seen[-1] == rows
    if not m:
        assert step(natural).shape == (n, 10)
        assert seen == [rows, rows]


def test_exactness_is_looked_at_once_and_only_with_noise_rows():
    """Batches without noise run nothing else; the first noise rows run apart once, two of them."""
    seen = []
    step = MaskedPass(convert(small()), 8, call=lambda net, x: seen.append(len(x)) or net(x))
    for noise in (None, images(0), images(3), images(3)):
        step(images(4), noise)
    assert seen == [8, 8, 2, 8, 8]


def test_a_compiler_is_applied_once_to_what_runs_the_model():
    """The function that a compiler returns runs in every step, on images and kinds."""
    given, ran = [], []

    def compiler(module: nn.Module):
        given.append(module)
        return lambda *batch: ran.append(batch) or module(*batch)

    step = MaskedPass(convert(small()), 8, compiler=compiler)
    for _ in range(2):
        step(images(4), images(3))
    assert len(given) == 1
    assert [kinds.tolist() for _, kinds in ran] == [[0] * 4 + [1] * 3 + [2]] * 2


def test_one_natural_value_moves_the_running_variance_towards_zero():
    """A single value has no spread: the variance moves towards 0, by the momentum."""
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    x = draw(3, 3)
    masked_batch_norm(x, torch.tensor([NOISE, NATURAL, NOISE]), mean, var, momentum=0.25)
    assert_same([mean, var], [0.25 * x[1], torch.full((3,), 0.75).double()])


@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_keep_the_memory_format_that_came(channels_last):
    """Images in either format stay in it, and rows that are no images are taken as they are."""
    seen = []
    step = MaskedPass(convert(small()), 8, call=lambda net, x: seen.append(x) or net(x))
    order = torch.channels_last if channels_last else torch.contiguous_format
    step(images(5).contiguous(memory_format=order), images(2))
    assert seen[-1].is_contiguous(memory_format=order)
    flat = MaskedPass(convert(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))), 8)
    assert flat(torch.randn(5, 6), torch.randn(2, 6)).shape == (7, 4)
