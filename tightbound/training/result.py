"""What a training ends with."""

from __future__ import annotations

import dataclasses
from typing import Any

from tightbound.notebook import table
from tightbound.settings import Training
from tightbound.training.history import by_epoch


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        steps: Optimisation steps made in all.
        loss: The best validation loss, or the last training loss where nothing was held out, in nats per observation;
            infinite where training was stopped before there was one.
        best_step: The step whose weights the model now has.
        seconds: Time spent training, earlier sessions of a resumed run included.
        ended: "complete", "early" (no better validation loss for a while) or "interrupted" (resumable).
        objective: What was made small, with what was left to be chosen (``kl="auto"``) written out.
        metrics: The lines of ``metrics.jsonl``.
        remark: What is wrong with the loss, where it is no loss that a model should have; empty otherwise.
        seed: Of noise, batches and the validation split.
        settings: How it was trained.
        seen: A short name of the observations that it was given, those held out of them included.

    Example:
        >>> import torch, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> result = tb.fit(model, torch.randn(100, 5), epochs=2, batch_size=30, progress=False)
        >>> result.steps, result.ended, result.metrics[-1]["split"]
        (6, 'complete', 'validation')
        >>> result.history["epoch"], list(result.history["train"]), len(result.history["validation"]["loss"])
        ([1, 2], ['loss', 'distortion', 'rate'], 2)
    """

    steps: int
    loss: float
    best_step: int
    seconds: float
    ended: str
    objective: Any
    metrics: list[dict[str, Any]] = dataclasses.field(repr=False)
    remark: str = ""
    seed: int = 0
    settings: Training = dataclasses.field(default=Training(), repr=False)
    seen: str = dataclasses.field(default="", repr=False)

    @property
    def history(self) -> dict[str, Any]:
        """Loss and terms by epoch, as lists: of training the mean over each epoch, of validation the value at its end.

        ``{"epoch": [1, 2], "step": [6, 12], "train": {"loss": […], "distortion": […], "rate": […]}, "validation":
        {…}}``. All lists have one length; where nothing was held out "validation" is empty. What is not finite is NaN.
        """
        return by_epoch(self.metrics)

    def _repr_html_(self) -> str:
        history = self.history
        rows: list[tuple[object, ...]] = [("ended", self.ended), ("steps", f"{self.steps:,}")]
        rows += [("epochs", f"{history['epoch'][-1]:g}")] if history["epoch"] else []
        kind = "best validation loss" if history["validation"] else "last training loss"
        rows += [
            (kind, f"{self.loss:.2f} nats, at step {self.best_step:,}"),
            ("time", f"{self.seconds:.1f} s"),
            ("objective", self.objective),
        ]
        return table("Training", rows, said=[self.remark])
