"""Scores of how well factors are told from codes by simple predictors."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from tightbound.evaluate.scores.labelled import Labelled
from tightbound.evaluate.scores.mutual import BINS, cut, entropy, gap, joint_counts

TREES = 30
TRAINED_ON = 3000  # observations at most
SHARE = 2 / 3  # of the observations to learn from; the others are for the test


def dci(labelled: Labelled, seed: int) -> tuple[Tensor, Tensor]:
    """Importance of each unit for each factor, and the accuracy with which the factor is told.

    Random forests of 30 trees that may look at every unit at each split: with scikit-learn's default, the root of their
    number, a perfect code has a disentanglement of 0.8.

    Args:
        labelled: codes and factors.
        seed: of forests, and of what is held out.

    Returns:
        Importances, shape (L, F), each column with a sum of 1; and accuracies on observations held out, shape (F,).

    References:
        Eastwood, Williams: A Framework for the Quantitative Evaluation of Disentangled Representations (2018),
        https://openreview.net/forum?id=By-7dz-AZ.
    """
    from sklearn.ensemble import RandomForestClassifier

    learnt, held = _parts(labelled, seed)
    importances, accuracies = [], []
    for factor in range(len(labelled.sizes)):
        forest = RandomForestClassifier(TREES, max_features=None, random_state=seed % 2**32)
        forest.fit(learnt.codes.numpy(), learnt.classes[:, factor].numpy())
        importances.append(torch.from_numpy(forest.feature_importances_))
        accuracies.append(forest.score(held.codes.numpy(), held.classes[:, factor].numpy()))
    return torch.stack(importances, 1), torch.tensor(accuracies, dtype=torch.float64)


def disentanglement_of(importance: Tensor) -> Tensor:
    r"""Disentanglement of DCI: :math:`\sum_i \rho_i (1 - H_F(P_i))`, a unit for one factor each.

    :math:`P_i` is row i over its sum, :math:`H_F` entropy to base F, and :math:`\rho_i` the row's share of the whole.

    Args:
        importance: shape (L, F).

    Example:
        >>> disentanglement_of(torch.eye(3)), disentanglement_of(torch.ones(2, 3))
        (tensor(1.), tensor(0.))
    """
    return (_peaked(importance, 1) * importance.sum(1)).sum() / importance.sum().clamp(min=1e-300)


def completeness_of(importance: Tensor) -> Tensor:
    r"""Completeness of DCI: the mean over factors of :math:`1 - H_L(\tilde P_j)`, a factor by one unit each.

    Args:
        importance: shape (L, F).

    Example:
        >>> completeness_of(torch.eye(3)), completeness_of(torch.ones(3, 2))
        (tensor(1.), tensor(0.))
    """
    return _peaked(importance, 0).mean()


def _peaked(values: Tensor, dim: int) -> Tensor:
    """1 less the entropy of shares along an axis, to the base of their number: 1 for one alone, 0 for all alike."""
    count = values.shape[dim]
    found = entropy(values.movedim(dim, -1)).nan_to_num(0.0)  # where all are 0, which count for nothing
    return 1 - found / math.log(count) if count > 1 else torch.ones_like(found)


def explicitness(labelled: Labelled, seed: int) -> Tensor:
    """How well a linear classifier tells each value of a factor from the others, by all units together.

    The area under the curve of one-versus-rest logistic regressions on observations held out, the mean over the values.
    ½ is chance. A middle value of an ordered factor lies on no side of a line, so a perfect code need not have 1.

    Args:
        labelled: codes and factors.
        seed: of what is held out.

    Returns:
        Shape (F,).

    References:
        Ridgeway, Mozer: Learning Deep Disentangled Embeddings with the F-Statistic Loss (2018),
        https://arxiv.org/abs/1802.05312.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    learnt, held = _parts(labelled, seed)
    spread = learnt.codes.std(0).clamp(min=1e-300)
    first, second = ((part.codes - learnt.codes.mean(0)) / spread for part in (learnt, held))
    found = []
    for factor, size in enumerate(labelled.sizes):
        areas = []
        for value in range(size):
            is_so, was_so = (part.classes[:, factor] == value for part in (learnt, held))
            if 0 < is_so.sum() < len(is_so) and 0 < was_so.sum() < len(was_so):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    model = LogisticRegression().fit(first.numpy(), is_so.numpy())
                areas.append(roc_auc_score(was_so.numpy(), model.decision_function(second.numpy())))
        found.append(sum(areas) / len(areas) if areas else 0.5)
    return torch.tensor(found, dtype=torch.float64)


def sap(labelled: Labelled) -> Tensor:
    r"""Separated attribute predictability of each factor: how much better its best unit tells it than its second one.

    Of a factor whose values have an order the squared correlation; of a categorical one the balanced accuracy with
    which 20 bins of the unit tell it, from 0 at chance to 1.

    Args:
        labelled: codes and factors.

    Returns:
        Shape (F,).

    References:
        Kumar, Sattigeri, Balakrishnan: Variational Inference of Disentangled Latent Concepts (2018),
        https://arxiv.org/abs/1711.00848.

    Example:
        >>> both = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> sap(Labelled.of(both, both))
        tensor([1., 1.], dtype=torch.float64)
    """
    found = []
    for factor, unordered in enumerate(labelled.unordered):
        if unordered:
            scores = _told_by_bins(labelled, factor)
        else:
            scores = _squared_correlation(labelled.codes, labelled.values[:, factor])
        found.append(scores)
    return gap(torch.stack(found, 1), 0)


def _squared_correlation(codes: Tensor, values: Tensor) -> Tensor:
    a, b = codes - codes.mean(0), (values - values.mean())[:, None]
    return (a * b).sum(0) ** 2 / ((a**2).sum(0) * (b**2).sum()).clamp(min=1e-300)


def _told_by_bins(labelled: Labelled, factor: int) -> Tensor:
    """Learnt on every other observation and tried on the rest, of each unit."""
    classes, size = labelled.classes[:, factor], labelled.sizes[factor]
    binned, learnt = cut(labelled.codes, BINS), torch.arange(len(labelled)) % 2 == 0
    first, second = (joint_counts(binned[part], classes[part], BINS, size) for part in (learnt, ~learnt))
    first, second = (
        joint / joint.sum(1, keepdim=True).clamp(min=1) for joint in (first, second)
    )  # classes count alike
    right = second.gather(2, first.argmax(2, keepdim=True)).sum((1, 2)) / size
    return ((right - 1 / size) / (1 - 1 / size)).clamp(min=0)


def _parts(labelled: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))
    learnt = min(TRAINED_ON, int(SHARE * len(order)))
    return labelled.rows(order[:learnt]), labelled.rows(order[learnt:])
