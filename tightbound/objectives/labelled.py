"""Objectives that a few labels take part in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tightbound.batch import Batch, as_batch
from tightbound.distributions import ClassFirst, Joint, OneHot, codes_of
from tightbound.divergences import kl
from tightbound.model import Model
from tightbound.objectives.loss import Loss, Objective, SecondPlayer, TrainingSet, at_least, parts_in_words
from tightbound.objectives.of_draws import ELBO, resolve

MOST = 10_000  # labelled observations that are kept for the classifier


class SemiSupervised(nn.Module):
    r"""Negative ELBO of x and its class y, summed over classes where y is not known; and a classifier's loss: M2.

    .. math:: \mathcal{L}(x, y) = \mathbb{E}_{q(z \mid x, y)}[-\log p(x \mid z, y)] - \log p(y)
              + \mathrm{KL}(q(z \mid x, y) \,\|\, p(z)), \qquad
              \mathcal{U}(x) = \sum_y q(y \mid x)\, \left(\mathcal{L}(x, y) + \log q(y \mid x)\right)

    The loss is the mean over the batch of L where the label is known and U where it is −1, and α times the mean of
    −log q(y | x) over labelled observations. Of these the training set has few, and most batches none. So ``fit`` keeps
    them, and each step takes some for the classifier, drawn anew.

    Args:
        alpha: α. The paper has 0.1, with which the classes of MNIST were swapped in a trial of a hundred labels.
        samples: K, draws of z in each class.
        labelled_batch: labelled observations of a step, drawn with replacement.

    Raises:
        ValueError: for a negative α or sizes below 1; when called, for a batch without labels.
        TypeError: when called, for a model whose posterior is not of a class first.

    References:
        Kingma et al.: Semi-Supervised Learning with Deep Generative Models (2014), https://arxiv.org/abs/1406.5298.

    Example:
        >>> SemiSupervised(alpha=10.0).alpha
        10.0
    """

    labelled: Tensor
    labels: Tensor

    def __init__(self, alpha: float = 1.0, *, samples: int = 1, labelled_batch: int = 100) -> None:
        super().__init__()
        at_least("alpha", alpha, 0)
        at_least("samples", samples, 1)
        at_least("labelled_batch", labelled_batch, 1)
        self.alpha, self.samples, self.labelled_batch, self.binarise = alpha, samples, labelled_batch, False
        self.register_buffer("labelled", torch.empty(0))
        self.register_buffer("labels", torch.empty(0, dtype=torch.long))

    def fitted_to(self, model: Model, batch: Batch, observations: TrainingSet | None) -> SemiSupervised:
        """With the labelled observations of the training set."""
        if observations is None:
            return self
        labels = observations.label(torch.arange(len(observations)))
        known = torch.empty(0, dtype=torch.long) if labels is None else (labels >= 0).nonzero()[:, 0].cpu()[:MOST]
        if not len(known):
            raise ValueError(
                "Expected some labelled observations in the training set, for SemiSupervised; got none. Labels are "
                "whole numbers from 0; -1 stands where one is not known."
            )
        fitted = SemiSupervised(self.alpha, samples=self.samples, labelled_batch=self.labelled_batch)
        fitted.labelled, fitted.binarise = observations.unbinarised(known).to(batch.x), observations.binarise
        fitted.labels = labels[known].to(batch.x.device)  # type: ignore[index]
        return fitted

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        return super().__call__(model, batch, step)

    def forward(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch = model.encoded(as_batch(batch))
        q, prior = batch.q, getattr(model, "prior", lambda: None)()
        if not isinstance(q, ClassFirst) or not isinstance(prior, Joint):
            raise TypeError(
                "Expected a model of a class and numbers that depend on it, for SemiSupervised; got "
                f"{parts_in_words(model)}. Take tb.SemiSupervisedVAE."
            )
        if batch.label is None:
            raise ValueError("Expected labels, -1 where one is not known; got none.")
        distortion, rate = _in_every_class(model, batch, q, prior, self.samples)
        classes: OneHot = q.classes  # type: ignore[assignment]
        log_qy, known = classes.log_probs[:, 0], batch.label >= 0
        told = batch.label[:, None] == torch.arange(log_qy.shape[1], device=log_qy.device)
        share = torch.where(known[:, None], told.to(log_qy.dtype), log_qy.exp())
        # Where the class is known it was not chosen by q, and costs only what the prior asks.
        rate = (share * (rate + torch.where(known[:, None], 0, log_qy))).sum(1).mean()
        distortion = (share * distortion).sum(1).mean()
        told_apart = self._classifier_loss(model, batch)
        terms = {"distortion": distortion, "rate": rate, "classifier": told_apart}
        value = distortion + rate + self.alpha * told_apart
        return Loss(value, {name: term.detach() for name, term in terms.items()})

    def _classifier_loss(self, model: Model, batch: Batch) -> Tensor:
        """Mean of −log q(y | x) over labelled observations: of those that are kept, else of those in the batch."""
        if not len(self.labels):
            label: Tensor = batch.label  # type: ignore[assignment]
            known = (label >= 0).to(batch.x.dtype)
            each = _cross_entropy(batch.q.classes, label.clamp(min=0))  # type: ignore[union-attr]
            return (each * known).sum() / known.sum().clamp(min=1)
        rows = torch.randint(len(self.labels), (self.labelled_batch,), device=self.labels.device)
        x = _seen(self.labelled[rows], binarised=self.binarise)
        return _cross_entropy(model.posterior.classifier(x), self.labels[rows]).mean()  # type: ignore[operator,union-attr]


class KnownFactors(nn.Module):
    r"""Another objective, with a pull of the code towards factors that few observations have: a few labels.

    .. math:: \text{objective} + \gamma\, \overline{\tfrac12 \sum_{j \le F} (\mu_j(x) - f_j)^2}

    where μ is the posterior's mean and f the F factors, standardised over the labelled observations, so that they have
    the unit of a standard normal prior. The first F dimensions are to be the factors; the others are free. ``fit``
    keeps the labelled observations, those whose factors are all finite, and each step takes some of them.

    Args:
        objective: what the pull is added to; the ELBO by default.
        gamma: γ.
        labelled_batch: labelled observations of a step, drawn with replacement.

    Raises:
        ValueError: for a negative γ or sizes below 1; when called before ``fit``, or for a latent of fewer dimensions
            than there are factors.
        TypeError: when called, for a posterior without a mean.

    References:
        Locatello et al.: Disentangling Factors of Variation Using Few Labels (2020), https://arxiv.org/abs/1905.01258.
        They have a cross-entropy of squashed means in the place of the square.

    Example:
        >>> KnownFactors(gamma=20.0).gamma
        20.0
    """

    labelled: Tensor
    factors: Tensor

    def __init__(self, objective: Objective | None = None, *, gamma: float = 10.0, labelled_batch: int = 100) -> None:
        super().__init__()
        at_least("gamma", gamma, 0)
        at_least("labelled_batch", labelled_batch, 1)
        self.objective = ELBO() if objective is None else objective
        self.gamma, self.labelled_batch, self.binarise = gamma, labelled_batch, False
        self.whole_batch = bool(getattr(self.objective, "whole_batch", False))
        self.register_buffer("labelled", torch.empty(0))
        self.register_buffer("factors", torch.empty(0, 0))

    @property
    def second_player(self) -> SecondPlayer | None:
        """That of the objective inside."""
        return getattr(self.objective, "second_player", None)

    def fitted_to(self, model: Model, batch: Batch, observations: TrainingSet | None) -> KnownFactors:
        """With the labelled observations of the training set."""
        inner = resolve(self.objective, model, batch, observations=observations)
        fitted = KnownFactors(inner, gamma=self.gamma, labelled_batch=self.labelled_batch)
        if observations is None:
            return fitted
        table = observations.factor_table()
        known = torch.empty(0, dtype=torch.long)
        if table is not None:
            known = table.isfinite().all(1).nonzero()[:, 0].cpu()[:MOST]
        if table is None or len(known) < 2:
            raise ValueError(
                f"Expected 2 observations or more with factors in the training set for KnownFactors; got {len(known)}. "
                "NaN stands where factors are not known."
            )
        values = table[known].double()
        spread = values.std(0, unbiased=False)
        standard = (values - values.mean(0)) / torch.where(spread > 0, spread, 1)
        fitted.labelled, fitted.binarise = observations.unbinarised(known).to(batch.x), observations.binarise
        fitted.factors = standard.to(batch.x)
        return fitted

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        return super().__call__(model, batch, step)

    def forward(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        loss = self.objective(model, batch, step)
        if not len(self.factors):
            raise ValueError("Expected observations with factors, which fit keeps; got a call before fit.")
        rows = torch.randint(len(self.factors), (self.labelled_batch,), device=self.factors.device)
        mean = model.posterior_mean(model.encoded(Batch(_seen(self.labelled[rows], binarised=self.binarise))))
        if mean is None:
            raise TypeError(f"Expected a posterior whose mean is known; got {parts_in_words(model)}.")
        wanted = self.factors[rows]
        if mean.ndim != 2 or mean.shape[1] < wanted.shape[1]:
            raise ValueError(
                f"Expected a latent of at least {wanted.shape[1]} dimensions, one for each factor; got "
                f"{tuple(mean.shape[1:])}. Take a larger latent_dim."
            )
        off = 0.5 * (mean[:, : wanted.shape[1]] - wanted).square().sum(1).mean()
        return Loss(loss.value + self.gamma * off, {**loss.terms, "factors": off.detach()}, loss.second)


def _seen(x: Tensor, *, binarised: bool) -> Tensor:
    """Observations as a model sees them, binarised ones drawn anew."""
    return (torch.rand_like(x) < x).to(x.dtype) if binarised else x


def _cross_entropy(classes: OneHot, labels: Tensor) -> Tensor:
    """−log q(y | x) at the labels, shape (B,)."""
    return -classes.log_prob(codes_of(labels[:, None], classes))


def _in_every_class(model: Model, batch: Batch, q: ClassFirst, prior: Joint, samples: int) -> tuple[Tensor, Tensor]:
    """Distortion and rate where each class is the observation's, each of shape (B, C); the rate without q(y)."""
    z = q.every.rsample(torch.Size([samples]))  # (K, B, C, L)
    count = z.shape[2]
    y = torch.eye(count, dtype=z.dtype, device=z.device).expand(*z.shape[:3], count)
    latents = torch.cat([z, y], -1).transpose(1, 2)  # (K, C, B, L + C): classes count as draws
    log_px_z, _ = model.log_joint(batch, latents.flatten(0, 1))
    distortion = -log_px_z.unflatten(0, (samples, count)).mean(0).T
    try:
        within = kl(q.every, prior.parts[0])
    except TypeError:
        within = (q.every.log_prob(z) - prior.parts[0].log_prob(z)).mean(0)
    log_py: Tensor = prior.parts[1].log_prob(torch.eye(count, dtype=z.dtype, device=z.device))
    return distortion, within - log_py
