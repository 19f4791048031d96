"""Latents of several kinds side by side, against the parts that they are made of."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from compiled import assert_compiled_is_plain, compiles
from oracle import assert_mean, standard_error
from torch import nn
from torch.distributions import Distribution

import tightbound as tb
from tightbound import bounds, divergences, posteriors, priors
from tightbound.batch import Batch
from tightbound.distributions import Joint, Part, class_probabilities, every_code, parts_of
from tightbound.evaluate import evidence
from tightbound.gradients import (
    VIMCO,
    DoublyReparameterised,
    Enumerate,
    Gradient,
    GumbelSoftmax,
    Pathwise,
    ScoreFunction,
    StickingTheLanding,
    StraightThrough,
)
from tightbound.objectives import ELBO, JointVAE
from tightbound.runs.build import build
from tightbound.runs.recipe import Recipe
from tightbound.schedules import Linear

LENGTHS = (2, 3, 8)  # two normals, three bits, two variables of four classes


def mixed(*, scale: float = 0.7) -> tb.VAE:
    torch.manual_seed(1)
    posterior = posteriors.Joint(
        [
            posteriors.DiagonalNormal(nn.Linear(6, 4)),
            posteriors.Bernoulli(nn.Linear(6, 3)),
            posteriors.Categorical(nn.Linear(6, 8), classes=4),
        ]
    )
    prior = priors.Joint(
        [priors.StandardNormal(2), priors.Bernoulli(3, learned=True), priors.Categorical(2, classes=4, learned=True)]
    )
    model = tb.VAE(prior, posterior, tb.likelihoods.Gaussian(nn.Linear(13, 6), scale=1.0)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn_like(p))
    return model


X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 6)


def parts(distribution: Distribution) -> tuple[Distribution, ...]:
    assert isinstance(distribution, Joint)
    return distribution.parts


def test_log_densities_and_means_are_those_of_the_parts() -> None:
    q = mixed().posterior(X)
    z = q.sample((5,))
    expected = sum(own.log_prob(value) for own, value in zip(parts(q), z.split(LENGTHS, -1), strict=True))
    torch.testing.assert_close(q.log_prob(z), expected)
    torch.testing.assert_close(q.mean, torch.cat([own.mean for own in parts(q)], -1))
    drawn, log_q = q.rsample_and_log_prob((5,))
    torch.testing.assert_close(log_q, q.log_prob(drawn))
    assert q.support.check(drawn).all()
    assert q.support.check(drawn).shape == (5, 4)
    for place in (2, 5):  # a bit, and an element of a one-hot vector
        off = drawn.clone()
        off[1, 2, place] += 0.5
        assert (~q.support.check(off)).nonzero().tolist() == [[1, 2]]
    assert q.expand((2, 4)).log_prob(z[0]).shape == (2, 4)


def test_variances_are_those_of_the_parts() -> None:
    two = Joint([tb.priors.StandardNormal(1)(), tb.priors.LogNormal(1)()])
    torch.testing.assert_close(two.variance, torch.tensor([1.0, (math.e - 1) * math.e]))


def test_a_gradient_passes_through_the_real_part_alone() -> None:
    model = mixed()
    z, _ = model.propose(Batch(X), 3)
    network = model.posterior.parts[0].network
    found = torch.autograd.grad(z[..., :2].sum(), network.weight, retain_graph=True)[0]
    assert found.abs().sum() > 0
    for part in model.posterior.parts[1:]:
        assert torch.autograd.grad(z.sum(), part.network.weight, retain_graph=True, allow_unused=True) == (None,)


def test_the_rate_is_the_sum_of_the_parts_and_what_draws_say() -> None:
    model, batch = mixed(), Batch(X)
    q, p = model.posterior(X), model.prior()
    each = [divergences.kl(a, b) for a, b in zip(parts(q), parts(p), strict=True)]
    torch.testing.assert_close(model.rate(batch), sum(each))
    assert model.rate_per_dimension(batch).shape == (4, 2 + 3 + 2)
    torch.testing.assert_close(model.rate_per_dimension(batch).sum(-1), model.rate(batch))
    draws = model.draw(batch, samples=20_000)
    assert_mean(draws.log_qz_x - draws.log_pz, model.rate(batch))
    other = tb.VAE(priors.StandardNormal(13), model.posterior, model.likelihood)
    assert other.rate(batch) is None


def test_what_a_latent_is_made_of_is_told() -> None:
    model = mixed()
    expected = (Part(2, 2, discrete=False), Part(3, 3, discrete=True), Part(8, 2, discrete=True))
    for found in (parts_of(model.posterior(X)), model.parts(Batch(X))):
        assert tuple(part._replace(support=None) for part in found) == expected
    nested = Joint([model.prior(), model.prior()])
    assert tuple(part._replace(support=None) for part in parts_of(nested)) == expected + expected
    p = class_probabilities(model.posterior(X))
    assert p.shape == (4, 5, 4)
    torch.testing.assert_close(p.sum(-1), torch.ones(4, 5, dtype=torch.float64))
    assert (p[:, :3, 2:] == 0).all()
    assert class_probabilities(Joint([tb.priors.StandardNormal(2)()])) is None


# Gradients


def exact_elbo(model: tb.VAE, noise: torch.Tensor) -> torch.Tensor:
    """The ELBO of each observation: the sum over all codes, and the mean over given noise of the normal part."""
    q = model.posterior(X)
    normal, bits, classes = parts(q)
    codes = torch.cat(
        [
            every_code(bits).repeat_interleave(16, 0),
            every_code(classes).repeat(8, 1),
        ],
        -1,
    )  # fmt: skip
    real = normal.base_dist.from_noise(noise)  # (S, 4, 2)
    z = torch.cat([real[:, None].expand(-1, 128, -1, -1), codes[None, :, None].expand(len(noise), -1, 4, -1)], -1)
    flat = z.reshape(-1, 4, 13)
    share = torch.cat(
        [bits.log_prob(codes[:, None, :3])[..., None], classes.log_prob(codes[:, None, 3:])[..., None]], -1
    )
    log_px_z, log_pz = model.log_joint(Batch(X), flat)
    each = (log_px_z + log_pz - q.log_prob(flat)).reshape(len(noise), 128, 4)
    return (share.sum(-1).exp() * each).sum(1).mean(0)


def gradient_of(value: torch.Tensor, model: tb.VAE) -> torch.Tensor:
    found = torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)
    return torch.cat([g.reshape(-1) for g in found])


@pytest.mark.parametrize("gradient", [ScoreFunction("none"), ScoreFunction("batch"), ScoreFunction(), VIMCO()])
def test_the_score_function_has_the_exact_mean(gradient: Gradient) -> None:
    model = mixed()
    torch.manual_seed(3)
    exact = gradient_of(exact_elbo(model, torch.randn(1500, 4, 2, dtype=torch.float64)).mean(), model)
    found = torch.stack(
        [gradient_of(-ELBO(samples=3, gradient=gradient)(model, Batch(X)).value, model) for _ in range(400)]
    )
    assert_mean(found, exact, errors=6)


@pytest.mark.parametrize("hard", [False, True])
def test_relaxed_codes_leave_the_real_part_on_its_path(hard: bool) -> None:
    """The rate in closed form, and a decoder that reads the normal part alone: then nothing is relaxed, nor biased."""
    model = mixed()
    with torch.no_grad():
        model.likelihood.network.weight[:, 2:] = 0
    objective = ELBO(samples=2, kl="closed-form", gradient=GumbelSoftmax(0.5, hard=hard))
    plain = tb.VAE(
        priors.StandardNormal(2),
        model.posterior.parts[0],
        tb.likelihoods.Gaussian(nn.Linear(6, 6), scale=1.0),
    ).double()
    plain.likelihood.network.weight = nn.Parameter(model.likelihood.network.weight[:, :2].detach().clone())
    plain.likelihood.network.bias = model.likelihood.network.bias
    weight = model.posterior.parts[0].network.weight
    torch.manual_seed(4)
    one = torch.stack([torch.autograd.grad(objective(model, Batch(X)).value, weight)[0] for _ in range(400)])
    two = torch.stack(
        [torch.autograd.grad(ELBO(samples=2, kl="closed-form")(plain, Batch(X)).value, weight)[0] for _ in range(400)]
    )
    error = (standard_error(one).square() + standard_error(two).square()).sqrt()
    assert ((one.mean(0) - two.mean(0)).abs() <= 5 * error).all()


@pytest.mark.parametrize("gradient", [GumbelSoftmax(), GumbelSoftmax(hard=True), StraightThrough()])
def test_the_value_is_that_of_hard_codes_and_every_parameter_is_reached(gradient: Gradient) -> None:
    model = mixed()
    torch.manual_seed(5)
    exact = exact_elbo(model, torch.randn(1500, 4, 2, dtype=torch.float64)).detach()
    values = torch.stack([gradient(model, Batch(X), bounds.elbo, samples=5)[0].detach() for _ in range(300)])
    assert_mean(values, exact, errors=5)
    value, draws = gradient(model, Batch(X), bounds.elbo, samples=5)
    assert ((draws.z[..., 2:].detach() == 0) | (draws.z[..., 2:].detach() == 1)).all()
    for name, p in model.posterior.named_parameters():
        assert torch.autograd.grad(value.sum(), p, retain_graph=True)[0].abs().sum() > 0, name


def test_straight_through_moves_the_real_part_by_its_own_path() -> None:
    model = mixed()
    z, _ = model.propose(Batch(X), 2)
    _, draws = StraightThrough()(model, Batch(X), bounds.elbo, samples=2)
    own = torch.autograd.grad(draws.z[..., 0].sum(), model.posterior.parts[0].network.bias)[0]
    assert own[0] == 8  # z₀ moves with its mean, one for each of the 8 draws: the mean is not added once more
    assert z.shape == draws.z.shape


@pytest.mark.parametrize("gradient", [Pathwise(), StickingTheLanding(), DoublyReparameterised()])
def test_a_path_that_ends_half_way_is_refused(gradient: Gradient) -> None:
    with pytest.raises(
        TypeError, match="got a latent that is discrete in part, where no gradient would reach the post"
    ):
        ELBO(gradient=gradient)(mixed(), Batch(X))


def test_codes_beside_real_numbers_cannot_be_listed() -> None:
    with pytest.raises(TypeError, match="Expected codes that can be listed, bits or classes; got a latent of Independ"):
        ELBO(gradient=Enumerate())(mixed(), Batch(X))


def test_codes_beside_codes_can() -> None:
    posterior = posteriors.Joint(
        [posteriors.Bernoulli(nn.Linear(6, 3)), posteriors.Categorical(nn.Linear(6, 8), classes=4)]
    )
    prior = priors.Joint([priors.Bernoulli(3), priors.Categorical(2, classes=4)])
    model = tb.VAE(prior, posterior, tb.likelihoods.Gaussian(nn.Linear(11, 6))).double()
    codes = model.every_code(Batch(X))
    assert codes.shape == (8 * 16, 11)
    torch.testing.assert_close(model.posterior(X).log_prob(codes[:, None]).exp().sum(0), torch.ones(4).double())
    _, draws = Enumerate()(model, Batch(X), bounds.elbo, samples=1)
    torch.testing.assert_close((draws.log_qz_x - draws.log_pz)[0], model.rate(Batch(X)))
    with pytest.raises(ValueError, match="at most 4096 codes to list; got parts of 4096 × 2 codes, 8192 in all"):
        every_code(Joint([priors.Bernoulli(12)(), priors.Bernoulli(1)()]))


def test_parts_with_a_path_each_are_trained_by_it() -> None:
    posterior = posteriors.Joint([posteriors.DiagonalNormal(nn.Linear(6, 4)), posteriors.LogNormal(nn.Linear(6, 2))])
    prior = priors.Joint([priors.StandardNormal(2), priors.LogNormal(1)])
    model = tb.VAE(prior, posterior, tb.likelihoods.Gaussian(nn.Linear(3, 6))).double()
    found = []
    for gradient in (Pathwise(), StickingTheLanding(), ScoreFunction("leave-one-out")):
        torch.manual_seed(6)
        objective = ELBO(samples=4, kl="sampled", gradient=gradient)
        found.append(torch.stack([gradient_of(objective(model, Batch(X)).value, model) for _ in range(300)]))
    for other in found[1:]:
        error = (standard_error(found[0]).square() + standard_error(other).square()).sqrt()
        assert ((found[0].mean(0) - other.mean(0)).abs() <= 5 * error).all()
    assert not any(part.discrete for part in model.parts(Batch(X)))


def test_a_relaxed_prior_must_have_the_same_parts() -> None:
    model = mixed()
    other = tb.VAE(priors.StandardNormal(13), model.posterior, model.likelihood)
    with pytest.raises(
        TypeError, match=r"Expected a prior of the same parts.*got one of Independent. Take tb.priors.Jo"
    ):
        GumbelSoftmax()(other, Batch(X), bounds.elbo, samples=1)


# Everything else


def test_training_and_evaluation_of_mixed_latents() -> None:
    model = mixed(scale=0.3).float()
    torch.manual_seed(0)
    kind = torch.randint(4, (400,))
    x = torch.eye(6)[kind] * 4 + torch.randn(400, 1) + 0.1 * torch.randn(400, 6)
    before = evidence(model, x, samples=50)
    tb.fit(
        model, x, objective=ELBO(gradient=GumbelSoftmax(), samples=2), epochs=30, batch_size=50, learning_rate=0.01,
        micro_batch=40, validation=0, progress=False,
    )  # fmt: skip
    after = evidence(model, x, samples=50)
    assert after.elbo.value > before.elbo.value + 5
    assert after.latent_dim == len(after.kl_per_dimension) == 2 + 3 + 2
    assert after.information.isnan().tolist() == [True, True, *[False] * 5]
    assert after.mean_variance.isnan().tolist() == [False, False, *[True] * 5]
    assert after.active_units >= 2
    assert after.active.tolist() == [
        bool(v > 0.01 if i.isnan() else i > 0.01) for v, i in zip(after.mean_variance, after.information, strict=True)
    ]
    assert after.to_json()["information"][:2] == [None, None]
    assert after.verdict.startswith("The latent is discrete in part: all numbers are of hard codes")
    assert "tells more than 0.01 nats about x or has a mean that moves with it)" in after.verdict
    assert model.embed(x).shape == (400, 13)
    assert model.sample(5).shape == (5, 6)
    assert model.sample(5, temperature=0.0).shape == (5, 6)


def test_a_mixed_model_is_saved_and_read_back(tmp_path) -> None:
    model = mixed()
    model.save(tmp_path / "model")
    again = tb.load_model(tmp_path / "model")
    torch.testing.assert_close(again.embed(X), model.eval().embed(X))
    torch.testing.assert_close(again.log_prob(X, samples=20), model.log_prob(X, samples=20))


@compiles
def test_a_compiled_step_is_the_plain_one() -> None:
    model = mixed().float()
    objective = ELBO(samples=2, gradient=GumbelSoftmax())
    assert_compiled_is_plain(model, objective, Batch(X.float(), checked=True))


@pytest.mark.parametrize("given", [False, True])
def test_a_traversal_of_mixed_latents_moves_each_its_own_way(given: bool) -> None:
    """Numbers go along the prior, bits and classes through all they can be, and the others stay."""
    model, seen = mixed(), []
    model.likelihood.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    x0 = X[0] if given else None
    figure = tb.plots.latent_traversal(model, x0, steps=3, span=1.5)
    assert "along 7 of 7 latent dimensions, from −1.5 to 1.5 σ of the prior, or through 4 classes" in tb.plots.alt_text(
        figure
    )
    columns = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert columns == ["−1.5\n0", "0\n1", "1.5\n2", "\n3"]
    z, start = seen[-1], 0
    lengths = [3, 3, 2, 2, 2, 4, 4]
    assert len(z) == sum(lengths)
    elements = [slice(j, j + 1) for j in range(5)] + [slice(5, 9), slice(9, 13)]
    stays = torch.cat([model.posterior(X[:1]).mean[0, :2] if given else torch.zeros(2), torch.zeros(11)]).double()
    chosen = class_probabilities(model.posterior(X[:1]) if given else model.prior()).view(5, 4).argmax(-1)
    stays[2:5] = chosen[:3].double()
    stays[5:] = torch.nn.functional.one_hot(chosen[3:], 4).flatten().double()
    wanted = {1: torch.tensor([[-1.5], [0.0], [1.5]]), 2: torch.tensor([[0.0], [1.0]]), 4: torch.eye(4)}
    for j, (length, own) in enumerate(zip(lengths, elements, strict=True)):
        rows = z[start : start + length]
        way = wanted[1 if j < 2 else 2 if j < 5 else 4].double()
        torch.testing.assert_close(rows[:, own], way)
        others = [i for i in range(13) if i not in range(own.start, own.stop)]
        torch.testing.assert_close(rows[:, others], stays[others].expand(length, -1))
        start += length


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: posteriors.Joint([]),
            ValueError,
            r"Expected at least one part; got none. For example: \[tb.posteriors",
        ),
        (lambda: priors.Joint([]), ValueError, r"Expected at least one part; got none. For example: \[tb.priors.Stand"),
        (lambda: priors.Joint([nn.Linear(1, 1)]), TypeError, "Expected parts that are each a Prior; got Linear. For"),
        (
            lambda: posteriors.Joint([nn.Linear(1, 1)]),
            TypeError,
            r"Expected parts that are each a Conditional; got Linear. For example: tb.posteriors.DiagonalNormal\(net",
        ),
        (lambda: Joint([]), ValueError, r"Expected at least one part, each a distribution of vectors; got events"),
        (
            lambda: Joint([torch.distributions.Normal(0.0, 1.0)]),
            ValueError,
            r"each a distribution of vectors; got events of shapes \[\(\)\]",
        ),
    ],
)
def test_refuses_parts_that_are_none(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_prior_of_other_parts_is_refused_before_training() -> None:
    model = mixed().float()
    swapped = priors.Joint([priors.Bernoulli(3), priors.StandardNormal(2), priors.Categorical(2, classes=4)])
    with pytest.raises(
        ValueError, match=r"2 numbers, 3 bits and 2 variables of 4 classes; got Joint, one of 3 bits, 2 num"
    ):
        tb.fit(
            tb.VAE(swapped, model.posterior, model.likelihood), X.float(), objective=ELBO(gradient=GumbelSoftmax()),
            progress=False,
        )  # fmt: skip


# A random encoder


def every_posterior() -> dict[str, tuple[nn.Module, nn.Module]]:
    def network(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(6, outputs))

    two = [posteriors.DiagonalNormal(network(2)), posteriors.Exponential(network(1))]
    return {
        "diagonal": (posteriors.DiagonalNormal(network(4)), priors.StandardNormal(2)),
        "full": (posteriors.FullNormal(network(5)), priors.StandardNormal(2)),
        "log-normal": (posteriors.LogNormal(network(4)), priors.LogNormal(2)),
        "exponential": (posteriors.Exponential(network(2)), priors.Exponential(2)),
        "gumbel": (posteriors.Gumbel(network(4)), priors.Gumbel(2)),
        "bits": (posteriors.Bernoulli(network(2)), priors.Bernoulli(2)),
        "classes": (posteriors.Categorical(network(6), classes=3), priors.Categorical(2, classes=3)),
        "flow": (posteriors.Flow(network(6), 2), priors.StandardNormal(2)),
        "joint": (posteriors.Joint(two), priors.Joint([priors.StandardNormal(1), priors.Exponential(1)])),
    }


@pytest.mark.parametrize("name", every_posterior())
def test_a_held_posterior_is_the_one_that_was_drawn_from(name: str) -> None:
    """An encoder with dropout gives another q each time that it is asked: the density must be that of the draws."""
    posterior, prior = every_posterior()[name]
    likelihood = tb.likelihoods.Gaussian(nn.Linear(6 if name == "classes" else 2, 6))
    model = tb.VAE(prior, posterior, likelihood).double().train()
    batch = model.encoded(Batch(X))
    z, log_q = model.propose(batch, 3)
    frozen = model.log_posterior(batch, z, frozen=True)
    torch.testing.assert_close(frozen, log_q)
    z = z.detach().requires_grad_()
    frozen = model.log_posterior(batch, z, frozen=True)
    for parameter in posterior.parameters():
        assert torch.autograd.grad(frozen.sum(), parameter, retain_graph=True, allow_unused=True) == (None,)
    [moved] = torch.autograd.grad(frozen.sum(), z)
    [expected] = torch.autograd.grad(model.log_posterior(batch, z).sum(), z)
    torch.testing.assert_close(moved, expected)


def test_a_prior_that_freezes_itself_does_so_among_others() -> None:
    posterior = posteriors.DiagonalNormal(nn.Linear(6, 4))
    prior = priors.Joint([priors.VampPrior(posterior, torch.randn(3, 6)), priors.Bernoulli(2, learned=True)])
    z = torch.cat([torch.randn(5, 2), torch.ones(5, 2)], -1)
    assert prior.log_prob(z).requires_grad
    assert not prior.log_prob(z, frozen=True).requires_grad
    torch.testing.assert_close(prior.log_prob(z, frozen=True), prior.log_prob(z))


def test_parts_of_other_lengths_are_refused_though_the_whole_fits() -> None:
    posterior = posteriors.Joint([posteriors.DiagonalNormal(nn.Linear(6, 2)), posteriors.Bernoulli(nn.Linear(6, 2))])
    prior = priors.Joint([priors.StandardNormal(2), priors.Bernoulli(1)])
    model = tb.VAE(prior, posterior, tb.likelihoods.Gaussian(nn.Linear(3, 6)))
    message = "that Joint draws, 1 number and 2 bits; got Joint, one of 2 numbers and 1 bit"
    with pytest.raises(ValueError, match=message):
        evidence(model, X.float(), samples=5)


@pytest.mark.parametrize(("real", "codes"), [(0.0, 0.0), (1.5, 0.2), (30.0, 2.0)])
def test_each_kind_is_held_at_a_capacity_of_its_own(real: float, codes: float) -> None:
    model, batch = mixed(), Batch(X)
    torch.manual_seed(2)
    loss = JointVAE(real=real, codes=codes, gamma=3.0)(model, batch)
    rates = [
        divergences.kl(own, other).mean().item()
        for own, other in zip(parts(model.posterior(X)), parts(model.prior()), strict=True)
    ]
    penalty = 3 * (abs(rates[0] - real) + abs(rates[1] + rates[2] - codes))
    assert loss.value.item() == pytest.approx(loss.terms["distortion"].item() + penalty)
    assert loss.terms["rate"].item() == pytest.approx(sum(rates))
    assert loss.terms["rate_codes"].item() == pytest.approx(rates[1] + rates[2])


def test_codes_are_not_asked_for_more_than_they_can_carry() -> None:
    """Three bits and two variables of four classes: 3 log 2 + 2 log 4 nats."""
    model, batch, most = mixed(), Batch(X), 3 * math.log(2) + 2 * math.log(4)
    found = []
    for codes in (most, most + 50, Linear(0.0, most + 50, steps=10)):
        torch.manual_seed(2)
        found.append(JointVAE(codes=codes)(model, batch).value.item())
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    assert found[0] == pytest.approx(found[2], abs=1e-9)


def test_capacities_are_reached() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 6)
    model = mixed().float()
    tb.fit(
        model, x, objective=JointVAE(real=1.0, codes=0.5, gamma=30.0), epochs=60, batch_size=50, learning_rate=0.01,
        progress=False, validation=0.0,
    )  # fmt: skip
    batch = model.encoded(Batch(x))
    rates = model.rate_per_dimension(batch)
    assert rates is not None
    assert rates[:, :2].sum(1).mean().item() == pytest.approx(1.0, abs=0.1)
    assert rates[:, 2:].sum(1).mean().item() == pytest.approx(0.5, abs=0.1)


def test_a_latent_of_one_kind_has_no_two_capacities() -> None:
    alone = tb.VAE(
        prior=priors.StandardNormal(2),
        posterior=posteriors.DiagonalNormal(nn.Linear(6, 4)),
        likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 6)),
    )
    with pytest.raises(TypeError, match=r"Expected a latent of real numbers and of codes side by side, .*; got VAE of"):
        JointVAE()(alone, Batch(X.float()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"real": -1.0}, "Expected real >= 0; got -1.0"),
        ({"codes": -1.0}, "Expected codes >= 0; got -1.0"),
        ({"gamma": math.nan}, "Expected gamma >= 0; got nan"),
        ({"samples": 0}, "Expected samples >= 1; got 0"),
    ],
)
def test_wrong_capacities_are_refused(words: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JointVAE(**words)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("objective", ["joint-vae", "elbo"])
def test_a_recipe_makes_numbers_beside_classes(objective: str, network: str) -> None:
    """Its model has the parts that were asked for, its rate is the sum over them, and its capacities rise together."""
    changes = {
        "model.posterior": "joint", "model.latent_dim": 3, "model.codes": 2, "model.classes": 4, "model.channels": 4,
        "model.network": network, "model.hidden": (8,), "model.likelihood": "bernoulli", "objective.name": objective,
        "objective.gradient": "gumbel-softmax", "objective.warmup_steps": 10,
    }  # fmt: skip
    built = build(Recipe().updated(changes), (torch.rand(40, 1, 8, 8) > 0.5).float())
    batch = built.data.train.eval_batch(0, 5)
    assert [tuple(part)[:3] for part in built.model.parts(batch)] == [(3, 3, False), (8, 2, True)]
    torch.testing.assert_close(built.model.rate(batch), built.model.rate_per_dimension(batch).sum(-1))
    if objective == "joint-vae":
        assert (built.objective.real.end, built.objective.codes.end, built.objective.codes.steps) == (5.0, 5.0, 10)
    trained = tb.fit(built.model, built.data.train, objective=built.objective, epochs=1, validation=0)
    assert math.isfinite(trained.loss)


def test_a_joint_recipe_is_the_model_that_its_folder_opens(tmp_path: Path) -> None:
    changes = {
        "model.posterior": "joint", "model.latent_dim": 2, "model.classes": 3, "model.hidden": (8,),
        "objective.name": "joint-vae", "train.epochs": 1,
    }  # fmt: skip
    x = torch.rand(40, 6)
    made = tb.train(Recipe().updated(changes), data=x, out=tmp_path / "run")
    codes = made.model().embed(x)
    torch.testing.assert_close(tb.open_run(tmp_path / "run").model().embed(x), codes)
    torch.testing.assert_close(codes[:, 2:].sum(-1), torch.ones(40))
