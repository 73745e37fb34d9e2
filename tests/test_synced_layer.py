"""Synchronised DAR-BN in a group of one process, which must compute what plain batch norm does.

Several processes: ``tests/distributed``.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from purenoise import darbn
from purenoise.darbn import DARBatchNorm2d, DARSyncBatchNorm, noise_batch_norm
from purenoise.passes import noise_pass

OPTIONS = [{}, {"momentum": None}, {"momentum": 0.3}, {"affine": False},
           {"track_running_stats": False}, {"eps": 0.1}]  # fmt: skip
STOPS = ["branch", "affine", "none"]


def rows(seed: int, *shape: int) -> Tensor:
    """Draw float64 rows away from zero."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * 2 + 5


def pair(**options: object) -> tuple[nn.Module, nn.Module]:
    """Return a synchronised layer and a plain one with the same gamma and beta."""
    ours = DARSyncBatchNorm(3, dtype=torch.float64, **options)
    plain = nn.BatchNorm2d(3, dtype=torch.float64, **options)
    for i, (a, b) in enumerate(zip(ours.parameters(), plain.parameters(), strict=True)):
        a.data.copy_(rows(i, 3))
        b.data.copy_(a.data)
    return ours, plain


def gradients(layer: nn.Module, x: Tensor, out: Tensor) -> list[Tensor | None]:
    """Return the gradients of a weighted sum of the output."""
    layer.zero_grad()
    if out.requires_grad:
        (out * rows(77, *out.shape)).sum().backward()
    return [x.grad, *(p.grad for p in layer.parameters())]


def assert_alike(ours: list[Tensor | None], theirs: list[Tensor | None]) -> None:
    """Compare tensors, of which some may be missing, but in both."""
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_natural_rows_are_those_of_plain_batch_norm(options: dict[str, object], gloo: None):
    """Outputs, gradients and buffers equal plain batch norm's over three steps."""
    ours, plain = pair(**options)
    assert ours.spans_processes
    for step in range(3):
        a, b = (rows(step, 4, 3, 2, 3).requires_grad_() for _ in range(2))
        out, expected = ours(a), plain(b)
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
        assert_alike(gradients(ours, a, out), gradients(plain, b, expected))
        assert_alike(list(ours.buffers()), list(plain.buffers()))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("stop", STOPS)
def test_noise_rows_are_those_of_the_noise_branch(
    stop: str, options: dict[str, object], gloo: None
):
    """Outputs and gradients equal the noise branch of one process; no buffer changes."""
    ours, plain = pair(**options)
    ours.stop_gradient = stop
    before = [b.clone() for b in ours.buffers()]
    a, b = (rows(5, 4, 3, 2, 3).requires_grad_() for _ in range(2))
    with noise_pass(ours):
        out = ours(a)
    expected = noise_batch_norm(b, plain.weight, plain.bias, plain.eps, stop)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert out.requires_grad == expected.requires_grad
    assert_alike(gradients(ours, a, out), gradients(plain, b, expected))
    assert_alike(list(ours.buffers()), before)


def test_one_natural_value_per_channel_is_refused(gloo: None):
    """One value per channel raises what plain batch norm raises and changes nothing; two do not."""
    ours, plain = pair()
    one, two = rows(0, 1, 3, 1, 1), rows(0, 2, 3, 1, 1)
    for layer in (ours, plain):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            layer(one)
        layer(two)
    empty = DARSyncBatchNorm(3, dtype=torch.float64)
    assert empty(two[:0]).shape == (0, 3, 1, 1)
    assert empty.running_mean.tolist() == [0.0] * 3


def test_wrong_shapes_are_refused_in_both_passes(gloo: None):
    """A row without channels raises the parent's error in either pass."""
    ours, _ = pair()
    with pytest.raises(ValueError, match="expected at least 2D"):
        ours(rows(0, 3))
    with pytest.raises(ValueError, match="expected at least 2D"), noise_pass(ours):
        ours(rows(0, 3))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("synchronised", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_which_layers_span_processes(
    processes: int, synchronised: bool, training: bool, monkeypatch: pytest.MonkeyPatch
):
    """A plain layer does in training, if it was asked to and there are several processes."""
    monkeypatch.setattr(darbn, "process_count", lambda group: processes)
    layer = DARBatchNorm2d(3).train(training)
    layer.synchronised = synchronised
    assert layer.spans_processes is (synchronised and training and processes == 2)


def test_a_sync_layer_alone_spans_its_group_of_one(gloo: None):
    """Torch's own form refuses CPUs in a group, so ours takes over there, but only in training."""
    layer = DARSyncBatchNorm(3)
    assert layer.spans_processes is True
    assert layer.eval().spans_processes is False
    plain = DARBatchNorm2d(3)
    plain.synchronised = True
    assert plain.spans_processes is False


def test_activations_follow_in_both_passes(gloo: None):
    """What a parent applies after normalising is applied to natural and noise rows too."""

    class Doubled(DARSyncBatchNorm):
        def after_norm(self, x: Tensor) -> Tensor:
            return 2 * x

    x = rows(3, 4, 3, 2, 2)
    ours, doubled = (kind(3, dtype=torch.float64) for kind in (DARSyncBatchNorm, Doubled))
    assert torch.equal(doubled(x), 2 * ours(x))
    with noise_pass(ours), noise_pass(doubled):
        assert torch.equal(doubled(x), 2 * ours(x))
