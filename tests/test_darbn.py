"""DAR-BN layers and functions against the paper's formulas."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from purenoise.darbn import (
    DARBatchNorm1d,
    DARBatchNorm2d,
    dar_batch_norm,
    noise_batch_norm,
)
from purenoise.passes import noise_pass

from .darbncases import LAYERS, PARENTS, STOPS, layer_of, random
from .reference import Oracle, dar_bn_oracle

SHAPES = [(1, ()), (1, (5,)), (2, (3, 4)), (3, (2, 3, 2))]


def oracle_of(
    layer: nn.Module, x: Tensor, is_noise: Tensor, upstream: Tensor, momentum: float = 0.1
) -> Oracle:
    """Ask the oracle what the layer should do with a mixed batch."""
    n = x.shape[1]
    affine = [np.ones(n), np.zeros(n)]
    if layer.weight is not None:
        affine = [layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()]
    running = (np.zeros(n), np.ones(n))
    if layer.running_mean is not None:
        running = (layer.running_mean.numpy().copy(), layer.running_var.numpy().copy())
    return dar_bn_oracle(
        x.detach().numpy(),
        is_noise.numpy(),
        running,
        affine[0],
        affine[1],
        upstream.numpy(),
        layer.stop_gradient,
        layer.training or layer.running_mean is None,
        momentum,
    )


def functional(layer: nn.Module, x: Tensor, is_noise: Tensor) -> Tensor:
    """Run the mixed reference with a layer's tensors."""
    training = layer.training or layer.running_mean is None
    return dar_batch_norm(
        x,
        is_noise,
        layer.running_mean,
        layer.running_var,
        layer.weight,
        layer.bias,
        training,
        stop_gradient=layer.stop_gradient,
    )


def two_calls(layer: nn.Module, x: Tensor, is_noise: Tensor) -> Tensor:
    """Run a layer on natural rows, then on noise rows in a noise pass; restore the order."""
    natural = layer(x[~is_noise])
    with noise_pass(layer):
        noise = layer(x[is_noise])
    out = torch.empty_like(x)
    out[~is_noise], out[is_noise] = natural, noise
    return out


def assert_equals_oracle(layer: nn.Module, forward: object, x: Tensor, is_noise: Tensor) -> None:
    """Compare output, gradients and running statistics of one step with the oracle."""
    x = x.clone().requires_grad_()
    upstream = random(99, *x.shape)
    expected = oracle_of(layer, x, is_noise, upstream)
    out = forward(layer, x, is_noise)
    if out.requires_grad:
        out.backward(upstream)
    pairs = [(out.detach(), expected.out)]
    if x.grad is not None:
        pairs.append((x.grad, expected.grad_x))
    if layer.weight is not None:
        pairs += [(layer.weight.grad, expected.grad_weight), (layer.bias.grad, expected.grad_bias)]
    if layer.running_mean is not None:
        pairs.append((layer.running_mean, expected.running_mean))
        pairs.append((layer.running_var, expected.running_var))
    for got, want in pairs:
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("forward", [functional, two_calls])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize(("dims", "space"), SHAPES)
def test_equals_the_papers_formulas(dims, space, stop, training, forward):
    """Output, gradients and running statistics are those of the paper, in train and in eval."""
    layer = layer_of(dims, stop_gradient=stop).train(training)
    x = random(1, 7, 3, *space) * 2 + 1
    is_noise = torch.tensor([0, 1, 0, 0, 1, 1, 0]).bool()
    assert_equals_oracle(layer, forward, x, is_noise)


@pytest.mark.parametrize("forward", [functional, two_calls])
@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formulas_without_affine_or_statistics(options, training, forward):
    """Layers without gamma and beta, or without running statistics, follow the same formulas."""
    layer = layer_of(2, **options).train(training)
    is_noise = torch.tensor([0, 1, 0, 1, 0]).bool()
    assert_equals_oracle(layer, forward, random(2, 5, 3, 2, 2), is_noise)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_the_formulas_for_any_shape_and_mask(data):
    """For random shapes, masks and scales both forms equal the oracle in float64."""
    dims, n_space = data.draw(st.sampled_from([(1, 0), (1, 1), (2, 2), (3, 3)]))
    space = data.draw(st.tuples(*[st.integers(1, 4)] * n_space))
    channels = data.draw(st.integers(1, 5))
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=4, max_size=9))) | False
    mask[:2], mask[2:4] = False, True  # two rows of each, as one value has no variance
    stop = data.draw(st.sampled_from(STOPS))
    x = random(data.draw(st.integers(0, 999)), len(mask), channels, *space)
    x = x * data.draw(st.sampled_from([0.1, 1.0, 30.0])) + data.draw(st.integers(-5, 5))
    for forward in (functional, two_calls):
        assert_equals_oracle(layer_of(dims, channels, stop_gradient=stop), forward, x, mask)


def test_branch_gives_exactly_zero_gradient_to_noise_rows():
    """With stop_gradient=branch not one bit of gradient reaches a noise row."""
    is_noise = torch.tensor([True, False, False, True])
    x = random(3, 4, 3, 2, 2).requires_grad_()
    out = functional(layer_of(2), x, is_noise)
    (out * random(4, 4, 3, 2, 2)).sum().backward()
    assert not x.grad[is_noise].any()
    assert x.grad[~is_noise].abs().min() > 0


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_running_statistics_come_from_natural_rows_alone(dims):
    """After a step the buffers are those of plain batch norm on the natural rows, bit for bit."""
    layer, plain = LAYERS[dims](4), PARENTS[dims](4)
    natural, noise = torch.randn(6, 4, *[3] * dims), torch.full((5, 4, *[3] * dims), 1e6)
    plain(natural)
    layer(natural)
    with noise_pass(layer):
        layer(noise)
    assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), plain.buffers(), strict=True))


def test_cumulative_average_counts_natural_batches_alone():
    """With momentum=None the running mean is the plain mean over natural batches."""
    layer = DARBatchNorm1d(2, momentum=None).double()
    batches = [random(i, 8, 2) for i in range(3)]
    for batch in batches:
        layer(batch)
        with noise_pass(layer):
            layer(batch + 100)
    torch.testing.assert_close(layer.running_mean, torch.stack(batches).mean((0, 1)))
    assert int(layer.num_batches_tracked) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_noise_rows_it_is_plain_batch_norm_bit_for_bit(dtype):
    """A batch without noise rows gives the very bits of torch's batch norm."""
    x = torch.randn(6, 3, 5, 5).to(dtype)
    layer, plain = DARBatchNorm2d(3).to(dtype), nn.BatchNorm2d(3).to(dtype)
    expected = plain(x)
    assert torch.equal(functional(copy.deepcopy(layer), x, torch.zeros(6).bool()), expected)
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer.running_var, plain.running_var)


def test_only_noise_rows_leave_statistics_and_give_zero_gradients():
    """A batch of noise alone changes no statistics and gives zero gradients, not None."""
    layer = layer_of(2)
    before = [b.clone() for b in (layer.running_mean, layer.running_var)]
    x = random(5, 4, 3, 2, 2)
    out = torch.cat([layer(x[:0]), functional(layer, x, torch.ones(4).bool())])
    out.sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros(3).double())
    assert torch.equal(layer.bias.grad, torch.zeros(3).double())
    after = (layer.running_mean, layer.running_var)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.allclose(out.mean((0, 2, 3)), layer.bias)


@pytest.mark.parametrize(("dims", "space"), [(1, ()), (2, (1, 1)), (3, (1, 1, 1))])
def test_one_natural_value_per_channel_is_refused_as_torch_does(dims, space):
    """One natural value per channel raises the ValueError of plain batch norm."""
    x = random(6, 3, 3, *space)
    is_noise = torch.tensor([True, False, True])
    for forward in (functional, two_calls):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            forward(layer_of(dims), x, is_noise)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("dims", "space"), [(1, ()), (1, (1,)), (2, (1, 1)), (3, (1, 1, 1))])
def test_one_noise_value_per_channel_gives_beta(dims, space, dtype, stop):
    """One noise value per channel gives exactly beta, also for half inputs, and no gradient."""
    layer = LAYERS[dims](3, stop_gradient=stop)
    nn.init.uniform_(layer.bias)
    layer = layer.double() if dtype == torch.float64 else layer
    x = torch.full((1, 3, *space), 0.1, dtype=dtype, requires_grad=True)
    with noise_pass(layer):
        out = layer(x)
    assert out.dtype == dtype
    assert torch.equal(out.flatten(), layer.bias.detach().to(dtype))
    if out.requires_grad:
        out.sum().backward()
        assert x.grad is None or not x.grad.any()


def test_one_noise_value_without_affine_gives_zero():
    """One noise value per channel and no beta gives zero."""
    layer = DARBatchNorm2d(3, affine=False)
    with noise_pass(layer):
        assert torch.equal(layer(torch.full((1, 3, 1, 1), 7.7)), torch.zeros(1, 3, 1, 1))


def test_no_noise_rows_in_a_noise_pass():
    """A noise pass over 0 rows gives 0 rows."""
    layer = DARBatchNorm2d(3)
    with noise_pass(layer):
        assert layer(torch.randn(0, 3, 4, 4)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("stop", STOPS)
def test_frozen_layers_use_running_statistics_in_both_passes(stop):
    """A layer in eval() is ordinary evaluation for noise rows too, and changes no buffer."""
    layer = layer_of(2, stop_gradient=stop).eval()
    x = random(7, 4, 3, 2, 2) * 5
    expected = layer(x)
    before = copy.deepcopy(layer.state_dict())
    with noise_pass(layer):
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_noise_normalisation_resists_a_large_mean():
    """Noise far from zero is normalised in two passes, not by E[x^2] - E[x]^2."""
    x = torch.randn(64, 2, 4, 4) + 3000
    out = noise_batch_norm(x, None, None)
    torch.testing.assert_close(out.std((0, 2, 3), unbiased=False), torch.ones(2), atol=1e-3, rtol=0)


def test_the_comparison_can_fail():
    """Plain batch norm on the mixed batch is not what the oracle says."""
    layer, x = layer_of(2), random(8, 6, 3, 2, 2)
    x[4:] += 3
    is_noise = torch.arange(6) >= 4
    expected = oracle_of(layer, x, is_noise, x).out
    mixed = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)
    assert np.abs(mixed.detach().numpy() - expected).max() > 0.1


def test_defaults_of_the_functions_are_those_of_batch_norm():
    """Without options both functions train, with torch's momentum and eps, and no gamma or beta."""
    x, is_noise = random(20, 6, 3, 2, 2) / 50, torch.arange(6) >= 4
    ours, theirs = ((torch.zeros(3).double(), torch.ones(3).double()) for _ in range(2))
    out = dar_batch_norm(x, is_noise, *ours)
    expected = F.batch_norm(x[:4], *theirs, training=True, momentum=0.1, eps=1e-5)
    assert torch.equal(out[:4], expected)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    noise = F.batch_norm(x[4:], None, None, training=True, eps=1e-5)
    torch.testing.assert_close(out[4:], noise, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(noise_batch_norm(x[4:], None, None), noise, rtol=0, atol=1e-12)
