"""pythae's VAE and trainer around networks of ours: a model of ours that shares them scores what pythae has learned."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Callable

import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig, training_callbacks
from torch import Tensor, nn

from tightbound.data import Observations

training_callbacks.tqdm = functools.partial(training_callbacks.tqdm, disable=True)  # bars would bury the table


class Encoder(BaseEncoder):
    """Mean and log-variance, as pythae names them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> ModelOutput:
        mean, log_variance = self.network(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """Probabilities: pythae's cross-entropy takes no logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


class Binarised(BaseDataset):
    """pythae's own data set, its pixels drawn anew at each visit."""

    def __getitem__(self, index: int) -> DatasetOutput:
        return DatasetOutput(data=torch.bernoulli(self.data[index]), labels=self.labels[index])


class _Enough(Exception):
    """Ends a training from inside."""


class _Asking(training_callbacks.TrainingCallback):
    def __init__(self, enough: Callable[[], bool]) -> None:
        self.enough = enough

    def on_train_step_end(self, training_config: BaseTrainerConfig, **_: object) -> None:
        if self.enough():
            raise _Enough


def train(
    encoder: nn.Module,
    decoder: nn.Module,
    observations: Observations,
    enough: Callable[[], bool],
    **settings: float,
) -> None:
    """Train until ``enough``, asked after each step, says so.

    Args:
        encoder: x to (…, 2·latent): mean, then log-variance.
        decoder: z to logits.
        observations: images, their pixels drawn anew at each visit.
        enough: whether to stop.
        **settings: of pythae's ``BaseTrainerConfig``.
    """
    logging.disable(logging.INFO)
    images = observations.unbinarised(torch.arange(len(observations)))
    data = Binarised(images, torch.ones(len(images)))
    model = VAE(
        VAEConfig(input_dim=tuple(images.shape[1:]), reconstruction_loss="bce"), Encoder(encoder), Decoder(decoder)
    )
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(output_dir=folder, num_epochs=10**6, **settings)
        trainer = BaseTrainer(model, data, training_config=config, callbacks=[_Asking(enough)])
        try:
            trainer.train()
        except _Enough:
            return
        finally:
            logging.disable(logging.NOTSET)
