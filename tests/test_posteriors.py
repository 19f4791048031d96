from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from tightbound.posteriors import DiagonalNormal, FullNormal, Posterior


def test_diagonal_normal_reads_mean_then_log_variance() -> None:
    q = DiagonalNormal(nn.Identity())(torch.tensor([[1.0, -2.0, math.log(4.0), math.log(9.0)]]))
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(q.stddev, torch.tensor([[2.0, 3.0]]))
    assert (q.batch_shape, q.event_shape) == ((1,), (2,))


def test_full_normal_reads_mean_then_the_rows_of_the_triangle() -> None:
    triangle = [math.log(2.0), 0.5, math.log(3.0), -1.0, 0.7, math.log(0.1)]
    q = FullNormal(nn.Identity())(torch.tensor([[1.0, 2.0, 3.0, *triangle]]))
    factor = torch.tensor([[2.0, 0.0, 0.0], [0.5, 3.0, 0.0], [-1.0, 0.7, 0.1]])
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(q.covariance_matrix, (factor @ factor.T).unsqueeze(0))
    assert (q.batch_shape, q.event_shape) == ((1,), (3,))


def test_full_normal_without_off_diagonal_is_a_diagonal_one() -> None:
    full = FullNormal(nn.Identity())(torch.tensor([[1.0, -2.0, 0.3, 0.0, -0.4]]))
    diagonal = DiagonalNormal(nn.Identity())(torch.tensor([[1.0, -2.0, 0.6, -0.8]]))
    z = torch.randn(10, 1, 2)
    torch.testing.assert_close(full.log_prob(z), diagonal.log_prob(z))


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal])
@pytest.mark.parametrize("latent", [1, 2, 5, 64])
def test_outputs_for_is_what_the_network_must_give(kind: type[Posterior], latent: int) -> None:
    q = kind(nn.Identity())(torch.zeros(3, kind.outputs_for(latent)))
    assert q.event_shape == (latent,)
    z = q.rsample((4,))
    standard = MultivariateNormal(torch.zeros(latent), torch.eye(latent))
    torch.testing.assert_close(q.log_prob(z), standard.log_prob(z))


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal])
def test_draws_carry_gradients_to_every_output(kind: type[Posterior]) -> None:
    out = torch.randn(3, kind.outputs_for(4), requires_grad=True)
    kind(nn.Identity())(out).rsample().square().sum().backward()
    assert out.grad is not None
    assert (out.grad != 0).all()


def test_full_normal_takes_no_exponential_off_the_diagonal() -> None:
    out = torch.zeros(1, 5)
    out[0, 3] = 200.0
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


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal])
def test_refuses_to_go_without_observations(kind: type[Posterior]) -> None:
    with pytest.raises(TypeError, match="Expected observations; got None"):
        kind(nn.Identity())()


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal])
def test_distributions_check_no_arguments_of_their_own(kind: type[Posterior]) -> None:
    assert kind(nn.Identity())(torch.zeros(3, kind.outputs_for(2)))._validate_args is False


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal])
def test_a_latent_is_where_its_network_is_and_leading_axes_pass(kind: type[Posterior]) -> None:
    out = torch.zeros(7, 3, kind.outputs_for(2), device="meta")
    q = kind(nn.Identity()).latent(out)
    assert (q.batch_shape, q.event_shape, q.mean.device.type) == ((7, 3), (2,), "meta")
