"""The textbook's training loop: a picture at a time, a default DataLoader, an eager model, `.item()` at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset[Tensor]):
    """One PIL image at a time, converted as torchvision's ToTensor does."""

    def __init__(self, images: Tensor) -> None:
        self.images = images  # (N, 1, 28, 28), uint8

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.fromarray(self.images[index, 0].numpy())
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(28, 28, 1)
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


class TextbookVAE(nn.Module):
    """784-hidden-latent and back, as tutorials have it."""

    def __init__(self, hidden: int = 400, latent: int = 20) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, hidden)
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.back, self.pixels = nn.Linear(latent, hidden), nn.Linear(hidden, 784)

    def forward(self, x: Tensor) -> Tensor:
        """Loss of a batch, summed."""
        h = F.relu(self.hidden(x))
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        y = torch.sigmoid(self.pixels(F.relu(self.back(z))))
        rate = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        return F.binary_cross_entropy(y, x, reduction="sum") + rate


def epochs(images: Tensor, held_out: Tensor, *, batch_size: int = 128) -> Iterator[Callable[[], float]]:
    """Train for ever; after each epoch comes a function for the test loss, in nats per image."""
    train, test = (
        DataLoader(Pictures(x), batch_size, shuffle=shuffle) for x, shuffle in ((images, True), (held_out, False))
    )
    model = TextbookVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    total = 0.0
    while True:
        for x in train:
            optimizer.zero_grad()
            loss = model(x.view(-1, 784))
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield partial(test_loss, model, test, len(held_out))


@torch.no_grad()
def test_loss(model: TextbookVAE, test: DataLoader[Tensor], count: int) -> float:
    """Nats per image."""
    return sum(model(x.view(-1, 784)).item() for x in test) / count
