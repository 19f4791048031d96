"""Handwritten digits that come with scikit-learn: 1797 images of 8×8 pixels in 17 levels of grey."""

from __future__ import annotations

import torch

from tightbound.data.observations import Observations


def digits() -> Observations:
    """Load all 1797 digits, stored as whole numbers from 0 to 16. Nothing is downloaded.

    Returns:
        Observations of shape (1, 8, 8) with the labels 0…9.

    References:
        Alpaydin, Kaynak: Optical Recognition of Handwritten Digits (1998), https://doi.org/10.24432/C50P49.

    Example:
        >>> digits().shape
        torch.Size([1, 8, 8])
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Observations(
        torch.from_numpy(bunch.images).to(torch.uint8)[:, None],
        labels=torch.from_numpy(bunch.target).long(),
        label_names=tuple(str(digit) for digit in range(10)),
        name="digits",
        scale=16,
    )
