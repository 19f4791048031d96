"""One matrix product gives what a sum over components gives."""

from __future__ import annotations

import pytest
import torch
import torch.distributions as td
from oracle import assert_mean
from torch import Tensor

from tightbound.distributions.mixtures import MixtureOfNormals


def parameters(smallest: float = 0.3, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, generator=generator, dtype=torch.float64)
    loc = 2 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    scale = smallest + torch.rand(7, 5, generator=generator, dtype=torch.float64)
    return logits.to(dtype), loc.to(dtype), scale.to(dtype)


def torchs(logits: Tensor, loc: Tensor, scale: Tensor) -> td.Distribution:
    return td.MixtureSameFamily(td.Categorical(logits=logits), td.Independent(td.Normal(loc, scale), 1))


def test_it_is_torchs_mixture_in_value_and_gradient() -> None:
    given = [p.requires_grad_() for p in parameters()]
    z = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    ours, theirs = MixtureOfNormals(*given).log_prob(z), torchs(*given).log_prob(z)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), [z, *given]),
        torch.autograd.grad(theirs.sum(), [z, *given]),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("smallest", [0.1, 1e-3])
def test_narrow_components_far_from_the_origin_lose_nothing_in_single_precision(smallest: float) -> None:
    """Written out in single precision the squares of (z - mu) / sigma would cancel to whole nats."""
    logits, loc, scale = parameters(smallest, dtype=torch.float32)
    loc, scale = loc + 20, smallest + 0 * scale
    z = loc[torch.arange(50) % 7] + smallest * torch.randn(50, 5)
    exact = torchs(logits.double(), loc.double(), scale.double()).log_prob(z.double())
    torch.testing.assert_close(MixtureOfNormals(logits, loc, scale).log_prob(z).double(), exact, rtol=1e-6, atol=1e-5)


def test_moments_and_samples() -> None:
    ours, theirs = MixtureOfNormals(*parameters()), torchs(*parameters())
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)
    z = ours.sample((50_000,))
    assert z.shape == (50_000, 5)
    assert_mean(z, ours.mean)
    assert_mean((z - ours.mean).square(), ours.variance)


def test_it_checks_what_it_is_asked() -> None:
    logits, loc, scale = parameters()
    with pytest.raises(ValueError, match="scale"):
        MixtureOfNormals(logits, loc, -scale, validate_args=True)
    with pytest.raises(ValueError, match="support"):
        MixtureOfNormals(logits, loc, scale, validate_args=True).log_prob(torch.full((5,), torch.nan))
