"""A sweep that was made: its runs, their numbers in a table, its figures, and which value to take."""

from __future__ import annotations

import dataclasses
import os
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tightbound import plots
from tightbound.files import write_json
from tightbound.model import Model
from tightbound.notebook import table
from tightbound.plots.figure import Figure
from tightbound.runs.advice import Choice, Outcome, by_value, choices
from tightbound.runs.run import Run
from tightbound.runs.sweep_words import (
    NUMBERS,
    STAND_FOR,
    Setting,
    alike,
    hardly,
    in_words,
    numbers_of,
    remarks,
    row,
    scores_of,
    symbol,
)
from tightbound.runs.tables import COLUMNS
from tightbound.training import TrainResult

__all__ = ["Sweep", "SweepRun"]

TABLE = "sweep.json"
_MINUS = re.compile(r"(?<!\w)-(?=\d)")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepRun:
    """One run of a sweep.

    Attributes:
        value: What the swept field was.
        outcome: Its numbers, on the observations that all runs are compared on.
        run: Its folder; None where nothing was written.
        result: How its training went, where that was in this process.
        made: The trained model, likewise.

    Example:
        >>> import tempfile, torch, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "evaluate.samples": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     over = {"objective.beta": [1, 4]}
        ...     found = tb.sweep("digits", over=over, out=f"{folder}/beta", changes=small, progress=False)
        ...     found.runs[1], found.runs[1].model.embed(torch.zeros(1, 1, 8, 8)).shape
        (SweepRun(4, seed=0), torch.Size([1, 16]))
    """

    value: Any
    outcome: Outcome
    run: Run | None = None
    result: TrainResult | None = None
    made: Model | None = None

    def __repr__(self) -> str:
        return f"SweepRun({self.outcome.value!r}, seed={self.seed})"

    @property
    def seed(self) -> int:
        """What it was trained with."""
        return self.outcome.seed

    @property
    def model(self) -> Model:
        """The trained model.

        Raises:
            ValueError: as :meth:`tightbound.Run.model`.
        """
        if self.made is not None:
            return self.made
        if self.run is None:
            raise ValueError("Expected a run with a model or with a folder; got one without. Train it anew.")
        found: Model = self.run.model()
        return found

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of its training."""
        if self.result is not None:
            return self.result.metrics
        return [] if self.run is None else self.run.metrics()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """A sweep: ``print`` shows its table and which value to take, and so does the last line of a notebook's cell.

    Attributes:
        setting: What differs, and what follows from it.
        runs: All values with one seed first. Fewer than were planned where it was stopped.
        path: Its folder; None where nothing was written.

    Example:
        >>> import torch, tightbound as tb
        >>> def make(beta):
        ...     model = tb.VAE(
        ...         prior=tb.priors.StandardNormal(2),
        ...         posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...         likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ...     )
        ...     return model, tb.objectives.ELBO(beta=beta)
        >>> x = torch.randn(80, 5)
        >>> found = tb.sweep(make, x, over={"beta": [1, 4]}, epochs=1, progress=False)
        >>> [row["beta"] for row in found.rows()], [choice.purpose for choice in found.choices]
        ([1, 4], ['generation', 'representation', 'disentanglement'])
    """

    setting: Setting
    runs: tuple[SweepRun, ...]
    path: Path | None = None

    @property
    def outcomes(self) -> list[Outcome]:
        """The runs' numbers."""
        return [run.outcome for run in self.runs]

    @property
    def choices(self) -> list[Choice]:
        """Which value to take, with the number that says so; none where runs cannot be ranked or some are missing."""
        ranked = not self.setting.unranked and not self.setting.missing
        return choices(self.setting.kind, self.outcomes, ranked=ranked)

    @property
    def remarks(self) -> list[str]:
        """What a reader must know to take the numbers for what they are."""
        if not self.runs:
            return ["The sweep was stopped before its first run had ended."]
        return [*hardly(self.setting, self.outcomes), *remarks(self.setting, self.outcomes)]

    def rows(self) -> list[dict[str, Any]]:
        """The table: one mapping a run, in nats per observation, as ``pandas.DataFrame`` takes it."""
        found = alike(self.outcomes)
        return [{**row(self.setting.kind, each), "udr": found.get(id(each))} for each in self.outcomes]

    def figure(self) -> Figure:
        """ELBO, distortion and rate by value; over β also what each run was trained on.

        Raises:
            ValueError: where runs cannot be compared, or none has ended.
        """
        if self.setting.unranked or not self.runs:
            raise ValueError(
                f"Expected runs that can be compared; got others. {self.setting.unranked or self.remarks[0]}"
            )
        if self.setting.beta:
            return plots.beta_tradeoff(self.rows())
        rows = self.rows()
        return plots.by_value(rows, next(iter(rows[0])))  # the first of a row is what differs

    def curves(self) -> Figure:
        """The trainings over one another.

        Raises:
            ValueError: where none has ended.
        """
        several = len({run.seed for run in self.runs}) > 1 and self.setting.field != "seed"
        lines: Mapping[str, Any] = {
            f"{symbol(self.setting.kind)} = {run.outcome.value}{f', seed {run.seed}' if several else ''}": run.metrics()
            for run in self.runs
        }
        if not lines:
            raise ValueError(f"Expected runs with curves; got none. {self.remarks[0]}")
        return plots.training_curves(lines)

    def to_json(self) -> dict[str, Any]:
        """The table, the choices and the remarks as plain values."""
        chosen = [dataclasses.asdict(choice) for choice in self.choices]
        return {"field": self.setting.field, "rows": self.rows(), "choices": chosen, "remarks": self.remarks}

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the figures and the table, over those of an earlier call.

        Args:
            folder: where to; made if it is not there.

        Returns:
            The files, the table last.
        """
        folder, written, rows = Path(folder), list[Path](), self.rows()
        if self.runs and not self.setting.unranked:
            figures = {"tradeoff" if self.setting.beta else "values": self.figure()}
            if self.setting.beta:
                figures["rate-distortion"] = plots.rate_distortion(rows)
            if self.setting.beta and all(each["mig"] is not None for each in rows):
                figures["disentanglement"] = plots.scores_by_beta(rows)
            written = [plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()]
        write_json(folder / TABLE, self.to_json())
        return [*written, folder / TABLE]

    def __str__(self) -> str:
        wrapped = [textwrap.fill(remark, COLUMNS, subsequent_indent="  ") for remark in self.remarks]
        if not self.runs:
            return "\n".join(wrapped)
        first = len(hardly(self.setting, self.outcomes))  # told before any number
        return "\n".join([*wrapped[:first], in_words(self.setting.kind, self.outcomes, self.choices), *wrapped[first:]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        kind, values = self.setting.kind, by_value(self.outcomes)
        parts = []
        if values:
            head, cells = numbers_of(kind, values)
            parts.append(
                table(f"Sweep over {self.setting.field}: {NUMBERS}", _signed(cells), head=head, numbers=range(1, 7))
            )
            head, cells = scores_of(kind, values)
            parts += [table(STAND_FOR, _signed(cells), head=head, numbers=range(1, len(head)))] if cells else []
        chosen = [(c.purpose, "none" if c.value is None else c.value, _MINUS.sub("−", c.because)) for c in self.choices]
        head = ("for", symbol(kind), "because")
        parts.append(
            table(
                f"Which {symbol(kind)} to take" if chosen else "",
                chosen,
                head=head if chosen else (),
                said=self.remarks,
            )
        )
        return f"<div>{''.join(parts)}</div>"


def _signed(cells: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Numbers with a proper minus sign; the first column is what was swept."""
    return [(first, *(cell.replace("-", "−") for cell in rest)) for first, *rest in cells]
