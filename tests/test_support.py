"""Values outside a support: which they are, and what to do about them."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, Uniform

from tightbound.support import name_of, outside, require_support, support_of

BINARISE, DIVIDE = "Binarise grey data", "Divide by the largest value"


@pytest.mark.parametrize(
    ("values", "got", "remedy"),
    [
        ([0.0, 1.0, 0.5], "the value 0.5, neither 0 nor 1", BINARISE),
        ([1.0, 0.999], "the value 0.999, neither", BINARISE),
        ([0.0, 2.0, 0.5], "the value 2, neither 0 nor 1", DIVIDE),
        ([1.0, 1.001], "the value 1.001, neither", DIVIDE),
        ([-0.001, 1.0], "the value -0.001, neither", DIVIDE),
    ],
)
def test_what_is_said_of_values_that_are_not_bits(values: list[float], got: str, remedy: str) -> None:
    p = Independent(Bernoulli(torch.full((len(values),), 0.5), validate_args=False), 1)
    with pytest.raises(
        ValueError, match=f"support of the Bernoulli likelihood; got {got}.* first in observation 0. {remedy}"
    ):
        require_support(p, torch.tensor([values]), likelihood="Bernoulli")


def test_other_supports_have_other_remedies() -> None:
    unit, x = support_of(Uniform(0.0, 1.0, validate_args=False)), torch.tensor([[0.25, 7.0]])
    assert unit is not None
    assert "got values between 0.25 and 7, first in here. Rescale the data" in str(
        outside(unit, "Mine", x, where="here")
    )


def test_a_distribution_is_called_by_what_one_element_has() -> None:
    assert name_of(Independent(Independent(Normal(torch.zeros(2, 3), 1.0), 1), 1)) == "Normal"
    assert name_of(Normal(0.0, 1.0)) == "Normal"
