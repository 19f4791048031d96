"""A VAE of x and its class, which is known of few observations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.conditional import Conditional
from tightbound.conditioned import ConditionalVAE
from tightbound.posteriors import ClassFirst
from tightbound.priors import Categorical, Joint
from tightbound.runtime import home, only_thread

__all__ = ["SemiSupervisedVAE", "conditional_of", "of_one_condition"]


class SemiSupervisedVAE(VAE):
    r"""A VAE whose latent is a class y and a vector z: p(x | z, y) p(z) p(y), with q(y | x) q(z | x, y): M2.

    It is a model of x: its bounds say nothing of labels, which few observations may have. Train it with
    :class:`tightbound.objectives.SemiSupervised`, which sums over classes and learns from the labels that there are,
    −1 standing for those that are not known. Then q(y | x) classifies, z holds what the class leaves open, and
    :attr:`conditional` is the model of x given its class.

    Args:
        prior: ``priors.Joint`` of p(z) and p(y), one variable of C classes.
        posterior: ``posteriors.ClassFirst``.
        likelihood: p(x | z, y), whose network sees z with y behind it.

    Raises:
        TypeError: for other parts.

    References:
        Kingma et al.: Semi-Supervised Learning with Deep Generative Models (2014), https://arxiv.org/abs/1406.5298.

    Example:
        >>> import tightbound as tb
        >>> model = SemiSupervisedVAE(
        ...     prior=tb.priors.Joint([tb.priors.StandardNormal(2), tb.priors.Categorical(1, classes=3)]),
        ...     posterior=tb.posteriors.ClassFirst(
        ...         tb.posteriors.Categorical(torch.nn.Linear(5, 3), classes=3),
        ...         tb.posteriors.DiagonalNormal(torch.nn.Linear(5 + 3, 4)),
        ...     ),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2 + 3, 5)),
        ... )
        >>> model.classify(torch.zeros(7, 5)).shape, model.sample(4, label=1).shape
        (torch.Size([7, 3]), torch.Size([4, 5]))
    """

    def __init__(self, prior: Conditional, posterior: Conditional, likelihood: Conditional) -> None:
        super().__init__(prior, posterior, likelihood)
        if not isinstance(posterior, ClassFirst):
            raise TypeError(
                f"Expected tb.posteriors.ClassFirst as posterior; got {type(posterior).__name__}. It is made of a "
                "classifier and a posterior given the class."
            )
        kinds = [type(part) for part in prior.parts] if isinstance(prior, Joint) else []
        if len(kinds) != 2 or kinds[1] is not Categorical:
            raise TypeError(
                f"Expected tb.priors.Joint of two priors, that of z and a Categorical; got {type(prior).__name__}."
            )

    @property
    def classes(self) -> int:
        """How many classes there are, C."""
        return self.posterior.classifier.classes  # type: ignore[union-attr,return-value]

    @property
    def conditional(self) -> ConditionalVAE:
        """The model of x given its class, of the same weights."""
        prior, given = self.prior.parts[0], self.posterior.given  # type: ignore[index]
        made = ConditionalVAE(prior, given, self.likelihood, classes=self.classes).to(home(self)[0])  # type: ignore[arg-type]
        return made.train(self.training)

    def classify(self, x: Any) -> Tensor:
        """q(y | x) of each class.

        Args:
            x: observations, as :meth:`tightbound.Model.embed` takes them.

        Returns:
            Probabilities, shape (N, C).
        """
        return self.embed(x)[:, -self.classes :]

    def labelled(self, observations: Any) -> Any:
        """The same observations, with the likeliest class where theirs is not known.

        Args:
            observations: ``Observations``, whose labels may be −1, or which may have none.

        Returns:
            Observations of known labels.
        """
        everything = torch.arange(len(observations))
        given = observations.label(everything)
        likeliest = self.classify(observations).argmax(1).cpu()
        labels = likeliest if given is None else torch.where(given.cpu() >= 0, given.cpu(), likeliest)
        rows = everything if observations.rows is None else observations.rows.cpu()
        whole = torch.zeros(len(observations.stored), dtype=torch.long)
        whole[rows] = labels
        return observations.replace(labels=whole)

    @only_thread()
    def sample(self, count: int, *, label: Any = None, mean: bool = False, temperature: float = 1.0) -> Tensor:
        r"""Draws of x: the class from p(y) unless it is given, z from the prior, then x from p(x | z, y).

        Args:
            count: how many.
            label: a class for all of them, or one for each, shape (count,).
            mean: as of :meth:`tightbound.VAE.sample`.
            temperature: likewise.

        Returns:
            Shape (count, \*shape).

        Raises:
            ValueError: as :meth:`tightbound.VAE.sample`, and for a label out of range.
        """
        if label is None:
            return super().sample(count, mean=mean, temperature=temperature)
        return self.conditional.sample(count, label=label, mean=mean, temperature=temperature)


def conditional_of(model: VAE, observations: Any) -> tuple[ConditionalVAE | None, Any]:
    """The model of x given what is known of it, with observations of which that is known.

    Args:
        model: any.
        observations: ``Observations``.

    Returns:
        A model with a condition, or that of x given a latent class; None for one of x alone. And the observations, each
        of a class where the model is of classes.

    Example:
        >>> import tightbound as tb
        >>> parts = tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4))
        >>> plain = tb.VAE(*parts, tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)))
        >>> conditional_of(plain, tb.data.Observations(torch.zeros(4, 5)))[0] is None
        True
    """
    if isinstance(model, SemiSupervisedVAE):
        return model.conditional, model.labelled(observations)
    return model if isinstance(model, ConditionalVAE) else None, observations


def of_one_condition(model: VAE, observations: Any) -> tuple[VAE, Any]:
    """A plain VAE, and observations that it is of: where a model has a condition, that of the first of them.

    Args:
        model: any.
        observations: ``Observations``.

    Returns:
        The model under that condition, and the observations of the same class; model and observations as they are where
        there is no condition.

    Example:
        >>> import tightbound as tb
        >>> model = tb.ConditionalVAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5 + 3, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2 + 3, 5)),
        ...     classes=3,
        ... )
        >>> plain, same = of_one_condition(model, tb.data.Observations(torch.zeros(4, 5), torch.tensor([1, 0, 1, 2])))
        >>> type(plain).__name__, len(same)
        ('VAE', 2)
    """
    given, observations = conditional_of(model, observations)
    if given is None:
        return model, observations
    first, labels = observations.eval_batch(0, 1), observations.label(torch.arange(len(observations)))
    label = int(first.label[0]) if given.classes else None
    plain = given.given(label=label, factors=first.factors[0] if given.covariates else None)
    return plain, observations if label is None else observations.subset((labels == label).nonzero()[:, 0].cpu())
