"""What observations are compared by: their values, or what a small net, trained here, sees in images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tightbound.batch import Batch
from tightbound.evaluate.estimates import Estimate
from tightbound.evaluate.observed import blocks
from tightbound.model import Model
from tightbound.networks import ConvEncoder

if TYPE_CHECKING:
    from tightbound.data.observations import Observations

LEAST = 8  # pixels a side from which on images are seen by a net …
MOST = 32  # … that sees no more of them, whatever their size: a few seconds of training
WIDTH = 64  # features
BASE, HIDDEN = 16, 128  # channels of its first stage, and width of the layer before the features
STEPS = 300
ROWS = 64  # images in a step
RATE = 2e-3  # of Adam's first step; of the last one about 0
KNOWN = 0.5  # share of images with a label from which on labels are learned …
REPEATED = 10  # … if each of them comes so often on average
TURNS = 4
READ = 2**22  # numbers read at a time
EQUAL = 2.0**-30  # what differs by less is equal, but for rounding


@dataclass(frozen=True, eq=False)
class Features:
    r"""What observations are compared by.

    Args:
        words: what that is.
        of: features of observations as the model sees them, shape (N, \*shape) to (N, D), float64, on the processor.
        told: share of other images whose label, or turn, the net tells; None without a net or such images.
    """

    words: str
    of: Callable[[Tensor], Tensor]
    told: Estimate | None = None


def is_seen(shape: torch.Size) -> bool:
    """Whether observations of this shape are images that a net can see something in.

    Args:
        shape: of an observation.

    Example:
        >>> is_seen(torch.Size([1, 8, 8])), is_seen(torch.Size([3, 7, 28])), is_seen(torch.Size([784]))
        (True, False, False)
    """
    return len(shape) == 3 and min(shape[1:]) >= LEAST


def features(
    model: Model, train: Observations, tried: Batch, *, progress: Callable[[int, int], None] | None = None
) -> Features:
    """What observations are compared by: learned of training data.

    Images of 8×8 pixels or more are seen by a convolutional net, trained here and now on the processor, wherever the
    model is. It learns to tell labels where at least half of the images have one of several that come again and again,
    else by which of four quarter-turns an image was turned. It sees images as the model does, averaged down to 32×32
    where they are larger. Of all other observations the values are taken, less their mean, over their deviation.

    Args:
        model: whose data they are; they are checked against it.
        train: what the features are learned of.
        tried: other images, to try the net on.
        progress: called with the steps done and their total.

    References:
        Gidaris, Singh, Komodakis: Unsupervised Representation Learning by Predicting Image Rotations (2018),
        https://arxiv.org/abs/1803.07728.
    """
    seen = is_seen(train.shape)
    read = [
        (_looked_at(batch.x), None if batch.label is None else batch.label.cpu())
        for _, batch in blocks(model, train, max(1, READ // train.shape.numel()))
    ]
    x, labels = torch.cat([each for each, _ in read]), [label for _, label in read if label is not None]
    axes = (0, 2, 3) if seen else (0,)
    mean, deviation = x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True)
    deviation = torch.where(deviation > EQUAL * mean.abs(), deviation, 1.0)  # of equal numbers it is not always 0

    def scaled(x: Tensor) -> Tensor:
        return (_looked_at(x) - mean) / deviation

    if not seen:
        return Features("the values, less the training data's mean, over its deviation", lambda x: scaled(x).flatten(1))
    label = torch.cat(labels) if labels else None
    known = None if label is None else _learnable(label)
    with torch.device("cpu"), torch.inference_mode(mode=False), torch.enable_grad():
        task = _Task(scaled(x).float(), label, known)
        net = ConvEncoder(x.shape[1:], WIDTH, base=BASE, hidden=HIDDEN).float()
        head = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, TURNS if known is None else len(known))).float()
        whole = nn.Sequential(net, head)
        _teach(whole, task, progress)
    whole.double().requires_grad_(requires_grad=False)  # and rounded: equal images have equal features in any company
    others = _Task(scaled(tried.x), None if tried.label is None else tried.label.cpu(), known)
    what = "which quarter-turn an image was turned by" if known is None else f"{len(known)} labels apart"
    return Features(
        f"{WIDTH} numbers of a small net, trained here to tell {what}",
        lambda x: (torch.cat([net(part) for part in scaled(x).split(ROWS)]) / EQUAL).round() * EQUAL,
        _right(whole, others),
    )


def _looked_at(x: Tensor) -> Tensor:
    """Observations in float64 on the processor; images averaged down to at most 32×32."""
    x = x.cpu().double()
    size = [min(each, MOST) for each in x.shape[2:]]
    return F.interpolate(x, size=size, mode="area") if is_seen(x.shape[1:]) and size != list(x.shape[2:]) else x


class _Task:
    """Images, and what is asked about them: their label, or by how many quarter-turns they were turned."""

    def __init__(self, x: Tensor, label: Tensor | None, known: Tensor | None) -> None:
        self.x, self.known = x, known
        self.rows, self.answers = torch.arange(len(x)), torch.empty(0)
        if known is not None:
            label = torch.full((len(x),), -1) if label is None else label
            self.rows = torch.isin(label, known).nonzero()[:, 0]
            self.answers = torch.searchsorted(known, label)

    def asked(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images with answers. Turned ones come in all of their turns, one turn after the other."""
        x = self.x[rows]
        if self.known is not None:
            return x, self.answers[rows]
        turned = [x.rot90(turn, (2, 3)) for turn in range(TURNS)]
        if x.shape[2] != x.shape[3]:
            turned = [F.interpolate(each, size=x.shape[2:], mode="area") for each in turned]
        return torch.cat(turned), torch.arange(TURNS).repeat_interleave(len(x))


def _teach(net: nn.Module, task: _Task, progress: Callable[[int, int], None] | None) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / STEPS)
    count = ROWS // TURNS if task.known is None else ROWS
    for step in range(STEPS):
        images, answers = task.asked(task.rows[torch.randint(len(task.rows), (count,))])
        loss = F.cross_entropy(net(images), answers)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
        if progress is not None:
            progress(step + 1, STEPS)


def _right(net: nn.Module, task: _Task) -> Estimate | None:
    """How often the net is right, over images; of each over its turns."""
    if len(task.rows) < 2:
        return None
    right = []
    for rows in task.rows.split(ROWS):
        images, answers = task.asked(rows)
        right.append((net(images).argmax(1) == answers).double().view(-1, len(rows)).mean(0))
    return Estimate.of(torch.cat(right))


def _learnable(label: Tensor) -> Tensor | None:
    """The labels that a net can learn, in order; None where there are none."""
    known = label[label >= 0]
    found = known.unique()
    learned = len(found) > 1 and len(known) >= max(KNOWN * len(label), REPEATED * len(found))
    return found if learned else None
