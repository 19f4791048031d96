from __future__ import annotations

import pytest
import torch
from oracle import linear_gaussian
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from tightbound.conditional import Conditional, Networked, unvalidated
from tightbound.posteriors import DiagonalNormal, FullNormal


class Lazy(Conditional):
    """Its distribution reads the parameters only in ``log_prob``, as flows do."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, context: Tensor | None = None) -> Distribution:
        return LazyNormal(self, torch.zeros(1) if context is None else context)


class LazyNormal(Distribution):
    def __init__(self, module: Lazy, context: Tensor) -> None:
        super().__init__(context.shape[:-1], torch.Size([2]), validate_args=False)
        self.module, self.context = module, context

    def log_prob(self, value: Tensor) -> Tensor:
        return Independent(Normal(self.module.loc + self.context, 0.5), 1).log_prob(value)


def gradients(value: Tensor, module: nn.Module) -> list[Tensor]:
    leaves = list(module.parameters())
    return list(torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("frozen", [False, True])
def test_stick_the_landing_gradient_vanishes_at_the_exact_posterior(frozen: bool) -> None:
    problem = linear_gaussian()
    model = problem.model(problem.exact_posterior())
    x = problem.evidence.sample((7,))
    z = model.encode(x).rsample()
    log_w = model.likelihood.log_prob(x, z) + model.prior.log_prob(z)
    bound = (log_w - model.posterior.log_prob(z, x, frozen=frozen)).mean()
    size = max(float(g.abs().max()) for g in gradients(bound, model.posterior))
    assert size < 1e-12 if frozen else size > 0.01


def test_frozen_changes_no_value() -> None:
    posterior = FullNormal(nn.Linear(4, 5))
    x, z = torch.randn(3, 4), torch.randn(6, 3, 2)
    torch.testing.assert_close(posterior.log_prob(z, x, frozen=True), posterior.log_prob(z, x))


@pytest.mark.parametrize("posterior", [Lazy(), DiagonalNormal(nn.Linear(2, 4))], ids=["lazy", "eager"])
def test_frozen_holds_parameters_and_nothing_else(posterior: Conditional) -> None:
    z = torch.randn(5, 2, requires_grad=True)
    x = torch.randn(5, 2, requires_grad=True)
    frozen = posterior.log_prob(z, x, frozen=True).sum()
    live = posterior.log_prob(z, x).sum()
    assert all((g == 0).all() for g in gradients(frozen, posterior))
    assert any((g != 0).any() for g in gradients(live, posterior))
    for ours, theirs in zip(torch.autograd.grad(frozen, (z, x)), torch.autograd.grad(live, (z, x)), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert (ours != 0).any()


@pytest.mark.parametrize("tied", ["module", "parameter"])
def test_frozen_holds_tied_parameters_and_leaves_them_in_place(tied: str) -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    second = first if tied == "module" else second
    posterior = DiagonalNormal(nn.Sequential(first, nn.Tanh(), second, nn.Linear(3, 4)))
    before = dict(posterior.named_parameters(remove_duplicate=False))
    log_q = posterior.log_prob(torch.randn(5, 2), torch.randn(5, 3), frozen=True)
    assert not log_q.requires_grad
    after = dict(posterior.named_parameters(remove_duplicate=False))
    assert before.keys() == after.keys()
    assert all(after[name] is p for name, p in before.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_half_give_log_densities_in_single(dtype: torch.dtype) -> None:
    posterior = DiagonalNormal(nn.Linear(3, 4).to(dtype))
    assert posterior(torch.zeros(2, 3, dtype=dtype)).mean.dtype == torch.float32


def test_networks_in_double_stay_in_double() -> None:
    posterior = DiagonalNormal(nn.Linear(3, 4).double())
    assert posterior(torch.zeros(2, 3, dtype=torch.float64)).mean.dtype == torch.float64


def test_bases_are_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Conditional()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract"):
        Networked(nn.Identity())  # type: ignore[abstract]


@pytest.mark.parametrize("before", [True, False])
def test_unvalidated_restores_what_it_found(before: bool) -> None:
    Distribution.set_default_validate_args(before)
    with unvalidated():
        Normal(torch.zeros(()), torch.tensor(-1.0))
    assert Distribution._validate_args is before
    with pytest.raises(KeyError), unvalidated():
        raise KeyError
    assert Distribution._validate_args is before
