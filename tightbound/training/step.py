"""One optimisation step: what changes while a model learns, and nothing of when, why or where to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vjp
from torch.nn.modules.conv import _ConvNd

from tightbound.batch import Batch
from tightbound.compilations import expected, remember
from tightbound.distributed import world
from tightbound.execution import (
    Execution,
    called_again,
    compiled,
    compiling,
    multiplies_bfloat16,
    products_in,
    step_pays,
)
from tightbound.model import Model
from tightbound.objectives import Objective, SecondPlayer
from tightbound.runtime import random_state, restore_random_state
from tightbound.schedules import WarmupCosine
from tightbound.settings import Training
from tightbound.threads import tried
from tightbound.training.adam import Adam
from tightbound.training.fingerprint import facts_of, fingerprint
from tightbound.training.micro import micro_batched

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # layers that may read 16-bit copies of their weights
PASSING = (  # settings that a compiled step does not have in it
    "epochs", "learning_rate", "schedule", "warmup_steps", "validation", "patience", "log_every", "checkpoint_seconds",
)  # fmt: skip
SAME = 1e-3  # largest relative difference of two losses that count as the same
AGREE = 0.05  # the same of two gradients: in 16 bits compiled code rounds elsewhere, and no more than that
SECOND = "second_player"  # what the log calls the second player's loss


class TrainStep:
    """The weights of a model and of its objective, and the step that moves them.

    Loss and gradient are a plain function of tensors, and so is the update: each can be compiled into one graph. With
    16-bit products the loss reads 16-bit copies of the weights; Adam keeps the weights themselves in full.

    A second player's weights get the gradient of their own loss and of nothing else, and the others none of it.

    References:
        Micikevicius et al.: Mixed precision training (2017), https://arxiv.org/abs/1710.03740.

    Args:
        model: on its device.
        objective: likewise, if it is a module.
        settings: of the training.
        steps: how many there will be.
        device: where to compute.

    Raises:
        ValueError: for a model in which nothing can be trained.
    """

    def __init__(
        self, model: Model, objective: Objective, settings: Training, *, steps: int, device: torch.device
    ) -> None:
        self.model, self.objective, self.settings, self.device = model, objective, settings, device
        player: SecondPlayer | None = getattr(objective, "second_player", None)
        theirs = [p for p in player.module.parameters() if p.requires_grad] if player else []
        self.parameters = _trainable(model, objective, without=theirs)
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("Expected a model with parameters to train; got one where none requires a gradient.")
        self.weights = [p.detach() for p in self.parameters.values()]
        self.dtype = self.weights[0].dtype
        matrices = {id(m.weight) for part in (model, objective) if isinstance(part, nn.Module) for m in _products(part)}
        decay = [settings.weight_decay * (id(p) in matrices) for p in self.parameters.values()]
        self.adam = Adam(self.weights, betas=settings.betas, clip=settings.clip, ema=settings.ema, decay=decay)
        floor = 0.0 if settings.schedule == "cosine" else 1.0
        self.rate = WarmupCosine(settings.learning_rate, steps, min(settings.warmup_steps, steps), floor)
        self.player, self.their_parameters = player, theirs
        self.their_weights = [p.detach() for p in theirs]
        self.their_adam = Adam(self.their_weights, betas=player.betas) if player and theirs else None
        self.copies = list(self.weights)
        self.gradients: Sequence[Tensor] = []
        self.their_gradients: Sequence[Tensor] = []
        self.names: tuple[str, ...] = ()  # of the loss's terms, known after the first step
        self.use(Execution())

    def use(self, execution: Execution) -> None:
        """Choose how the step is computed; 16-bit copies of the weights are made anew."""
        self.execution = execution
        self._choose_loss(execution)
        layers = {id(p) for m in _products(self.loss) for p in m.parameters(recurse=False)}
        for i, (w, p) in enumerate(zip(self.weights, self.parameters.values(), strict=True)):
            low = execution.dtype != torch.float32 and w.dtype == torch.float32 and id(p) in layers
            self.copies[i] = w.to(execution.dtype) if low else w
        in_one = execution.compiled and not self.settings.micro_batch  # whose pieces are compiled each by itself
        self._gradients = compiled(self._gradients_in_one) if in_one else self._gradients_plainly
        self._move = compiled(self.adam.move) if execution.compiled else None

    def _choose_loss(self, execution: Execution) -> None:
        model, rows = self.model, self.settings.micro_batch
        if rows:
            model = micro_batched(model, rows, execution.dtype, compile=execution.compiled)
        self.loss = _Loss(model, self.objective)
        names = {id(p): name for name, p in self.loss.named_parameters()}
        self.places = [names[id(p)] for p in self.parameters.values()]
        self.their_places = [names[id(p)] for p in self.their_parameters]

    def choose_precision(self, batch: Batch) -> Execution:
        """bfloat16 where it is asked for, or where the device multiplies it natively and a batch's loss is the same.

        Args:
            batch: one of the training's.

        Returns:
            How to compute, uncompiled.
        """
        wanted = self.settings.precision
        if wanted != "auto":
            return Execution(wanted)
        if not multiplies_bfloat16(self.device):
            return Execution()
        (differs,) = world().any(not self.same_loss(batch))
        return Execution() if differs else Execution("bfloat16")

    def same_loss(self, batch: Batch) -> bool:
        """Whether a batch's loss, with the same noise, is the same in bfloat16 as in float32."""
        losses = []
        for precision in ("float32", "bfloat16"):
            self.use(Execution(precision))
            state = random_state(self.device)
            with torch.no_grad():
                losses.append(float(self.loss_of(batch)))
            restore_random_state(state, self.device)
        exact, rough = losses
        return abs(rough - exact) <= SAME * max(1.0, abs(exact))

    def tried_on(self, counts: Sequence[int], batch: Batch) -> dict[int, float]:
        """Seconds of an uncompiled step on each number of threads; everything else stays as it was."""
        noise, before, kept = random_state(self.device), self.state(), (self._gradients, self._move)
        self._gradients, self._move = self._gradients_plainly, None
        try:
            return tried(lambda: self.step_alone(batch), counts)
        finally:
            self._gradients, self._move = kept
            restore_random_state(noise, self.device)
            self.restore(before)

    def compiling_pays(self, batch: Batch, steps: int) -> bool:
        """Whether so many steps save more than compiling one costs, as far as sizes and earlier compilations tell."""
        return step_pays(
            steps=steps,
            parameters=sum(weight.numel() for weight in self.weights),
            rows=batch.size * getattr(self.objective, "samples", 1),
            cost=expected(self.compilation(batch)),
            device=self.device.type,
            convolves=any(isinstance(part, _ConvNd) for part in self.model.modules()),
        )

    def try_compiled(self, batch: Batch) -> str:
        """Compile a step for batches such as this one and change nothing else; gives the reason where that fails.

        A step whose gradient is another one once it is compiled is not used: compilers have faults. That of torch 2.13
        may read a dropout's mask before it is drawn.
        """
        noise, before = random_state(self.device), self.state()
        try:
            plain = replace(self.execution, compiled=False)
            self.use(plain)
            self.step_alone(batch)
            expected = [*self.gradients, *self.their_gradients]
            restore_random_state(noise, self.device)
            self.restore(before)
            self.use(replace(plain, compiled=True))
            began = time.perf_counter()
            with compiling():
                self.step_alone(batch)
            seconds = time.perf_counter() - began
            with compiling():
                found = [*self.gradients, *self.their_gradients]
                called_again(self.step_alone, batch)
            if _differ(found, expected):
                raise ArithmeticError("the compiler made another gradient of it")
            remember(self.compilation(batch), seconds)
        except Exception as error:  # a model may do anything; whatever the compiler says, the plain step remains
            self.use(replace(self.execution, compiled=False))
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        finally:
            restore_random_state(noise, self.device)
            self.restore(before)
        return ""

    def compilation(self, batch: Batch) -> str:
        """A short name of all that a compiled step depends on, besides the values of weights and data."""
        execution, settings = replace(self.execution, compiled=True), asdict(self.settings) | dict.fromkeys(PASSING)
        inputs = [[*each.shape, str(each.dtype)] for each in batch if isinstance(each, Tensor)]
        where = [torch.__version__, str(self.device)]
        facts = [where, asdict(execution), settings, repr(self.objective), inputs, facts_of(self.model)]
        return fingerprint(facts)

    def step_alone(self, batch: Batch) -> None:
        """A first step that no other process has a part in."""
        self.gradients, self.their_gradients, _ = self._own_gradient(batch, 0)
        self.update(0)

    def step(self, batch: Batch, number: int) -> Tensor:
        """Learn from one batch; its loss and terms as one tensor, unread, so that nothing waits for it."""
        values = self.gradient(batch, number)
        self.update(number)
        return values

    def gradient(self, batch: Batch, number: int) -> Tensor:
        """The first half of a step: loss, terms and gradients of one batch, shared between processes."""
        ours, theirs, values = self._own_gradient(batch, number)
        *gradients, values = world().mean([*ours, *theirs, values], batch.size)
        self.gradients, self.their_gradients = gradients[: len(ours)], gradients[len(ours) :]
        return values

    def _own_gradient(self, batch: Batch, number: int) -> tuple[Sequence[Tensor], Sequence[Tensor], Tensor]:
        step = torch.tensor(float(number), dtype=self.dtype).to(self.device, non_blocking=True)
        ours, theirs, values = self._gradients(self.copies, self.their_weights, batch.to(self.device), step)
        self.names = self.loss.terms
        if world().count > 1:  # messages are in full precision
            ours = [g.to(self.dtype) for g in ours]
        return ours, theirs, values

    def update(self, number: int) -> None:
        """The second half: weights, averaged weights and 16-bit copies follow the gradient."""
        rate = self.rate(number + 1)
        if self._move is not None:
            self._move(self.gradients, self.copies, self.adam.constants(number, rate))
        else:
            self.adam.move_plainly(self.gradients, self.copies, number, rate)
        if self.their_adam is not None and self.player is not None:
            self.their_adam.move_plainly(self.their_gradients, self.their_weights, number, self.player.learning_rate)

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of one batch at the first step."""
        step = torch.zeros((), dtype=self.dtype, device=self.device)
        return self._losses(self.copies, self.their_weights, batch.to(self.device), step)[0]

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

    def modules(self) -> dict[str, nn.Module]:
        """What has weights: the model, and the objective where it is a module."""
        objective = self.objective
        return {"model": self.model, **({"objective": objective} if isinstance(objective, nn.Module) else {})}

    def weights_now(self) -> dict[str, dict[str, Tensor]]:
        """A copy of every number that the model and the objective have."""
        return _copied({name: module.state_dict() for name, module in self.modules().items()})

    def load(self, weights: dict[str, dict[str, Tensor]]) -> None:
        """Take over what :meth:`weights_now` gave."""
        for name, module in self.modules().items():
            module.load_state_dict(weights[name])

    def set_mode(self, *, training: bool) -> None:
        """Put model and objective into training mode, or into evaluation mode."""
        for module in self.modules().values():
            module.train(training)

    def state(self) -> dict[str, Any]:
        """Everything a step depends on besides data and random state, copied."""
        theirs = {} if self.their_adam is None else self.their_adam.state()
        return {"weights": self.weights_now(), "adam": _copied(self.adam.state()), "their_adam": _copied(theirs)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`state` gave."""
        self.load(state["weights"])
        for adam, saved in ((self.adam, state["adam"]), (self.their_adam, state["their_adam"])):
            for name, tensors in adam.state().items() if adam is not None else ():
                for tensor, value in zip(tensors, saved[name], strict=True):
                    tensor.copy_(value)
        for copy, w in zip(self.copies, self.weights, strict=True):
            copy.copy_(w)

    def _losses(
        self, copies: Sequence[Tensor], theirs: Sequence[Tensor], batch: Batch, step: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        named = dict(zip([*self.places, *self.their_places], [*copies, *theirs], strict=True))
        with products_in(self.execution.dtype, self.device):
            return functional_call(self.loss, named, (batch, step))

    def _gradients_plainly(
        self, copies: Sequence[Tensor], theirs: Sequence[Tensor], batch: Batch, step: Tensor
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Tensor]:
        ours = [copy.detach().requires_grad_() for copy in copies]
        theirs = [w.detach().requires_grad_() for w in theirs]
        value, second, values = self._losses(ours, theirs, batch, step)
        gradients = torch.autograd.grad(value, ours, materialize_grads=True, retain_graph=second is not None)
        if second is None or not theirs:
            return gradients, [torch.zeros_like(w) for w in theirs], values
        return gradients, torch.autograd.grad(second, theirs, materialize_grads=True), values

    def _gradients_in_one(
        self, copies: Sequence[Tensor], theirs: Sequence[Tensor], batch: Batch, step: Tensor
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Tensor]:
        if not theirs:

            def single(copies: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
                value, _, values = self._losses(copies, theirs, batch, step)
                return value, values

            gradients, (_, values) = grad_and_value(single, has_aux=True)(copies)
            return gradients, [], values

        def both(copies: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[tuple[Tensor, Tensor], Tensor]:
            value, second, values = self._losses(copies, theirs, batch, step)
            return (value, torch.zeros_like(value) if second is None else second), values

        (value, second), pull, values = vjp(both, copies, theirs, has_aux=True)  # type: ignore[misc]
        gradients, _ = pull((torch.ones_like(value), torch.zeros_like(second)))
        _, their_gradients = pull((torch.zeros_like(value), torch.ones_like(second)))
        return gradients, their_gradients, values


class _Loss(nn.Module):
    """The objective of the model as a module, so that the parameters of both can be put in from outside."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.terms: tuple[str, ...] = ()

    def forward(self, batch: Batch, step: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        loss = self.objective(self.model, batch, step)
        terms = loss.terms if loss.second is None else {**loss.terms, SECOND: loss.second.detach()}
        self.terms = tuple(terms)
        return loss.value, loss.second, torch.stack([loss.value.detach(), *terms.values()])


def _trainable(model: Model, objective: Objective, *, without: Sequence[nn.Parameter]) -> dict[str, nn.Parameter]:
    """Parameters by name, those of an objective behind its own prefix; none twice, and none of the second player's."""
    named = list(model.named_parameters())
    if isinstance(objective, nn.Module):
        named += [(f"objective.{name}", p) for name, p in objective.named_parameters()]
    seen = {id(p) for p in without}
    found: dict[str, nn.Parameter] = {}
    for name, p in named:
        if p.requires_grad and id(p) not in seen:
            seen.add(id(p))
            found[name] = p
    return found


def _products(module: nn.Module) -> list[nn.Module]:
    """The layers that multiply by a matrix of weights."""
    return [m for m in module.modules() if isinstance(m, PRODUCTS)]


def _first_bad(tensors: Mapping[str, Tensor]) -> str | None:
    return next((name for name, value in tensors.items() if not value.isfinite().all()), None)


def _differ(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether two gradients, each taken as a whole, differ by more than rounding; never where one is not finite."""
    apart = sum(float((a.float() - b.float()).square().sum()) for a, b in zip(found, expected, strict=True))
    return apart > AGREE**2 * sum(float(b.float().square().sum()) for b in expected)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value
