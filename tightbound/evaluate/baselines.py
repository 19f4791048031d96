"""What a model must beat: log p(x) by models without a latent, by a Gaussian of few directions, and by PNG."""

from __future__ import annotations

import copy
import io
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

from tightbound.autoencoder import VAE
from tightbound.evaluate.estimates import Estimate, Judged, plain, row
from tightbound.evaluate.observed import ENCODED, blocks, observed_as, rows_at_once
from tightbound.likelihoods import SMALLEST_SCALE, Bernoulli, Gaussian, Laplace, Likelihood
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tightbound.data.observations import Observations

FITTED = 2**20  # values from which the numbers of independent elements are learned, at most
STEPS = 60  # of L-BFGS, which stops by itself long before
WIDEST = 2048  # elements of which a covariance is taken
FILES = 500  # images that are written as PNG


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Baselines(Judged):
    """Negative log-likelihoods of simple models, in nats per observation, on the same held-out observations.

    Args:
        independent: of the model's own likelihood where no element tells of another: one output for all observations.
        ppca: of a normal with as many directions as the model has latents, fewer than the data have elements, and the
            same noise in all others; None for data that are no real numbers.
        png: of the compressed pixels of a PNG file; None for data that are no 8-bit images.
        entropy: of the data themselves, where it is known: what no model goes below, on average over all of them.
        latent_dim: directions of ``ppca``.
        observations: N.
        per_observation: log p(x) of each, (N,), by the names of those above that have one.

    Example:
        >>> needs, each = Estimate(27.4, 0.2), {"independent": torch.zeros(180)}
        >>> found = Baselines(
        ...     independent=needs, ppca=None, png=None, latent_dim=2, observations=180, per_observation=each
        ... )
        >>> found.verdict
        'Without a latent the same likelihood needs 27.40 ± 0.20 nats.'
    """

    independent: Estimate
    ppca: Estimate | None
    png: Estimate | None
    entropy: Estimate | None = None
    latent_dim: int
    observations: int
    per_observation: dict[str, Tensor]

    def rows(self) -> list[tuple[str, Estimate, str]]:
        """Name, value and meaning of each that there is."""
        named = (
            ("independent", self.independent, "the same likelihood without a latent"),
            ("PPCA", self.ppca, f"a normal with {self.latent_dim} directions and even noise"),
            ("PNG", self.png, "compressed pixels of a PNG file"),
            ("least", self.entropy, "the data's own entropy: no model needs less on average"),
        )
        return [(name, each, note) for name, each, note in named if each is not None]

    @property
    def table(self) -> str:
        """The numbers, a line each."""
        head = f"Baselines: {self.observations} observations, -log p(x) in nats, lower is better"
        return "\n".join([head, "", *(row(*each) for each in self.rows())])

    @property
    def verdict(self) -> str:
        """The numbers in words."""
        said = f"Without a latent the same likelihood needs {self.independent} nats."
        if self.ppca is not None:
            said += f" A normal with {self.latent_dim} directions needs {self.ppca}."
        if self.png is not None:
            said += f" As PNG files the images take {self.png}."
        if self.entropy is not None:
            said += f" No model can need less than {self.entropy.value:.2f} on average: that is the data's own entropy."
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        numbers = plain({"independent": self.independent, "ppca": self.ppca, "png": self.png, "entropy": self.entropy})
        return {**numbers, "latent_dim": self.latent_dim, "observations": self.observations, "verdict": self.verdict}


def baselines(model: Model, train: Any, test: Any) -> Baselines:
    r"""What simple models reach on the data of a model, each fitted to the training set.

    - *Independent elements*: the model's own likelihood with one output for all observations, fitted by maximum
      likelihood: what a VAE without any rate can reach.
    - *PPCA*, of real numbers: :math:`x \sim N(\mu, W W^\top + \sigma^2 I)`, the maximum of the likelihood in closed
      form, with elements in the likelihood's units.
    - *PNG*, of 8-bit images under a likelihood that is a probability of their levels: the length of the compressed
      pixels, in nats.
    - *Entropy*, of data whose distribution p* is known, such as sprites: :math:`-E_{p^*} \log p(x) \ge H(p^*)` for
      every model, by Gibbs' inequality.

    Args:
        model: a VAE, trained or not; its likelihood says what the data are.
        train: what the simple models are fitted to.
        test: held-out observations.

    Returns:
        Each with its standard error.

    Raises:
        TypeError: for a model without a likelihood of its own.
        ValueError: for observations that the model does not describe.

    References:
        Tipping, Bishop: Probabilistic principal component analysis (1999), https://doi.org/10.1111/1467-9868.00196.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(1),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(2, 2)),
        ...     likelihood=tb.likelihoods.Bernoulli(nn.Linear(1, 2)),
        ... )
        >>> coins = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(50, 1)
        >>> print(f"{baselines(model, coins, coins).independent.value:.3f}")  # 2 log 2
        1.386
    """
    likelihood = getattr(model, "likelihood", None)
    if not isinstance(model, VAE) or not isinstance(likelihood, Likelihood):
        raise TypeError(
            f"Expected a VAE with one of tb.likelihoods, which says what the data are; got {type(model).__name__}."
        )
    train, test = observed_as(train), observed_as(test)
    device, _ = home(model)
    latent_dim = min(model.prior().event_shape.numel(), max(test.shape.numel() - 1, 0))
    with evaluation_mode(model), own_random_state(device, seed=0):
        constant = _independent(likelihood, train)
        log_px = [_log_px(constant, batch.x) for _, batch in blocks(model, test, rows_at_once(model, test))]
        ppca = _ppca(likelihood, train, test, latent_dim)
        png = _png(test) if _is_probability(constant) else None
    independent = torch.cat(log_px).cpu()
    each = {"independent": independent, "ppca": ppca, "png": png}
    return Baselines(
        independent=Estimate.of(-independent),
        ppca=None if ppca is None else Estimate.of(-ppca),
        png=None if png is None else Estimate.of(-png),
        entropy=None if test.entropy is None or test.mask is not None else Estimate(test.entropy, 0.0),
        latent_dim=latent_dim,
        observations=len(test),
        per_observation={name: values for name, values in each.items() if values is not None},
    )


class Constant(nn.Module):
    """A network that gives the same output for every input.

    Args:
        output: of one observation.

    Example:
        >>> Constant(torch.tensor([1.0, 2.0]))(torch.zeros(3, 7)).shape
        torch.Size([3, 2])
    """

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, z: Tensor) -> Tensor:
        return self.output.expand(len(z), *self.output.shape)


def _log_px(constant: Likelihood, x: Tensor) -> Tensor:
    return constant.log_prob(x, x.new_zeros(len(x), 1)).double()


def _independent(likelihood: Likelihood, train: Observations) -> Likelihood:
    """The model's likelihood with the one output that makes training observations likeliest."""
    device, dtype = home(likelihood)
    constant = copy.deepcopy(likelihood)
    from tightbound.data import moments

    mean, _ = moments(train)
    constant.network = Constant(constant.initial_output(mean.to(device, dtype)).to(device, dtype))
    rows = torch.randperm(len(train))[: max(2, FITTED // train.shape.numel())].sort().values
    x = train.subset(rows).eval_batch(dtype=dtype).x.to(device)
    if not isinstance(constant, Bernoulli):  # whose means are the best there is, of all observations
        _fit(constant, x)
    return constant


def _fit(constant: Likelihood, x: Tensor) -> None:
    """Make observations as likely as one output and the likelihood's own numbers can."""
    best = torch.optim.LBFGS(
        [each for each in constant.parameters() if each.requires_grad], max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        best.zero_grad()
        value: Tensor = -_log_px(constant, x).mean() / x[0].numel()
        value.backward()
        return value

    with torch.enable_grad():
        best.step(loss)


def _ppca(likelihood: Likelihood, train: Observations, test: Observations, directions: int) -> Tensor | None:
    """log p(x) of held-out real numbers by probabilistic PCA; None for others, and for very wide observations."""
    if not isinstance(likelihood, Gaussian | Laplace) or train.shape.numel() > WIDEST:
        return None
    centre, unit = (each.double().cpu().expand(train.shape).flatten() for each in (likelihood.centre, likelihood.unit))
    varies = unit > 0
    if not varies.any():
        return None

    def seen(observations: Observations) -> Iterator[Tensor]:
        for batch in observations.batches(ENCODED, torch.float64):
            yield ((batch.x.flatten(1) - centre) / torch.where(varies, unit, 1))[:, varies]

    total, products = torch.zeros(int(varies.sum())).double(), torch.zeros(2 * (int(varies.sum()),)).double()
    for u in seen(train):
        total, products = total + u.sum(0), products + u.mT @ u
    mean = total / len(train)
    values, vectors = torch.linalg.eigh(products / len(train) - mean[:, None] * mean)
    rest = len(values) - min(directions, len(values) - 1)  # how many directions have the noise alone
    noise = values[:rest].mean().clamp(min=SMALLEST_SCALE**2)
    spread = (values[rest:] - noise).clamp(min=0).sqrt()
    unit = unit[varies]
    p = LowRankMultivariateNormal(
        centre[varies] + unit * mean, unit[:, None] * vectors[:, rest:] * spread, unit.square() * noise
    )
    return torch.cat([p.log_prob(each.x.flatten(1)[:, varies]) for each in test.batches(ENCODED, torch.float64)])


def _is_probability(constant: Likelihood) -> bool:
    """Whether its nats are those of a code: of a density they depend on the unit."""
    p = constant(torch.zeros(1, 1, device=home(constant)[0]))
    known = getattr(p, "support", None)
    return constant.is_normalised and known is not None and bool(known.is_discrete)


def _png(test: Observations) -> Tensor | None:
    """Minus nats of the compressed pixels of 8-bit images, the first ``FILES``; None for other data."""
    stored = test.stored
    if stored.dtype != torch.uint8 or test.scale != 255 or test.binarise or len(test.shape) != 3:
        return None
    if test.shape[0] not in (1, 3):
        return None
    from PIL import Image

    sizes = []
    for pixels in test.take(torch.arange(min(len(test), FILES))).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, "PNG", optimize=True)
        sizes.append(-8 * math.log(2) * _compressed(file.getvalue()))
    return torch.tensor(sizes, dtype=torch.float64)


def _compressed(png: bytes) -> int:
    """Bytes of the compressed pixels in a PNG file, without what every file has."""
    at, total = 8, 0
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        total += length if kind == b"IDAT" else 0
        at += 12 + length
    return total
