from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_mean, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from tightbound import distributions, posteriors, priors
from tightbound.distributions import every_code
from tightbound.divergences import kl, kl_per_dimension
from tightbound.priors import MixtureOfNormals, StandardNormal

LOC = torch.tensor([[1.0, -2.0, 0.3], [0.0, 0.5, -0.7]], dtype=torch.float64)
SCALE = torch.tensor([[0.5, 2.0, 1.3], [0.2, 0.9, 1.0]], dtype=torch.float64)
FACTOR = torch.tensor([[0.5, 0.0, 0.0], [-0.8, 1.7, 0.0], [0.3, 0.4, 0.2]], dtype=torch.float64)


def factorised(loc: Tensor, scale: Tensor) -> Independent:
    return Independent(Normal(loc, scale), 1)


def full(distribution: Independent) -> MultivariateNormal:
    return MultivariateNormal(distribution.mean, torch.diag_embed(distribution.variance))


DIAGONAL = factorised(LOC, SCALE)
FULL = MultivariateNormal(LOC, scale_tril=FACTOR)
STANDARD = StandardNormal(3).double()()
SKEWED = factorised(torch.tensor([-0.4, 0.7, 2.0]).double(), torch.tensor([0.6, 1.9, 0.8]).double())
LATENTS = {
    "log-normal": (posteriors.LogNormal, lambda: priors.LogNormal(3, learned=True)),
    "exponential": (posteriors.Exponential, lambda: priors.Exponential(3, learned=True)),
    "gumbel": (posteriors.Gumbel, lambda: priors.Gumbel(3, learned=True)),
    "bits": (posteriors.Bernoulli, lambda: priors.Bernoulli(3, learned=True)),
    "classes": (partial(posteriors.Categorical, classes=3), lambda: priors.Categorical(2, classes=3, learned=True)),
}


def latents(name: str) -> tuple[Distribution, Distribution]:
    """A posterior and a prior of one family, both away from their standards."""
    torch.manual_seed(2)
    kind, prior = LATENTS[name]
    outputs = 6 if name in ("log-normal", "gumbel", "classes") else 3
    made = prior().double().requires_grad_(False)
    for p in made.parameters():
        p.copy_(0.5 * torch.randn_like(p))
    return kind(nn.Identity())(torch.randn(2, outputs, dtype=torch.float64)), made()


PAIRS = {
    "diagonal-standard": (DIAGONAL, STANDARD),
    "diagonal-skewed": (DIAGONAL, SKEWED),
    "full-standard": (FULL, STANDARD),
    "full-skewed": (FULL, SKEWED),
}
FACTORISED = {name: latents(name) for name in LATENTS}
every_pair = pytest.mark.parametrize(("q", "p"), PAIRS.values(), ids=PAIRS)


@pytest.mark.parametrize(("q", "p"), [*PAIRS.values(), *FACTORISED.values()], ids=[*PAIRS, *FACTORISED])
def test_agrees_with_draws(q: Distribution, p: Distribution) -> None:
    z = q.sample((40_000,))
    assert_mean(q.log_prob(z) - p.log_prob(z), kl(q, p))


@every_pair
def test_agrees_with_torch(q: Distribution, p: Independent) -> None:
    as_full = q if isinstance(q, MultivariateNormal) else full(q)
    torch.testing.assert_close(kl(q, p), kl_divergence(as_full, full(p).expand(q.batch_shape)))


def test_dimensions_add_up() -> None:
    per_dimension = kl_per_dimension(DIAGONAL, SKEWED)
    torch.testing.assert_close(per_dimension, kl_divergence(DIAGONAL.base_dist, SKEWED.base_dist))
    torch.testing.assert_close(per_dimension.sum(-1), kl(DIAGONAL, SKEWED))


@pytest.mark.parametrize("name", LATENTS)
def test_each_latent_has_a_divergence_of_its_own(name: str) -> None:
    q, p = latents(name)
    per_dimension = kl_per_dimension(q, p)
    assert per_dimension.shape == (2, 2 if name == "classes" else 3)
    assert (per_dimension > 0).all()
    torch.testing.assert_close(per_dimension.sum(-1), kl(q, p))
    torch.testing.assert_close(kl(q, q), torch.zeros(2).double())


@pytest.mark.parametrize("name", ["bits", "classes"])
def test_divergences_of_codes_are_sums_over_all_codes(name: str) -> None:
    q, p = latents(name)
    z = every_code(q)[:, None]
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    torch.testing.assert_close((log_q.exp() * (log_q - log_p)).sum(0), kl(q, p))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (distributions.LogNormal, torch.distributions.LogNormal),
        (distributions.Exponential, torch.distributions.Exponential),
        (distributions.Gumbel, torch.distributions.Gumbel),
    ],
)
def test_torchs_own_distributions_count_as_ours(ours: type[Distribution], theirs: type[Distribution]) -> None:
    count = 1 if ours is distributions.Exponential else 2
    q, p = ([torch.rand(3, dtype=torch.float64) + 0.5 for _ in range(count)] for _ in range(2))
    expected = kl_divergence(theirs(*q), theirs(*p))
    for first, second in ((ours, ours), (ours, theirs), (theirs, theirs)):
        found = kl_per_dimension(Independent(first(*q), 1), Independent(second(*p), 1))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("logit", [0.0, 40.0, -40.0, 200.0])
def test_sure_codes_have_finite_divergences_and_gradients(logit: float) -> None:
    at = torch.tensor([[logit, -logit]], requires_grad=True)
    for q, p in (
        (posteriors.Bernoulli(nn.Identity())(at), priors.Bernoulli(2)()),
        (posteriors.Categorical(nn.Identity(), classes=2)(at), priors.Categorical(1, classes=2)()),
    ):
        (gradient,) = torch.autograd.grad(kl(q, p).sum(), at)
        assert kl(q, p).isfinite().all()
        assert gradient.isfinite().all()


numbers = st.lists(st.floats(-5, 5), min_size=2, max_size=2).map(lambda v: torch.tensor(v, dtype=torch.float64))


@given(numbers, numbers, numbers, numbers)
def test_is_never_negative(loc: Tensor, log_scale: Tensor, other_loc: Tensor, other_log_scale: Tensor) -> None:
    q, p = factorised(loc, log_scale.exp()), factorised(other_loc, other_log_scale.exp())
    assert kl(q, p) >= -1e-12
    assert kl(full(q), p) >= -1e-9
    assert kl(q, q).item() == pytest.approx(0, abs=1e-12)


def test_rate_is_information_plus_marginal_divergence() -> None:
    """E KL(q(z|x) ‖ p(z)) = I(x; z) + KL(q(z) ‖ p(z)), all three in closed form for a linear-Gaussian encoder."""
    problem = linear_gaussian(orthogonal=True)
    model = problem.model(problem.wrong_posterior())
    x = problem.evidence.sample((50_000,))
    q, gain = model.encode(x), 0.8 * problem.gain
    noise = torch.diag(q.variance[0])
    aggregate = gain @ problem.evidence.covariance_matrix @ gain.T + noise
    information = 0.5 * (torch.logdet(aggregate) - torch.logdet(noise))
    zero, identity = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    marginal = kl_divergence(MultivariateNormal(zero, aggregate), MultivariateNormal(zero, identity))
    assert marginal > 0.005
    assert_mean(kl(q, model.prior()), information + marginal)


@pytest.mark.parametrize(
    ("q", "p", "names"),
    [
        (DIAGONAL, MixtureOfNormals(3)(), "Normal and MixtureOfNormals"),
        (FULL, MixtureOfNormals(3)(), "MultivariateNormal and MixtureOfNormals"),
        (DIAGONAL, FULL, "Normal and MultivariateNormal"),
        (Independent(Bernoulli(torch.zeros(2, 3)), 1), STANDARD, "Bernoulli and Normal"),
        (Normal(LOC, SCALE), STANDARD, "Normal and Normal"),
        (latents("gumbel")[0], latents("log-normal")[1], "Gumbel and LogNormal"),
        (latents("bits")[0], latents("classes")[1], "Bernoulli and OneHot"),
    ],
)
def test_refuses_pairs_without_a_closed_form(q: Distribution, p: Distribution, names: str) -> None:
    with pytest.raises(TypeError, match=rf'a prior of one family.*; got {names}.*kl="sampled"'):
        kl(q, p)


def test_per_dimension_refuses_a_full_covariance() -> None:
    with pytest.raises(TypeError, match=r"a prior of one family.* got MultivariateNormal and Normal"):
        kl_per_dimension(FULL, STANDARD)
