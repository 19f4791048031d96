"""One optimisation step: what changes while a model learns, and nothing of when, why or where to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from tightbound.model import VAE
from tightbound.objectives import Objective
from tightbound.schedules import WarmupCosine
from tightbound.settings import Training
from tightbound.train.adam import Moments, hyperparameters, update
from tightbound.train.runtime import products_in, random_state, restore_random_state
from tightbound.train.way import Way, compiled

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # layers that may read 16-bit copies of their weights

Gradient = Callable[[list[Tensor], Tensor, Tensor], tuple[Tensor, Sequence[Tensor]]]


class Learner:
    """Weights, Adam's moments, averaged weights and random state, and the step that moves them together.

    Loss, gradient and update are plain functions of tensors: they run one by one, or compiled into one.

    References:
        Kingma, Ba: Adam (2014), https://arxiv.org/abs/1412.6980; Polyak, Juditsky: averaging (1992),
        https://doi.org/10.1137/0330046; Micikevicius et al.: Mixed precision training (2017),
        https://arxiv.org/abs/1710.03740.
    """

    def __init__(
        self, model: VAE, objective: Objective, settings: Training, *, steps: int, device: torch.device
    ) -> None:
        self.model, self.settings, self.device = model, settings, device
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("Expected a model with parameters to train; got one where none requires a gradient.")
        weights = [p.detach() for p in self.parameters.values()]
        self.dtype = weights[0].dtype
        first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        average = [w.clone() for w in weights] if settings.ema else []
        self.moments = Moments(weights, first, second, average, list(weights))
        self.loss = _Loss(model, objective)
        self.names: tuple[str, ...] = ()  # of the loss's terms, known after the first step
        self.way, self._learn = Way(), self._learn_plainly
        self.gradients: Sequence[Tensor] = ()
        floor = 0.0 if settings.schedule == "cosine" else 1.0
        self.rate = WarmupCosine(settings.learning_rate, steps, min(settings.warmup_steps, steps), floor)

    def use(self, way: Way) -> None:
        """Choose how the step is computed; 16-bit copies of the weights are made anew."""
        self.way = way
        layers = {id(p) for m in self.model.modules() if isinstance(m, PRODUCTS) for p in m.parameters(recurse=False)}
        for i, (w, p) in enumerate(zip(self.moments.weights, self.parameters.values(), strict=True)):
            low = way.dtype != torch.float32 and w.dtype == torch.float32 and id(p) in layers
            self.moments.copies[i] = w.to(way.dtype) if low else w
        self._learn = compiled(self._learn_in_one) if way.compiled else self._learn_plainly

    def try_compiled(self, x: Tensor) -> str:
        """Compile the step for batches such as ``x`` and change nothing else; gives the reason where that fails."""
        state = self.state()
        try:
            self.use(Way(self.way.precision, compiled=True))
            self.step(x, 0)
        except Exception as error:  # a model may do anything; whatever the compiler says, the plain step remains
            self.use(Way(self.way.precision))
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        finally:
            self.restore(state)
        return ""

    def step(self, x: Tensor, number: int) -> Tensor:
        """Learn from one batch; its loss and terms as one tensor, unread, so that nothing waits for it."""
        with torch.no_grad():
            values = self._learn(self.moments, x.to(self.device, non_blocking=True), self._hyper(number))
        self.names = self.loss.terms
        return values

    def loss_of(self, x: Tensor) -> Tensor:
        """The loss of one batch at the first step."""
        return self._value(self.moments.copies, x.to(self.device), self._hyper(0)[0])[0]

    def gradient(self, x: Tensor, number: int) -> Tensor:
        """The first half of a step: loss, terms and gradients of one batch."""
        values, self.gradients = self._gradients_plainly(x.to(self.device), self._hyper(number))
        self.names = self.loss.terms
        return values

    def update(self, number: int) -> None:
        """The second half: weights and averaged weights follow the gradient."""
        with torch.no_grad():
            self._update(self.moments, self.gradients, self._hyper(number))

    def bad_gradient(self) -> str | None:
        """The first parameter whose gradient is not finite."""
        return _first_bad(dict(zip(self.parameters, self.gradients, strict=False)))

    def bad_weight(self) -> str | None:
        """The first parameter that is not finite."""
        return _first_bad(self.parameters)

    def swap_average(self) -> None:
        """Exchange weights and averaged weights; twice is nothing. A no-op without averaging."""
        for w, average in zip(self.moments.weights, self.moments.average, strict=bool(self.moments.average)):
            kept = w.clone()
            w.copy_(average)
            average.copy_(kept)

    def state(self) -> dict[str, Any]:
        """Everything a step depends on besides the data, copied."""
        moments = {name: getattr(self.moments, name) for name in ("first", "second", "average")}
        state = {"model": self.model.state_dict(), **moments, "random": random_state(self.device)}
        return _copied(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`state` gave."""
        self.model.load_state_dict(state["model"])
        for name in ("first", "second", "average"):
            for mine, saved in zip(getattr(self.moments, name), state[name], strict=True):
                mine.copy_(saved)
        for copy, w in zip(self.moments.copies, self.moments.weights, strict=True):
            if copy is not w:
                copy.copy_(w)
        restore_random_state(state["random"], self.device)

    def _hyper(self, number: int) -> Tensor:
        values = hyperparameters(number, self.rate(number + 1), self.settings.betas)
        return torch.tensor(values, dtype=self.dtype).to(self.device, non_blocking=True)

    def _value(self, copies: Sequence[Tensor], x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        named = {f"model.{name}": copy for name, copy in zip(self.parameters, copies, strict=True)}
        with products_in(self.way.dtype, self.device):
            return functional_call(self.loss, named, (x, step))

    def _gradients_plainly(self, x: Tensor, hyper: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        leaves = [copy.detach().requires_grad_() for copy in self.moments.copies]
        with torch.enable_grad():
            value, values = self._value(leaves, x, hyper[0])
            gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        return values, [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, leaves, strict=True)]

    def _update(self, moments: Moments, gradients: Sequence[Tensor], hyper: Tensor) -> None:
        update(moments, gradients, hyper, self.settings.betas, self.settings.clip, self.settings.ema)

    def _learn_plainly(self, moments: Moments, x: Tensor, hyper: Tensor) -> Tensor:
        values, gradients = self._gradients_plainly(x, hyper)
        self._update(moments, gradients, hyper)
        return values

    def _learn_in_one(self, moments: Moments, x: Tensor, hyper: Tensor) -> Tensor:
        gradients, (_, values) = grad_and_value(self._value, has_aux=True)(moments.copies, x, hyper[0])
        self._update(moments, gradients, hyper)
        return values


class _Loss(nn.Module):
    """The objective of the model as a module, so that its parameters can be put in from outside."""

    def __init__(self, model: VAE, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.terms: tuple[str, ...] = ()

    def forward(self, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        loss = self.objective(self.model, x, step)
        self.terms = tuple(loss.terms)
        return loss.value, torch.stack([loss.value.detach(), *loss.terms.values()])


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
