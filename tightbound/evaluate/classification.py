"""How often the class that q(y | x) thinks likeliest is the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound.evaluate.estimates import Estimate, Judged, plain, row
from tightbound.evaluate.observed import ENCODED, blocks, observed_as, require_several
from tightbound.model import Model
from tightbound.semi_supervised import SemiSupervisedVAE

SURE = 1.5  # times as many errors as the probabilities say, from which on they are called too sure


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Classification(Judged):
    r"""Test error of q(y | x) as a classifier.

    Args:
        error: share of observations whose likeliest class is another than their own.
        expected_error: the share that the probabilities themselves say, the mean of 1 − max q(y | x).
        confusion: how many observations of each class are taken for each class, shape (C, C); the true one is the row.
        names: of the classes.
        observations: N.

    Example:
        >>> share, taken = Estimate(0.5, 0.35), torch.eye(2, dtype=torch.long)
        >>> found = Classification(
        ...     error=share, expected_error=share, confusion=taken, names=("a", "b"), observations=2
        ... )
        >>> found.verdict
        '50.00 % of the observations are taken for another class.'
    """

    error: Estimate
    expected_error: Estimate
    confusion: Tensor
    names: tuple[str, ...]
    observations: int

    @property
    def table(self) -> str:
        """The two shares, in percent."""
        lines = [f"Classes of {self.observations} observations, ± one standard error", ""]
        for name, each, note in (
            ("error in %", self.error, "observations taken for another class"),
            ("expected in %", self.expected_error, "by the probabilities of q(y|x) themselves"),
        ):
            lines.append(row(name, Estimate(100 * each.value, 100 * each.se), note))
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """What goes wrong most, and whether the probabilities can be taken at their word."""
        wrong = self.confusion.clone().fill_diagonal_(0)
        said = f"{100 * self.error.value:.2f} % of the observations are taken for another class."
        if int(wrong.max()):
            true, taken = divmod(int(wrong.argmax()), len(self.names))
            share = 100 * int(wrong.max()) / max(1, int(self.confusion[true].sum()))
            said += (
                f" The commonest mistake: {share:.0f} % of class {self.names[true]} are taken for {self.names[taken]}."
            )
        if self.error.value > SURE * self.expected_error.value + 2 * (self.error.se + self.expected_error.se):
            said += (
                f" The probabilities are too sure of themselves: they would have expected "
                f"{100 * self.expected_error.value:.2f} %."
            )
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words; shares between 0 and 1."""
        return {
            **plain({"error": self.error, "expected_error": self.expected_error}),
            "confusion": self.confusion.tolist(),
            "classes": list(self.names),
            "observations": self.observations,
            "verdict": self.verdict,
        }


def classification(model: Model, data: Any) -> Classification:
    """Compare the likeliest class of q(y | x) with the label.

    Args:
        model: of :class:`tightbound.SemiSupervisedVAE`.
        data: observations with labels; −1 stands for one that is not known, which is left out.

    Returns:
        The error, and what is taken for what.

    Raises:
        TypeError: for another model.
        ValueError: for observations without known labels, or labels out of range.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.SemiSupervisedVAE(
        ...     prior=tb.priors.Joint([tb.priors.StandardNormal(2), tb.priors.Categorical(1, classes=3)]),
        ...     posterior=tb.posteriors.ClassFirst(
        ...         tb.posteriors.Categorical(torch.nn.Linear(5, 3), classes=3),
        ...         tb.posteriors.DiagonalNormal(torch.nn.Linear(5 + 3, 4)),
        ...     ),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2 + 3, 5)),
        ... )
        >>> found = classification(model, tb.data.Observations(torch.randn(60, 5), torch.arange(60) % 3))
        >>> 0.3 < found.error.value < 0.95, int(found.confusion.sum())
        (True, 60)
    """
    if not isinstance(model, SemiSupervisedVAE):
        raise TypeError(f"Expected a model with a classifier, tb.SemiSupervisedVAE; got {type(model).__name__}.")
    observed = observed_as(data)
    labels = observed.label(torch.arange(len(observed)))
    known = torch.zeros(len(observed), dtype=torch.bool) if labels is None else (labels >= 0).cpu()
    if labels is None or not known.any():
        raise ValueError(f"Expected observations with labels, to compare with; got none in {observed.name}.")
    if int(labels.max()) >= model.classes:
        raise ValueError(
            f"Expected labels from 0 to {model.classes - 1}, this model's classes; got {int(labels.max())} in "
            f"{observed.name}."
        )
    require_several(int(known.sum()), "observations")
    found = torch.cat([model.classify(batch).cpu().double() for _, batch in blocks(model, observed, ENCODED)])
    p, true = found[known], labels.cpu()[known]
    likeliest = p.argmax(1)
    pairs = (true * model.classes + likeliest).bincount(minlength=model.classes**2)
    names = [*observed.label_names, *map(str, range(len(observed.label_names), model.classes))]
    return Classification(
        error=Estimate.of((likeliest != true).double()),
        expected_error=Estimate.of(1 - p.max(1).values),
        confusion=pairs.reshape(model.classes, model.classes),
        names=tuple(names),
        observations=len(true),
    )
