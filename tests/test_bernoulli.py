"""Bernoulli elements: torch's in value and gradient, one by one and a whole observation at once."""

from __future__ import annotations

import pytest
import torch

from tightbound.distributions.bernoulli import Bernoulli, IndependentBernoulli


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_bernoulli_is_torchs_in_value_and_gradient(x: float) -> None:
    ours = torch.linspace(-700, 700, 2801, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    log_prob = Bernoulli(logits=ours, validate_args=False).log_prob(torch.tensor(x, dtype=torch.float64))
    value = torch.distributions.Bernoulli(logits=theirs, validate_args=False).log_prob(torch.full_like(theirs, x))
    torch.testing.assert_close(log_prob, value, rtol=1e-13, atol=1e-13)
    log_prob.sum().backward()
    value.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-13, atol=1e-13)


def test_bernoulli_loses_less_than_a_ten_thousandth_of_a_nat_over_an_image_of_background() -> None:
    logits = torch.linspace(-16, -2, 784)
    exact = -torch.nn.functional.softplus(logits.double()).sum()
    torch.testing.assert_close(
        Bernoulli(logits=logits).log_prob(torch.zeros(784)).sum().double(), exact, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(1,), (127,), (128,), (784,), (3, 32, 32)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-13), (torch.float32, 3e-6), (torch.float16, 3e-2)])
def test_elements_scored_together_are_the_sum_of_elements_scored_alone(
    shape: tuple[int, ...], dtype: torch.dtype, near: float
) -> None:
    torch.manual_seed(0)
    logits = (20 * torch.randn(5, *shape)).to(dtype)
    logits[0] = 0  # where each factor is 2 and their product largest
    x = torch.randint(2, shape).to(dtype)
    p = IndependentBernoulli(Bernoulli(logits=logits, validate_args=False), len(shape))
    wide = logits.double()
    exact = (x.double() * wide - torch.logaddexp(wide, torch.zeros_like(wide))).flatten(1).sum(1)
    with torch.no_grad():
        found = p.log_prob(x)
    torch.testing.assert_close(found.double(), exact, rtol=near, atol=near)
    torch.testing.assert_close(p.log_prob(x), found, rtol=near, atol=near)


def test_elements_scored_together_keep_their_gradient_and_their_checks() -> None:
    logits = torch.zeros(4, 3).requires_grad_()
    p = IndependentBernoulli(Bernoulli(logits=logits, validate_args=True), 1)
    p.log_prob(torch.tensor([0.0, 1.0, 1.0])).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([-0.5, 0.5, 0.5]).expand(4, 3))
    with torch.no_grad(), pytest.raises(ValueError, match="within the support"):
        p.log_prob(torch.tensor([0.5, 1.0, 0.0]))
    wider = p.expand(torch.Size([2, 4]))
    with torch.no_grad():
        torch.testing.assert_close(wider.log_prob(torch.ones(3))[1], p.log_prob(torch.ones(3)))


def test_bernoulli_checks_its_values_as_torchs_does() -> None:
    with pytest.raises(ValueError, match="within the support"):
        Bernoulli(logits=torch.zeros(2), validate_args=True).log_prob(torch.tensor([0.5, 1.0]))
