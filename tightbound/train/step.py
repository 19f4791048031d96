"""One optimisation step: what changes while a model learns, and nothing of when, why or where to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.model import VAE
from tightbound.objectives import Objective
from tightbound.schedules import WarmupCosine
from tightbound.settings import Training
from tightbound.train.runtime import products_in, random_state, resolve_precision, restore_random_state


class Learner:
    """Weights, Adam's moments, averaged weights and random state, and the step that moves them together.

    References:
        Kingma, Ba: Adam (2014), https://arxiv.org/abs/1412.6980; Polyak, Juditsky: averaging (1992),
        https://doi.org/10.1137/0330046.
    """

    def __init__(
        self, model: VAE, objective: Objective, settings: Training, *, steps: int, device: torch.device
    ) -> None:
        self.model, self.objective, self.settings, self.device = model, objective, settings, device
        self.precision = resolve_precision(settings.precision, device)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("Expected a model with parameters to train; got one where none requires a gradient.")
        self.dtype = next(iter(self.parameters.values())).dtype
        trained = list(self.parameters.values())
        self.optimizer = torch.optim.Adam(trained, betas=settings.betas, fused=device.type in ("cpu", "cuda"))
        floor = 0.0 if settings.schedule == "cosine" else 1.0
        self.rate = WarmupCosine(settings.learning_rate, steps, min(settings.warmup_steps, steps), floor)
        self.average = [p.detach().clone() for p in trained] if settings.ema else []
        self.names: tuple[str, ...] = ()  # of the terms, known after the first step

    def step(self, x: Tensor, number: int) -> Tensor:
        """Learn from one batch; its loss and terms as one tensor, unread, so that nothing waits for it."""
        values = self.gradient(x, number)
        self.update(number)
        return values

    def gradient(self, x: Tensor, number: int) -> Tensor:
        """The first half of a step: loss, terms and gradients of one batch."""
        self.optimizer.zero_grad(set_to_none=True)
        with products_in(self.precision, self.device):
            loss = self.objective(self.model, x.to(self.device), torch.tensor(number, device=self.device))
        loss.value.backward()
        self.names = tuple(loss.terms)
        return torch.stack([loss.value.detach(), *loss.terms.values()])

    def update(self, number: int) -> None:
        """The second half: weights and averaged weights follow the gradient."""
        if self.settings.clip:
            nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number + 1)
        self.optimizer.step()
        if self.average:
            torch._foreach_lerp_(self.average, self._values(), 1 - self.settings.ema)

    def bad_gradient(self) -> str | None:
        """The first parameter whose gradient is not finite."""
        return _first_bad({name: p.grad for name, p in self.parameters.items() if p.grad is not None})

    def bad_weight(self) -> str | None:
        """The first parameter that is not finite."""
        return _first_bad(self.parameters)

    def swap_average(self) -> None:
        """Exchange weights and averaged weights; twice is nothing. A no-op without averaging."""
        with torch.no_grad():
            for p, average in zip(self._values(), self.average, strict=bool(self.average)):
                kept = p.clone()
                p.copy_(average)
                average.copy_(kept)

    def state(self) -> dict[str, Any]:
        """Everything a step depends on besides the data, copied."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "random": random_state(self.device),
        }
        return _copied(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`state` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(_copied(state["optimizer"]))
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
        restore_random_state(state["random"], self.device)

    def _values(self) -> list[Tensor]:
        return [p.detach() for p in self.parameters.values()]


def _first_bad(tensors: Mapping[str, Tensor]) -> str | None:
    return next((name for name, value in tensors.items() if not value.isfinite().all()), None)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value
