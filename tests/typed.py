"""What a type checker says of calls: `make lint` fails where an error that is expected here is none any more."""

from __future__ import annotations

import torch

import tightbound as tb


def settings_have_types(model: tb.Model) -> float:
    """Never called. Each ``ignore`` is an error that mypy must find, or else it complains of the ``ignore``."""
    x = torch.zeros(9, 2)
    tb.fit(model, x, lr=3)  # type: ignore[call-arg]
    tb.fit(model, x, epochs="three")  # type: ignore[arg-type]
    tb.fit(model, x, schedule="linear")  # type: ignore[arg-type]
    tb.fit(model, x, on_log=3)  # type: ignore[arg-type]
    tb.fit(model, x, transform=lambda x: 3)  # type: ignore[arg-type, return-value]
    return tb.fit(model, x, epochs=3, learning_rate=1e-2, validation=x, schedule="constant", betas=(0.9, 0.99)).loss


def frozen_values_fit_what_asks_for_them(model: tb.Model) -> None:
    """Never called. Objectives and comparisons are frozen: a protocol that wants to write to them takes none."""
    objectives = {"ours": tb.objectives.ELBO(kl="closed-form"), "more": tb.objectives.ELBO(beta=2.0)}
    tb.plots.gradient_comparison(tb.gradients.compare(model, torch.zeros(9, 2), objectives))
