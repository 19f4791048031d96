from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from oracle import assert_mean
from torch import Tensor, nn

from tightbound.likelihoods import (
    SMALLEST_SCALE,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    Likelihood,
    NegativeBinomial,
    Poisson,
    UnnormalisedBernoulli,
    point_estimate,
)


def direct(kind: Callable[..., Likelihood], parameters: int = 1, **options: object) -> Likelihood:
    """A likelihood of one element whose parameters are the latents themselves."""
    network = nn.Identity() if parameters == 1 else nn.Unflatten(-1, (parameters, 1))
    return kind(network, **options).double()


def whole(stop: int) -> tuple[Tensor, Tensor]:
    """Nodes 0 … stop − 1, each of weight 1."""
    return torch.arange(stop, dtype=torch.float64), torch.ones(stop, dtype=torch.float64)


def spread(low: float, high: float, count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the trapezium rule."""
    nodes = torch.linspace(low, high, count, dtype=torch.float64)
    weights = torch.full_like(nodes, (high - low) / (count - 1))
    weights[[0, -1]] /= 2
    return nodes, weights


def grey(levels: int) -> tuple[Tensor, Tensor]:
    return torch.linspace(0, 1, levels, dtype=torch.float64), torch.ones(levels, dtype=torch.float64)


per_element = {"scale": "per-element"}
Case = tuple[Likelihood, list[list[float]], tuple[Tensor, Tensor]]
CASES: dict[str, Case] = {
    "bernoulli": (direct(Bernoulli), [[-80.0], [-3.0], [0.0], [2.0], [80.0]], whole(2)),
    "continuous-bernoulli": (
        direct(ContinuousBernoulli),
        [[-80.0], [-1.0], [0.0], [1e-3], [80.0]],
        spread(0, 1, 40001),
    ),
    "gaussian-fixed": (direct(Gaussian, scale=0.5), [[-4.0], [0.0], [3.0]], spread(-12, 12, 4001)),
    "gaussian-learned": (direct(Gaussian), [[-4.0], [0.0], [3.0]], spread(-20, 20, 4001)),
    "gaussian-sharp": (direct(Gaussian, 2, **per_element), [[0.2, -40.0], [0.7, -9.0]], spread(0, 1, 40001)),
    "gaussian-wide": (direct(Gaussian, 2, **per_element), [[3.0, 40.0], [-20.0, 5.0]], spread(-600, 600, 4001)),
    "laplace-fixed": (direct(Laplace, scale=0.5), [[-4.0], [0.0], [3.0]], spread(-30, 30, 60001)),
    "laplace-per-element": (direct(Laplace, 2, **per_element), [[2.0, 0.0], [-5.0, 1.5]], spread(-80, 80, 160001)),
    "discretized-logistic": (direct(DiscretizedLogistic, levels=16), [[-2.0], [0.0], [0.31], [1.0]], grey(16)),
    "discretized-logistic-per-element": (
        direct(DiscretizedLogistic, 2, **per_element),
        [[0.2, -40.0], [0.5, 0.0], [-1.0, 40.0], [1.0, -3.0]],
        grey(256),
    ),
    "categorical": (
        direct(Categorical, 3, classes=3),
        [[0.0, 0.0, 0.0], [-80.0, 0.0, 80.0], [1.0, 2.0, -1.0]],
        whole(3),
    ),
    "poisson": (direct(Poisson), [[-80.0], [0.0], [1.5], [5.0]], whole(400)),
    "negative-binomial": (
        direct(NegativeBinomial, 2),
        [[-20.0, 0.0], [0.5, -2.0], [2.0, 30.0], [3.0, 1.0]],
        whole(2000),
    ),
}
every_likelihood = pytest.mark.parametrize("name", CASES)


def tabulated(name: str) -> tuple[Likelihood, Tensor, Tensor, Tensor]:
    """The likelihood, its parameters, the nodes of x, and the probability at each node, shape (nodes, parameters)."""
    likelihood, parameters, (x, weight) = CASES[name]
    z = torch.tensor(parameters, dtype=torch.float64)
    p = likelihood.log_prob(x[:, None, None], z).exp() * weight[:, None]
    return likelihood, z, x, p


@every_likelihood
def test_sums_to_one(name: str) -> None:
    p = tabulated(name)[-1]
    torch.testing.assert_close(p.sum(0), torch.ones(p.shape[1], dtype=torch.float64), rtol=0, atol=2e-6)


@every_likelihood
def test_the_point_estimate_is_the_mean(name: str) -> None:
    likelihood, z, x, p = tabulated(name)
    expected = x[p.argmax(0)] if name == "categorical" else (p * x[:, None]).sum(0)
    expected = torch.where(z[:, 0] == 0, 0.0, expected) if name == "categorical" else expected
    torch.testing.assert_close(point_estimate(likelihood(z)).squeeze(-1), expected, rtol=1e-5, atol=1e-5)


@every_likelihood
def test_samples_have_the_mean_of_the_density(name: str) -> None:
    likelihood, z, x, p = tabulated(name)
    samples = likelihood(z).sample((20_000,)).squeeze(-1).double()
    mean, square = (p * x[:, None]).sum(0), (p * x[:, None].square()).sum(0)
    error = ((square - mean.square()).clamp(min=0) / len(samples)).sqrt()
    assert ((samples.mean(0) - mean).abs() <= 4 * error + 1e-5).all()


def scipys(name: str, z: Tensor, x: Tensor) -> Tensor:
    first = z[:, 0].numpy()
    match name:
        case "bernoulli":
            frozen = scipy.stats.bernoulli(torch.sigmoid(z[:, 0]).numpy())
        case "gaussian-learned":
            frozen = scipy.stats.norm(first, 1.0)
        case "gaussian-wide":
            frozen = scipy.stats.norm(first, SMALLEST_SCALE + z[:, 1].exp().log1p().numpy())
        case "laplace-fixed":
            frozen = scipy.stats.laplace(first, 0.5)
        case "poisson":
            frozen = scipy.stats.poisson(z[:, 0].exp().numpy())
    discrete = name in ("bernoulli", "poisson")
    return torch.from_numpy((frozen.logpmf if discrete else frozen.logpdf)(x[:, None].numpy()))


@pytest.mark.parametrize("name", ["bernoulli", "gaussian-learned", "gaussian-wide", "laplace-fixed", "poisson"])
def test_agrees_with_scipy(name: str) -> None:
    likelihood, parameters, (x, _) = CASES[name]
    z = torch.tensor(parameters, dtype=torch.float64)
    ours = likelihood.log_prob(x[:, None, None], z)
    exact = scipys(name, z, x)
    known = exact.isfinite()  # scipy's Bernoulli rounds 1 − p to 0 at a logit of 80
    assert known.double().mean() > 0.7
    torch.testing.assert_close(ours[known], exact[known], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("likelihood", "means"),
    [
        (direct(Bernoulli), [0.002, 0.3, 0.99]),
        (direct(ContinuousBernoulli), [0.04, 0.2, 0.5, 0.71, 0.96]),
        (direct(Gaussian), [-3.0, 0.2, 8.0]),
        (direct(Gaussian, centre=2.0, unit=0.5), [-3.0, 0.2, 8.0]),
        (direct(Gaussian, 2, centre=2.0, unit=0.5, **per_element), [-3.0, 0.2, 8.0]),
        (direct(Laplace), [-3.0, 0.2, 8.0]),
        (direct(DiscretizedLogistic), [0.01, 0.05, 0.3, 0.5, 0.98]),
        (direct(DiscretizedLogistic, scale=0.01), [0.01, 0.05, 0.3, 0.5, 0.98]),
        (direct(DiscretizedLogistic, 2, **per_element), [0.01, 0.05, 0.3, 0.5, 0.98]),
        (direct(Poisson), [0.002, 1.0, 40.0]),
        (direct(NegativeBinomial, 2), [0.002, 1.0, 40.0]),
    ],
)
def test_the_initial_output_gives_that_mean(likelihood: Likelihood, means: list[float]) -> None:
    for mean in means:
        out = likelihood.initial_output(torch.tensor([mean], dtype=torch.float64))
        start = point_estimate(likelihood(out.reshape(1, -1)))
        torch.testing.assert_close(start.item(), mean, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_the_initial_output_is_finite_at_the_ends(mean: float) -> None:
    for kind in (Bernoulli, ContinuousBernoulli, DiscretizedLogistic, Poisson, NegativeBinomial):
        assert kind(nn.Identity()).initial_output(torch.full((3,), mean)).isfinite().all()


def test_the_initial_output_of_a_categorical_is_uniform() -> None:
    start = Categorical(nn.Identity(), classes=4).initial_output(torch.zeros(2, 3))
    assert start.shape == (4, 2, 3)
    assert (start == 0).all()


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
@pytest.mark.parametrize("scale", [0.3, 2, "learned", "per-element"])
def test_centre_and_unit_are_a_change_of_variable(kind: type[Gaussian], scale: float | str) -> None:
    width = 2 if scale == "per-element" else 1
    centre, unit = torch.tensor([3.0]), torch.tensor([0.25])
    plain, moved = direct(kind, width, scale=scale), direct(kind, width, scale=scale, centre=centre, unit=unit)
    x, z = torch.randn(9, 1).double(), torch.randn(9, width).double()
    torch.testing.assert_close(moved.log_prob(x, z), plain.log_prob((x - 3) / 0.25, z) - math.log(0.25))


def test_the_scale_is_one_parameter_or_none() -> None:
    assert [name for name, _ in Gaussian(nn.Identity()).named_parameters()] == ["raw_scale"]
    assert not list(Gaussian(nn.Identity(), scale=0.5).parameters())
    assert Gaussian(nn.Identity())(torch.zeros(1, 1)).stddev.item() == pytest.approx(1)
    assert Gaussian(nn.Identity(), scale=0.5)(torch.zeros(1, 1)).stddev.item() == 0.5


def test_centre_and_unit_are_copies() -> None:
    centre = torch.zeros(3)
    Gaussian(nn.Identity(), centre=centre).load_state_dict(
        Gaussian(nn.Identity(), centre=torch.ones(3)).state_dict()
    )  # fmt: skip
    assert (centre == 0).all()


@pytest.mark.parametrize("lead", [(3,), (5, 3), (2, 5, 3)])
@pytest.mark.parametrize("shape", [(4,), (1, 2, 3)])
def test_leading_axes_are_batch_and_the_rest_one_observation(lead: tuple[int, ...], shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    plain = nn.Sequential(nn.Linear(2, size), nn.Unflatten(-1, shape))
    double = nn.Sequential(nn.Linear(2, 2 * size), nn.Unflatten(-1, (2, *shape)))
    likelihoods = (
        *(kind(plain) for kind in (Bernoulli, ContinuousBernoulli, Gaussian, Laplace, DiscretizedLogistic, Poisson)),
        *(kind(double, scale="per-element") for kind in (Gaussian, Laplace, DiscretizedLogistic)),
        NegativeBinomial(double),
        Categorical(double, classes=2),
    )
    z, x = torch.randn(*lead, 2), torch.ones(3, *shape)
    for likelihood in likelihoods:
        distribution = likelihood(z)
        assert distribution.batch_shape == lead
        assert distribution.event_shape == shape
        assert likelihood.log_prob(x, z).shape == lead
        assert point_estimate(distribution).shape == (*lead, *shape)
        per_draw = torch.stack([likelihood.log_prob(x, row) for row in z.reshape(-1, 3, 2)])
        torch.testing.assert_close(likelihood.log_prob(x, z), per_draw.reshape(lead))


def test_grey_is_let_through_by_the_explicit_word_only() -> None:
    x, logit = torch.tensor([[0.4]]), torch.tensor([[1.5]])
    message = (
        r"Expected values in the support of the Bernoulli likelihood; got the value 0\.4, neither 0 nor 1, "
        r"first in observation 0\. .*UnnormalisedBernoulli"
    )
    with pytest.raises(ValueError, match=message):
        Bernoulli(nn.Identity()).log_prob(x, logit)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, x)
    explicit = UnnormalisedBernoulli(nn.Identity())
    torch.testing.assert_close(explicit.log_prob(x, logit).squeeze(), -cross_entropy)
    assert (explicit.is_normalised, Bernoulli(nn.Identity()).is_normalised) == (False, True)
    with pytest.raises(ValueError, match=r"UnnormalisedBernoulli likelihood; got values between 1\.4 and 1\.4, "):
        explicit.log_prob(x + 1, logit)


def test_learned_scale_finds_the_spread_of_the_data() -> None:
    x, z = 3 * torch.randn(2000, 1), torch.zeros(2000, 1)
    likelihood = Gaussian(nn.Identity())
    optimiser = torch.optim.LBFGS(likelihood.parameters(), line_search_fn="strong_wolfe", max_iter=50)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -likelihood.log_prob(x, z).mean()
        value.backward()
        return value

    optimiser.step(loss)
    torch.testing.assert_close(likelihood(z).stddev[0, 0].item(), x.square().mean().sqrt().item(), rtol=1e-3, atol=0)


def test_samples_of_the_parameters_agree() -> None:
    assert_mean(Gaussian(nn.Identity(), centre=4.0, unit=2.0)(torch.ones(50_000, 1)).sample(), 6.0)


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf, "other", None, True])
@pytest.mark.parametrize("kind", [Gaussian, Laplace, DiscretizedLogistic])
def test_refuses_other_scales(kind: type[Gaussian], scale: object) -> None:
    with pytest.raises(ValueError, match="Expected a positive scale, 'learned' or 'per-element'; got"):
        kind(nn.Identity(), scale=scale)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [1, 0, -2])
def test_refuses_fewer_than_two_classes(classes: int) -> None:
    with pytest.raises(ValueError, match=f"Expected at least 2 classes; got {classes}"):
        Categorical(nn.Identity(), classes=classes)


def test_refuses_fewer_than_two_levels() -> None:
    with pytest.raises(ValueError, match="Expected at least 2 grey levels; got 1"):
        DiscretizedLogistic(nn.Identity(), levels=1)


def test_refuses_to_go_without_latents() -> None:
    with pytest.raises(TypeError, match=r"Expected latents z of shape \(..., latent\); got None"):
        Bernoulli(nn.Identity())()


@every_likelihood
def test_distributions_check_no_arguments_of_their_own(name: str) -> None:
    """Checks of torch's own would be made in each step, and would keep it from being compiled."""
    likelihood, parameters, _ = CASES[name]
    p = likelihood(torch.tensor(parameters, dtype=torch.float64))
    assert (p._validate_args, p.base_dist._validate_args) == (False, False)


@every_likelihood
def test_frozen_holds_the_parameters_and_changes_no_value(name: str) -> None:
    likelihood, z, x, _ = tabulated(name)
    z = z.requires_grad_()
    at = x[: min(len(x), 5), None, None]
    frozen = likelihood.log_prob(at, z, frozen=True)
    torch.testing.assert_close(frozen, likelihood.log_prob(at, z))
    assert frozen.requires_grad
    for p in likelihood.parameters():
        (gradient,) = torch.autograd.grad(frozen.sum(), p, allow_unused=True, materialize_grads=True, retain_graph=True)
        assert gradient == 0


def test_the_fewest_levels_and_classes_are_two() -> None:
    assert direct(DiscretizedLogistic, levels=2)(torch.zeros(1, 1)).base_dist.levels == 2
    assert DiscretizedLogistic(nn.Identity()).levels == 256
    assert direct(Categorical, 2, classes=2).classes == 2
