"""A comparison of runs: differences paired by observation, what their recipes differ in, and what follows."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from torch import Tensor

from tightbound.evaluate import Estimate
from tightbound.evaluate.estimates import Judged, number, plain, row
from tightbound.evaluate.results import counted
from tightbound.runs.advice import unsettled
from tightbound.runs.run import Run
from tightbound.runs.tables import brief, of_names
from tightbound.runs.trained import UNFINISHED
from tightbound.surface import listed

__all__ = ["Compared", "Comparison", "Difference", "errors_needed", "in_a_cell"]

QUANTITIES = {"log_px": "log p(x)", "elbo": "ELBO", "distortion": "distortion", "rate": "rate"}
ENOUGH = 2.0  # standard errors that tell one difference from none
_NUMBERS = ("elbo", "distortion", "rate", "nll")
_SHORT = 24  # letters of a value in a table


@dataclass(frozen=True, eq=False)
class Compared:
    """One of the runs, measured on what all are measured on.

    Attributes:
        name: What the comparison calls it.
        run: Its folder.
        found: Its numbers, as ``Evidence.to_json`` gives them.
        values: Of each observation, shape (N,): "elbo", "log_px", "distortion", "rate", and "row".
        ended: Whether its training came to its end.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "evaluate.samples": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = [
        ...         tb.train("digits", out=f"{folder}/{seed}", changes={**small, "seed": seed}, progress=False)
        ...         for seed in (0, 1)
        ...     ]
        ...     first = tb.compare(made).runs[0]
        >>> first.name, first.values["elbo"].shape, first.ended
        ('0', torch.Size([180]), True)
    """

    name: str
    run: Run
    found: dict[str, Any]
    values: dict[str, Tensor]
    ended: bool = True

    @property
    def log_px(self) -> Estimate:
        """Mean of log p(x), in nats."""
        return Estimate(-self.found["nll"], _or_nan(self.found["nll_se"]))


@dataclass(frozen=True)
class Difference:
    """A run less another, paired by observation. Nats per observation.

    Attributes:
        name: The run.
        other: What it is compared with.
        elbo: Of the ELBO; higher is better.
        log_px: Of log p(x); higher is better.
        distortion: Of the distortion.
        rate: Of the rate.
        share: Of the observations, how many the run explains better.
        observations: How many have finite values in both.
        lacks: Nats that the lower of the two estimates of log p(x) may still lack, where it is not reliable.
        errors: Standard errors that a difference must have to be told from none.

    Example:
        >>> import torch
        >>> clear = Difference.of("b", "a", {name: torch.tensor([1.0, 1.1]) for name in QUANTITIES}, (0.0, 0.0))
        >>> clear.better, str(clear.log_px)
        ('b', '1.050 ± 0.050')
    """

    name: str
    other: str
    elbo: Estimate
    log_px: Estimate
    distortion: Estimate
    rate: Estimate
    share: float
    observations: int
    lacks: float = 0.0
    errors: float = ENOUGH

    @classmethod
    def of(
        cls, name: str, other: str, less: Mapping[str, Tensor], lacks: tuple[float, float], *, errors: float = ENOUGH
    ) -> Difference:
        """Differences of which each observation's are given.

        Args:
            name: the run.
            other: what it is compared with.
            less: of each quantity the run's values less the other's, shape (N,), finite.
            lacks: what the estimates of log p(x) may still lack, the run's and the other's.
            errors: as of the class.
        """
        found = {quantity: Estimate.of(less[quantity]) for quantity in QUANTITIES}
        lower = lacks[1] if found["log_px"].value > 0 else lacks[0]
        share = float((less["log_px"] > 0).double().mean())
        return cls(name, other, **found, share=share, observations=len(less["log_px"]), lacks=lower, errors=errors)

    def tells(self, quantity: str) -> bool:
        """Whether a difference is told from none.

        Args:
            quantity: "elbo", "log_px", "distortion" or "rate".
        """
        found: Estimate = getattr(self, quantity)
        least = abs(found.value) - (self.lacks if quantity == "log_px" else 0.0)
        return least > 0 and least >= self.errors * found.se

    @property
    def better(self) -> str | None:
        """The run of the two that explains the data better; None where that cannot be told."""
        return (self.name if self.log_px.value > 0 else self.other) if self.tells("log_px") else None

    def to_json(self) -> dict[str, Any]:
        """As plain numbers and words."""
        estimates = {name: getattr(self, name) for name in QUANTITIES}
        others = {name: number(getattr(self, name)) for name in ("share", "lacks")}
        about = {"run": self.name, "less": self.other, "observations": self.observations, "better": self.better}
        return {**about, **plain(estimates), **others}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Judged):
    """Runs beside one another, each of the others less the first. Nats per observation; ``print`` shows all of it.

    Args:
        runs: at least two, measured on the same observations.
        split: which these are: "test" or "validation".
        source: the data that they are of.
        fields: of the recipes, those that are not the same in all: by dotted name, a value for each run.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "evaluate.samples": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = [
        ...         tb.train("digits", out=f"{folder}/{seed}", changes={**small, "seed": seed}, progress=False)
        ...         for seed in (0, 1)
        ...     ]
        ...     found = tb.compare(made)
        >>> found.count, found.fields["seed"], found.findings[1][:22]
        (1, [0, 1], '1 comparison was made.')
    """

    runs: tuple[Compared, ...]
    split: str
    source: str
    fields: dict[str, list[Any]]

    @property
    def count(self) -> int:
        """How many comparisons were made."""
        return len(self.runs) - 1

    @property
    def errors(self) -> float:
        """Standard errors that a difference must have: two, and more where many comparisons give chance a chance."""
        return errors_needed(self.count)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Each of the other runs less the first."""
        return tuple(self._difference(other) for other in self.runs[1:])

    def _difference(self, run: Compared) -> Difference:
        less = self.paired(run)
        lacks = unsettled(run.found), unsettled(self.runs[0].found)
        return Difference.of(run.name, self.runs[0].name, less, lacks, errors=self.errors)

    def paired(self, run: Compared) -> dict[str, Tensor]:
        """A run's values less the first one's, of each observation that has finite ones in both.

        Args:
            run: one of the runs.
        """
        first = self.runs[0]
        fine = counted(first.values) & counted(run.values)
        return {name: (run.values[name].double() - first.values[name].double())[fine] for name in QUANTITIES}

    @property
    def is_likelihood(self) -> bool:
        """False where what is compared is no likelihood but a cross-entropy of grey values."""
        return all(run.found["is_likelihood"] for run in self.runs)

    @property
    def findings(self) -> list[str]:
        """What follows, a sentence or two for each comparison, and what to know of them."""
        return [*(self._finding(each) for each in self.differences), *self._remarks()]

    def _finding(self, found: Difference) -> str:
        value = Estimate(abs(found.log_px.value), found.log_px.se)
        what = "explains the data better" if self.is_likelihood else "has the lower cross-entropy"
        if found.better is not None:
            other = found.other if found.better == found.name else found.name
            said = f"{found.better} {what} than {other}, by {value} nats."
        else:
            said = f"No difference between {found.other} and {found.name} can be told: {found.log_px} nats of log p(x)."
        if found.lacks:
            said += f" The estimate of the lower one may still lack {found.lacks:.2g} nats."
        if found.tells("elbo") and found.better != (higher := found.name if found.elbo.value > 0 else found.other):
            above = Estimate(abs(found.elbo.value), found.elbo.se)
            said += f" {higher} has the higher ELBO, by {above} nats: its posteriors lie nearer to the true ones."
        return said

    def _remarks(self) -> list[str]:
        count = self.count
        said = [f"{count} comparison{' was' if count == 1 else 's were'} made."]
        if count > 1:
            said[0] += (
                f" A difference counts from {self.errors:.2g} of its standard errors on, so that all of them together "
                "go wrong no oftener than one does at two."
            )
        said[0] += " Each run is one training: what another seed would change is in no error here."
        if not self.is_likelihood:
            said.append("No likelihood: these are cross-entropies of grey values.")
        if len({run.found["proposal"] for run in self.runs}) > 1:
            ways = ", ".join(f"{run.name} by {run.found['proposal']}" for run in self.runs)
            said.append(f"log p(x) is not estimated in one way: {ways} proposals.")
        open_ended = [run for run in self.runs if not run.ended and UNFINISHED not in run.found.get("remark", "")]
        said += [f"The training of {run.name} {UNFINISHED}." for run in open_ended]
        remarks = dict.fromkeys(run.found["remark"] for run in self.runs if run.found.get("remark"))
        said += [f"{listed(r.name for r in self.runs if r.found.get('remark') == each)}: {each}" for each in remarks]
        said += [
            f"{found.observations} of {len(self.runs[0].values['elbo'])} observations have finite numbers under "
            f"{found.other} and {found.name}: the others are left out."
            for found in self.differences
            if found.observations < len(self.runs[0].values["elbo"])
        ]
        return said

    @property
    def verdict(self) -> str:
        """The findings, each a paragraph."""
        return "\n\n".join(self.findings)

    @property
    def table(self) -> str:
        """Numbers of all runs, differences, and the fields in which their recipes differ."""
        head = f"Compared: {len(self.runs[0].values['elbo'])} {self.split} observations of {self.source}"
        parts = [
            f"{head}; nats per observation, ± one standard error",
            of_names(("run", *HEADINGS), self.rows()),
            *map(_in_lines, self.differences),
        ]
        if self.fields:
            rows = [(name, *map(in_a_cell, values)) for name, values in self.fields.items()]
            said = of_names(("field", *(run.name for run in self.runs)), rows)
            parts.append(f"The recipes differ in\n{said}")
        return "\n\n".join(parts)

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each run: its name, and what :data:`HEADINGS` say."""
        made = []
        for run in self.runs:
            elbo, distortion, rate, _ = (Estimate(run.found[n], _or_nan(run.found[f"{n}_se"])) for n in _NUMBERS)
            units = f"{run.found['active_units']}/{run.found['latent_dim']}"
            made.append((run.name, *map(brief, (elbo, run.log_px, distortion, rate)), units))
        return made

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, lists and words; None where a number is unknown."""
        others = ("bits_per_dim", "active_units", "latent_dim", "samples", "proposal", "reliable")
        return {
            "split": self.split,
            "data": self.source,
            "observations": len(self.runs[0].values["elbo"]),
            "runs": [
                {
                    "run": run.name,
                    "path": str(run.run.path),
                    **{key: run.found.get(key) for name in _NUMBERS for key in (name, f"{name}_se")},
                    **{key: run.found.get(key) for key in others},
                    "ended": run.ended,
                }
                for run in self.runs
            ],
            "differences": [each.to_json() for each in self.differences],
            "fields": self.fields,
            "comparisons": self.count,
            "errors_needed": self.errors,
            "is_likelihood": self.is_likelihood,
            "findings": self.findings,
            "verdict": self.verdict,
        }

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


HEADINGS = ("ELBO", "log p(x)", "distortion", "rate", "active")


def errors_needed(comparisons: int) -> float:
    """Standard errors that each of some differences must have: all together then go wrong no oftener than one at two.

    Args:
        comparisons: how many, at least one.

    References:
        Dunn: Multiple Comparisons Among Means (1961), https://doi.org/10.1080/01621459.1961.10482090.

    Example:
        >>> [round(errors_needed(count), 2) for count in (1, 2, 10)]
        [2.0, 2.28, 2.84]
    """
    chance = 1 - NormalDist().cdf(ENOUGH)  # on either side
    return NormalDist().inv_cdf(1 - chance / comparisons)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _in_lines(found: Difference) -> str:
    notes = {"log_px": f"higher on {found.share:.0%} of the observations"}
    rows = [row(QUANTITIES[name], getattr(found, name), notes.get(name, "")) for name in QUANTITIES]
    return "\n".join([f"{found.name} less {found.other}, paired by observation", *rows])


def in_a_cell(value: Any) -> str:
    """A recipe's value in a cell of a table.

    Args:
        value: any; None where the recipe has no such field.

    Example:
        >>> in_a_cell([500, 500]), in_a_cell(None), in_a_cell(0.5)
        ('500 500', '-', '0.5')
    """
    text = " ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"
