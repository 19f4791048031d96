from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from tightbound import priors
from tightbound.posteriors import (
    Bernoulli,
    Categorical,
    DiagonalNormal,
    Exponential,
    FullNormal,
    Gumbel,
    LogNormal,
    Posterior,
)

SMOOTH = [DiagonalNormal, FullNormal, LogNormal, Exponential, Gumbel]
KINDS = [*SMOOTH, Bernoulli, partial(Categorical, classes=2)]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[getattr(kind, "__name__", "Categorical") for kind in KINDS])


def outputs_for(kind: type[Posterior], latent: int) -> int:
    return getattr(kind, "func", kind).outputs_for(latent)


def test_diagonal_normal_reads_mean_then_log_variance() -> None:
    q = DiagonalNormal(nn.Identity())(torch.tensor([[1.0, -2.0, math.log(4.0), math.log(9.0)]]))
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(q.stddev, torch.tensor([[2.0, 3.0]]))
    assert (q.batch_shape, q.event_shape) == ((1,), (2,))


def test_full_normal_reads_mean_log_variance_and_the_rows_of_the_triangle() -> None:
    log_variance = [math.log(4.0), math.log(9.0), math.log(0.01)]
    q = FullNormal(nn.Identity())(torch.tensor([[1.0, 2.0, 3.0, *log_variance, 0.5, -1.0, 0.7]]))
    unit = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-1.0, 0.7, 1.0]])
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0, 3.0]]))
    expected = unit @ torch.diag(torch.tensor([4.0, 9.0, 0.01])) @ unit.T
    torch.testing.assert_close(q.covariance_matrix, expected.unsqueeze(0))
    assert (q.batch_shape, q.event_shape) == ((1,), (3,))


def test_full_normal_without_off_diagonal_is_the_diagonal_one_of_the_same_outputs() -> None:
    out = torch.randn(6, 4)
    full, diagonal = (
        FullNormal(nn.Identity())(torch.cat([out, torch.zeros(6, 1)], 1)),
        DiagonalNormal(nn.Identity())(out),
    )
    z = torch.randn(10, 6, 2)
    torch.testing.assert_close(full.log_prob(z), diagonal.log_prob(z))


@every_kind
@pytest.mark.parametrize("latent", [1, 2, 5, 64])
def test_outputs_for_is_what_the_network_must_give(kind: type[Posterior], latent: int) -> None:
    """Of zeros, which give the standard prior."""
    latent = 2 * latent if kind in KINDS[-1:] else latent
    q = kind(nn.Identity())(torch.zeros(3, outputs_for(kind, latent)))
    assert q.event_shape == (latent,)
    z = q.sample((4,))
    name = type(kind(nn.Identity())).__name__
    if name == "Categorical":
        standard = priors.Categorical(latent // 2, classes=2)
    else:
        standard = getattr(priors, name.replace("DiagonalNormal", "StandardNormal").replace("Full", "Standard"))(latent)
    torch.testing.assert_close(q.log_prob(z), standard().log_prob(z))


@pytest.mark.parametrize("kind", SMOOTH)
def test_draws_carry_gradients_to_every_output(kind: type[Posterior]) -> None:
    out = torch.randn(3, outputs_for(kind, 4), requires_grad=True)
    kind(nn.Identity())(out).rsample().square().sum().backward()
    assert out.grad is not None
    assert (out.grad != 0).all()


def test_full_normal_takes_no_exponential_off_the_diagonal() -> None:
    out = torch.zeros(1, 5)
    out[0, 4] = 200.0
    out.requires_grad_()
    FullNormal(nn.Identity())(out).rsample().sum().backward()
    assert out.grad is not None
    assert out.grad.isfinite().all()


@pytest.mark.parametrize("outputs", [1, 3, 7])
def test_diagonal_normal_refuses_an_odd_number_of_outputs(outputs: int) -> None:
    with pytest.raises(ValueError, match=rf"Expected a network giving .*2 \* latent.*; got \(..., {outputs}\)"):
        DiagonalNormal(nn.Identity())(torch.zeros(2, outputs))


@pytest.mark.parametrize("outputs", [1, 3, 4, 6, 8, 10])
def test_full_normal_refuses_numbers_of_no_triangle(outputs: int) -> None:
    with pytest.raises(ValueError, match=rf"Expected a network giving .*L\(L\+1\)/2.* got \(..., {outputs}\)"):
        FullNormal(nn.Identity())(torch.zeros(2, outputs))


@every_kind
def test_refuses_to_go_without_observations(kind: type[Posterior]) -> None:
    with pytest.raises(TypeError, match="Expected observations; got None"):
        kind(nn.Identity())()


@every_kind
def test_distributions_check_no_arguments_of_their_own(kind: type[Posterior]) -> None:
    assert kind(nn.Identity())(torch.zeros(3, outputs_for(kind, 2)))._validate_args is False


@every_kind
def test_a_latent_is_where_its_network_is_and_leading_axes_pass(kind: type[Posterior]) -> None:
    out = torch.zeros(7, 3, outputs_for(kind, 2), device="meta")
    q = kind(nn.Identity()).latent(out)
    assert (q.batch_shape, q.event_shape, q.mean.device.type) == ((7, 3), (2,), "meta")


def test_each_reads_its_parameters() -> None:
    out = torch.tensor([[0.2, -1.0, 0.7, 0.4]])
    log_normal, gumbel = LogNormal(nn.Identity())(out), Gumbel(nn.Identity())(out)
    torch.testing.assert_close(log_normal.base_dist.loc, out[:, :2])
    torch.testing.assert_close(log_normal.base_dist.scale, (0.5 * out[:, 2:]).exp())
    torch.testing.assert_close(gumbel.base_dist.loc, out[:, :2])
    torch.testing.assert_close(gumbel.base_dist.scale, out[:, 2:].exp())
    torch.testing.assert_close(Exponential(nn.Identity())(out).base_dist.rate, out.exp())
    torch.testing.assert_close(Bernoulli(nn.Identity())(out).mean, torch.sigmoid(out))
    classes = Categorical(nn.Identity(), classes=2)(out)
    torch.testing.assert_close(classes.mean, out.view(2, 2).softmax(-1).view(1, 4))


@pytest.mark.parametrize(
    ("kind", "halves"), [(LogNormal, "mean, then log-variance, of log z"), (Gumbel, "location, then")]
)
def test_pairs_of_parameters_need_an_even_number(kind: type[Posterior], halves: str) -> None:
    with pytest.raises(
        ValueError, match=rf"Expected a network giving \(..., 2 \* latent\): {halves}.*; got \(..., 3\)"
    ):
        kind(nn.Identity())(torch.zeros(1, 3))


def test_categorical_needs_classes_and_a_multiple_of_them() -> None:
    with pytest.raises(ValueError, match="Expected at least 2 classes; got 1"):
        Categorical(nn.Identity(), classes=1)
    with pytest.raises(ValueError, match=r"variables \* 3\): logits of 3 classes for each variable; got \(..., 7\)"):
        Categorical(nn.Identity(), classes=3)(torch.zeros(1, 7))
