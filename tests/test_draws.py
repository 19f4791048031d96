from __future__ import annotations

import pytest
import torch

from tightbound.draws import Draws

NAMES = ("log_px_z", "log_pz", "log_qz_x")


def test_log_weight_is_joint_over_posterior() -> None:
    draws = Draws(torch.zeros(1, 1, 2), torch.tensor([[5.0]]), torch.tensor([[3.0]]), torch.tensor([[1.5]]))
    assert draws.log_w.item() == 6.5


@pytest.mark.parametrize("shape", [(4, 3, 2), (3,), (3, 4), (4, 1), ()])
@pytest.mark.parametrize("name", NAMES)
def test_refuses_a_log_density_of_another_shape(name: str, shape: tuple[int, ...]) -> None:
    densities = {other: torch.zeros(4, 3) for other in NAMES} | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=rf"Expected {name} of shape \(K, B\) = \(4, 3\).*got .*Independent"):
        Draws(torch.zeros(4, 3, 2), **densities)


@pytest.mark.parametrize("latent", [(), (2,), (2, 3, 3)])
def test_latents_may_have_any_shape(latent: tuple[int, ...]) -> None:
    zeros = torch.zeros(4, 3)
    assert Draws(torch.zeros(4, 3, *latent), zeros, zeros, zeros).log_w.shape == (4, 3)


def test_refuses_latents_without_an_axis_for_draws() -> None:
    zeros = torch.zeros(3)
    with pytest.raises(ValueError, match=r"Expected z of shape \(K, B, \*latent\); got \(3,\)"):
        Draws(zeros, zeros, zeros, zeros)


def test_is_frozen() -> None:
    zeros = torch.zeros(1, 1)
    with pytest.raises(AttributeError):
        Draws(zeros, zeros, zeros, zeros).z = zeros  # type: ignore[misc]
