"""Rows of the objectives that look at a batch as a whole, whose draws need a path."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from tightbound.runs.rows import ObjectiveRecipe


@dataclass(frozen=True, kw_only=True)
class TotalCorrelation(ObjectiveRecipe):
    """The ELBO with more weight on the total correlation of the code: β-TCVAE.

    Attributes:
        beta: Weight of the total correlation.
        samples: Draws of z for each observation.
    """

    name: str = dataclasses.field(default="total-correlation", init=False, repr=False)
    beta: float = 4.0
    samples: int = 1
    cls: ClassVar[str] = "tightbound.objectives.TotalCorrelation"
    factorised: ClassVar[bool] = True
    needs_path: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        return f"Loss = distortion + rate + (β − 1) · total correlation of the code, β = {self.beta:g}."


@dataclass(frozen=True, kw_only=True)
class FactorVAE(ObjectiveRecipe):
    """The ELBO with a penalty on the total correlation, as a discriminator tells it.

    Attributes:
        gamma: Weight of the total correlation.
        width: Width of the discriminator's hidden layers.
        depth: How many hidden layers the discriminator has.
        learning_rate: Of the discriminator.
    """

    name: str = dataclasses.field(default="factor-vae", init=False, repr=False)
    gamma: float = 10.0
    width: int = 256
    depth: int = 3
    learning_rate: float = 1e-4
    cls: ClassVar[str] = "tightbound.objectives.FactorVAE"
    needs_path: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        return f"Loss = distortion + rate + {self.gamma:g} × the total correlation that a discriminator tells."


@dataclass(frozen=True, kw_only=True)
class DIP(ObjectiveRecipe):
    """The ELBO with a penalty on the covariance of the code over the batch: DIP-VAE I and II.

    Attributes:
        off_diagonal: Weight of squared covariances.
        diagonal: Weight of squared distances of variances from 1.
        of: Covariance of the posterior's "means", DIP-VAE-I, or of "draws" of z, DIP-VAE-II.
        samples: Draws of z for each observation.
    """

    name: str = dataclasses.field(default="dip", init=False, repr=False)
    off_diagonal: float = 10.0
    diagonal: float = 10.0
    of: Literal["means", "draws"] = "draws"
    samples: int = 1
    cls: ClassVar[str] = "tightbound.objectives.DIP"
    needs_path: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        first = f"{self.off_diagonal:g} × squared covariances of {self.of}"
        return f"Loss = distortion + rate + {first} + {self.diagonal:g} × squared distances of their variances from 1."


@dataclass(frozen=True, kw_only=True)
class InfoVAE(ObjectiveRecipe):
    """The distortion with a maximum mean discrepancy between all codes and the prior: InfoVAE, MMD-VAE and WAE.

    Attributes:
        mmd: Weight of the discrepancy.
        beta: Weight of the rate; 0 is MMD-VAE, and WAE with the other kernel.
        kernel: Of the discrepancy, a mean over seven widths.
        samples: Draws of z for each observation.
    """

    name: str = dataclasses.field(default="info-vae", init=False, repr=False)
    mmd: float = 1000.0
    beta: float = 0.0
    kernel: Literal["squared-exponential", "inverse-multiquadratic"] = "squared-exponential"
    samples: int = 1
    cls: ClassVar[str] = "tightbound.objectives.InfoVAE"
    needs_path: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        rate = f" + {self.beta:g} · rate" if self.beta else ""
        return f"Loss = distortion{rate} + {self.mmd:g} × the squared discrepancy of all codes and the prior."


ROWS: tuple[type[ObjectiveRecipe], ...] = (TotalCorrelation, FactorVAE, DIP, InfoVAE)
