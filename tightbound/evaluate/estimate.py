"""An estimate never travels alone: a mean over observations with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    r"""A mean over observations and its standard error :math:`s / \sqrt{N}`.

    The noise of draws made independently for each observation is part of their spread, so the error covers it.

    Args:
        value: the mean.
        se: its standard error; NaN for a single observation, which shows no spread.

    Example:
        >>> print(Estimate(-86.1234, 0.3056))
        -86.12 ± 0.31
    """

    value: float
    se: float

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """The mean of one value an observation, shape (N,).

        Example:
            >>> import torch
            >>> Estimate.of(torch.tensor([1.0, 3.0]))
            Estimate(value=2.0, se=1.0)
        """
        values = values.double()
        se = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(values.mean().item(), se)

    def __str__(self) -> str:
        if not math.isfinite(self.se):
            return f"{self.value:.2f} ± unknown"
        # Two significant digits of the error; more of the value would be noise. Sixth decimal: float32 sums end there.
        digits = min(max(1 - math.floor(math.log10(self.se)), 0), 6) if self.se > 0 else 2
        return f"{self.value:.{digits}f} ± {self.se:.{digits}f}"
