"""One optimisation step: what changes while a model learns, and nothing of when, why or where to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from tightbound.conditional import unvalidated
from tightbound.distributed import world
from tightbound.execution import Execution
from tightbound.model import VAE
from tightbound.objectives import Objective
from tightbound.runtime import called_again, compiled, products_in, random_state, restore_random_state
from tightbound.schedules import WarmupCosine
from tightbound.settings import Training
from tightbound.training.adam import Adam
from tightbound.training.micro import micro_batched

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # layers that may read 16-bit copies of their weights


class TrainStep:
    """A model's weights and the step that moves them.

    Loss and gradient are a plain function of tensors, and so is the update: each can be compiled into one graph. With
    16-bit products the loss reads 16-bit copies of the weights; Adam keeps the weights themselves in full.

    References:
        Micikevicius et al.: Mixed precision training (2017), https://arxiv.org/abs/1710.03740.
    """

    def __init__(
        self, model: VAE, objective: Objective, settings: Training, *, steps: int, device: torch.device
    ) -> None:
        self.model, self.settings, self.device = model, settings, device
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("Expected a model with parameters to train; got one where none requires a gradient.")
        self.weights = [p.detach() for p in self.parameters.values()]
        self.dtype = self.weights[0].dtype
        self.adam = Adam(self.weights, betas=settings.betas, clip=settings.clip, ema=settings.ema)
        self.copies = list(self.weights)
        self.gradients: Sequence[Tensor] = []
        floor = 0.0 if settings.schedule == "cosine" else 1.0
        self.rate = WarmupCosine(settings.learning_rate, steps, min(settings.warmup_steps, steps), floor)
        self.objective = objective
        self.names: tuple[str, ...] = ()  # of the loss's terms, known after the first step
        self.use(Execution())

    def use(self, way: Execution) -> None:
        """Choose how the step is computed; 16-bit copies of the weights are made anew."""
        self.way = way
        self._choose_loss(way)
        layers = {id(p) for m in self.model.modules() if isinstance(m, PRODUCTS) for p in m.parameters(recurse=False)}
        for i, (w, p) in enumerate(zip(self.weights, self.parameters.values(), strict=True)):
            low = way.dtype != torch.float32 and w.dtype == torch.float32 and id(p) in layers
            self.copies[i] = w.to(way.dtype) if low else w
        in_one = way.compiled and not self.settings.micro_batch  # whose pieces are compiled each by itself
        self._gradients = compiled(self._gradients_in_one) if in_one else self._gradients_plainly
        self._move = compiled(self.adam.move) if way.compiled else self.adam.move

    def _choose_loss(self, way: Execution) -> None:
        model, rows = self.model, self.settings.micro_batch
        if rows:
            model = micro_batched(model, rows, way.dtype, compile=way.compiled)
        self.loss = _Loss(model, self.objective)
        names = {id(p): name for name, p in self.loss.named_parameters()}
        self.places = [names[id(p)] for p in self.parameters.values()]

    def try_compiled(self, x: Tensor) -> str:
        """Compile a step for batches such as ``x`` and change nothing else; gives the reason where that fails."""
        noise, before = random_state(self.device), self.state()
        try:
            self.use(Execution(self.way.precision, compiled=True))
            with unvalidated():  # and put back: the compiler switches validation off for good
                self.step_alone(x)
                called_again(self.step_alone, x)
        except Exception as error:  # a model may do anything; whatever the compiler says, the plain step remains
            self.use(Execution(self.way.precision))
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        finally:
            restore_random_state(noise, self.device)
            self.restore(before)
        return ""

    def step_alone(self, x: Tensor) -> None:
        """A first step that no other process has a part in."""
        self.gradients, _ = self._own_gradient(x, 0)
        self.update(0)

    def step(self, x: Tensor, number: int) -> Tensor:
        """Learn from one batch; its loss and terms as one tensor, unread, so that nothing waits for it."""
        values = self.gradient(x, number)
        self.update(number)
        return values

    def gradient(self, x: Tensor, number: int) -> Tensor:
        """The first half of a step: loss, terms and gradients of one batch, shared between processes."""
        gradients, values = self._own_gradient(x, number)
        *self.gradients, values = world().mean([*gradients, values], len(x))
        return values

    def _own_gradient(self, x: Tensor, number: int) -> tuple[Sequence[Tensor], Tensor]:
        step = torch.tensor(float(number), dtype=self.dtype).to(self.device, non_blocking=True)
        gradients, values = self._gradients(self.copies, x.to(self.device, non_blocking=True), step)
        self.names = self.loss.terms
        if world().count > 1:  # messages are in full precision
            gradients = [g.to(self.dtype) for g in gradients]
        return gradients, values

    def update(self, number: int) -> None:
        """The second half: weights, averaged weights and 16-bit copies follow the gradient."""
        self._move(self.gradients, self.copies, self.adam.constants(number, self.rate(number + 1)))

    def loss_of(self, x: Tensor) -> Tensor:
        """The loss of one batch at the first step."""
        return self._value(self.copies, x.to(self.device), torch.zeros((), dtype=self.dtype, device=self.device))[0]

    def bad_gradient(self) -> str | None:
        """The first parameter whose gradient is not finite."""
        return _first_bad(dict(zip(self.parameters, self.gradients, strict=True)))

    def bad_weight(self) -> str | None:
        """The first parameter that is not finite."""
        return _first_bad(self.parameters)

    def swap_average(self) -> None:
        """Exchange weights and averaged weights; twice is nothing. A no-op without averaging."""
        for w, average in zip(self.weights, self.adam.average, strict=bool(self.adam.average)):
            kept = w.clone()
            w.copy_(average)
            average.copy_(kept)

    def state(self) -> dict[str, Any]:
        """Everything a step depends on besides data and random state, copied."""
        return _copied({"model": self.model.state_dict(), **self.adam.state()})

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`state` gave."""
        self.model.load_state_dict(state["model"])
        for name, tensors in self.adam.state().items():
            for tensor, saved in zip(tensors, state[name], strict=True):
                tensor.copy_(saved)
        for copy, w in zip(self.copies, self.weights, strict=True):
            copy.copy_(w)

    def _value(self, copies: Sequence[Tensor], x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(self.places, copies, strict=True))
        with products_in(self.way.dtype, self.device):
            return functional_call(self.loss, named, (x, step))

    def _gradients_plainly(self, copies: list[Tensor], x: Tensor, step: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        leaves = [copy.detach().requires_grad_() for copy in copies]
        value, values = self._value(leaves, x, step)
        gradients = torch.autograd.grad(value, leaves, materialize_grads=True)
        return gradients, values

    def _gradients_in_one(self, copies: list[Tensor], x: Tensor, step: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        gradients, (_, values) = grad_and_value(self._value, has_aux=True)(copies, x, step)
        return gradients, values


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
