from __future__ import annotations

import math

import pytest
import torch
from oracle import linear_gaussian
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from tightbound.conditional import Conditional, Networked
from tightbound.distributions import sample_and_log_prob
from tightbound.likelihoods import Gaussian
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
    z = model.posterior(x).rsample()
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


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_a_network_must_give_one_tensor() -> None:
    message = r"^Expected a network that gives one tensor; got a tuple of 2 from Pair\. .*torch\.cat\(\[mean"
    with pytest.raises(TypeError, match=message):
        DiagonalNormal(Pair())(torch.zeros(3, 4))


def test_a_network_must_keep_its_first_axis() -> None:
    message = r"Expected one output of Flatten for each of 3 inputs; got \(12,\)\. .*z\.view\(len\(z\), \.\.\.\)"
    with pytest.raises(ValueError, match=message):
        DiagonalNormal(nn.Flatten(0))(torch.zeros(3, 4))


@pytest.mark.parametrize(
    "decoder",
    [
        nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16), nn.Unflatten(1, (1, 4, 4))),
        nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 1, 4)),
    ],
    ids=["batch-norm", "transposed convolution"],
)
def test_textbook_decoders_see_one_batch_axis(decoder: nn.Module) -> None:
    likelihood, z = Gaussian(decoder.eval()), torch.randn(5, 3, 2)
    p = likelihood(z)
    assert p.batch_shape == (5, 3)
    assert p.event_shape == (1, 4, 4)
    torch.testing.assert_close(p.mean[4, 2], decoder(z[4, 2][None])[0])


def test_a_single_latent_needs_no_axis() -> None:
    likelihood, z = Gaussian(nn.Linear(2, 5)), torch.randn(2)
    torch.testing.assert_close(likelihood(z).mean, likelihood.network(z))


def test_draws_and_their_density_come_as_a_pair() -> None:
    class Fused(Normal):
        def rsample_and_log_prob(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
            return torch.full((*shape, 3), 7.0), torch.full((*shape, 3), -1.0)

    z, log_q = sample_and_log_prob(Fused(torch.zeros(3), torch.ones(3)), torch.Size([2]))
    assert z.eq(7).all()
    assert log_q.eq(-1).all()
    bits = Independent(Bernoulli(logits=torch.zeros(3, 2, requires_grad=True)), 1)
    z, log_q = sample_and_log_prob(bits, torch.Size([4]))
    assert not z.requires_grad
    assert log_q.requires_grad
    torch.testing.assert_close(log_q, torch.full((4, 3), 2 * math.log(0.5)))


def test_frozen_holds_a_parameter_that_one_module_has_under_two_names() -> None:
    class Twice(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 4)
            self.again = self.weight

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x @ self.again.mT

    posterior = DiagonalNormal(Twice())
    assert not posterior.log_prob(torch.randn(5, 2), torch.randn(5, 3), frozen=True).requires_grad


def test_a_network_that_gives_something_without_a_length_is_told_so() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> None:
            return None

    with pytest.raises(TypeError, match="Expected a network that gives one tensor; got NoneType from Nothing"):
        DiagonalNormal(Nothing())(torch.zeros(2, 3))
