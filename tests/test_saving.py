"""A model in a folder comes back as it was, and a stranger's folder names nothing but the library's own pieces."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightbound as tb
from tightbound.files import DIGESTS
from tightbound.networks import MLP, ConvDecoder, ConvEncoder, Standardized
from tightbound.saving import MODEL, WEIGHTS, described, first_unlike, load_model, save_model

SHAPE = (1, 9, 7)


def encoder() -> nn.Module:
    return Standardized(ConvEncoder(SHAPE, 4, base=3, blocks=1), torch.rand(SHAPE), torch.rand(SHAPE))


LIKELIHOODS = {
    "bernoulli": lambda: tb.likelihoods.Bernoulli(ConvDecoder(2, SHAPE, base=3)),
    "cross-entropy": lambda: tb.likelihoods.UnnormalisedBernoulli(MLP((2,), SHAPE, hidden=(5, 6), act="tanh")),
    "continuous": lambda: tb.likelihoods.ContinuousBernoulli(
        nn.Sequential(nn.Linear(2, 8), nn.ReLU(), MLP((8,), SHAPE))
    ),
    "gaussian": lambda: tb.likelihoods.Gaussian(MLP((2,), SHAPE), centre=torch.rand(SHAPE), unit=2.0, scale=0.3),
    "laplace": lambda: tb.likelihoods.Laplace(MLP((2,), (2, *SHAPE)), scale="per-element"),
    "logistic": lambda: tb.likelihoods.DiscretizedLogistic(MLP((2,), SHAPE), levels=2),
    "categorical": lambda: tb.likelihoods.Categorical(MLP((2,), (2, *SHAPE)), classes=2),
    "poisson": lambda: tb.likelihoods.Poisson(MLP((2,), SHAPE)),
    "negative binomial": lambda: tb.likelihoods.NegativeBinomial(MLP((2,), (2, *SHAPE))),
}
PRIORS = {
    "standard": lambda q: tb.priors.StandardNormal(2),
    "mixture": lambda q: tb.priors.MixtureOfNormals(2, components=3),
    "vamp": lambda q: tb.priors.VampPrior(q, torch.rand(4, *SHAPE)),
}


def returns_as_it_was(model: tb.VAE, folder: Path) -> None:
    x = torch.randint(2, (3, *SHAPE)).to(next(model.parameters()).dtype)
    model.save(folder)
    found = load_model(folder)
    assert not found.training
    assert str(found) == str(model)
    assert {name: value.dtype for name, value in found.state_dict().items()} == {
        name: value.dtype for name, value in model.state_dict().items()
    }
    assert found.embed(x).equal(model.embed(x))
    assert found.log_prob(x, samples=3).equal(model.log_prob(x, samples=3))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_comes_back(likelihood: str, tmp_path: Path) -> None:
    posterior = tb.posteriors.DiagonalNormal(encoder())
    returns_as_it_was(tb.VAE(tb.priors.StandardNormal(2), posterior, LIKELIHOODS[likelihood]()), tmp_path)


@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior_comes_back(prior: str, tmp_path: Path) -> None:
    posterior = tb.posteriors.DiagonalNormal(encoder())
    model = tb.VAE(PRIORS[prior](posterior), posterior, LIKELIHOODS["bernoulli"]())
    returns_as_it_was(model, tmp_path)
    again = load_model(tmp_path)
    if prior == "vamp":
        assert again.prior.posterior is again.posterior


def test_a_model_in_double_precision_comes_back_so(tmp_path: Path) -> None:
    posterior = tb.posteriors.FullNormal(MLP(SHAPE, (5,)))
    returns_as_it_was(tb.VAE(tb.priors.StandardNormal(2), posterior, LIKELIHOODS["gaussian"]()).double(), tmp_path)


def textbook() -> tb.VAE:
    """As it is written where nobody knows of this library's networks."""
    act = nn.LeakyReLU(0.3)  # in two places
    encoder = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(3, eps=1e-3), act, nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.LayerNorm(36), nn.Dropout(0.2), nn.Linear(36, 6), act, nn.Linear(6, 4),
    )  # fmt: skip
    named = OrderedDict(
        first=nn.Linear(2, 9), act=nn.ELU(alpha=0.3), last=nn.Linear(9, 63), shape=nn.Unflatten(1, SHAPE)
    )
    posterior = tb.posteriors.DiagonalNormal(encoder)
    return tb.VAE(tb.priors.StandardNormal(2), posterior, tb.likelihoods.Bernoulli(nn.Sequential(named)))


def test_a_model_of_torch_s_own_layers_comes_back_with_what_they_were_given(tmp_path: Path) -> None:
    model = textbook()
    with torch.no_grad():
        model.posterior.network.train()(torch.rand(9, *SHAPE))  # so that the running statistics move
    returns_as_it_was(model.eval(), tmp_path)
    act = [each for each in load_model(tmp_path).modules() if isinstance(each, nn.LeakyReLU)]
    assert len(act) == 1


@pytest.mark.parametrize(
    "layer",
    [nn.GELU(approximate="tanh"), nn.ELU(alpha=0.3), nn.Softplus(beta=2, threshold=5), nn.LeakyReLU(0.4), nn.Tanh()],
    ids=str,
)
def test_an_activation_comes_back_with_its_numbers(layer: nn.Module, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 4), layer, nn.Linear(4, 63), nn.Unflatten(1, SHAPE))
    posterior = tb.posteriors.DiagonalNormal(MLP(SHAPE, (4,)))
    returns_as_it_was(tb.VAE(tb.priors.StandardNormal(2), posterior, tb.likelihoods.Bernoulli(network)), tmp_path)


def test_a_vae_of_pairs_comes_back(tmp_path: Path) -> None:
    vae = tb.VAE(
        tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(MLP((5,), (4,))),
        tb.likelihoods.Gaussian(MLP((2,), (5,))),
    )  # fmt: skip
    model, x = tb.PairedVAE(vae, shared=1).eval(), torch.rand(3, 2, 5)
    save_model(model, tmp_path)
    assert load_model(tmp_path).log_prob(x, samples=3).equal(model.log_prob(x, samples=3))


def test_numbers_of_numpy_are_plain_ones(tmp_path: Path) -> None:
    posterior = tb.posteriors.DiagonalNormal(MLP((np.int64(5),), (4,), hidden=(np.int32(3),)))
    model = tb.VAE(tb.priors.StandardNormal(np.int64(2)), posterior, tb.likelihoods.Gaussian(MLP((2,), (5,))))
    model.save(tmp_path)
    assert str(load_model(tmp_path)) == str(model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: None, ""),
        (lambda spec: spec["prior"].update(latent_dim=3), "model.prior.latent_dim is 3 and 2"),
        (
            lambda spec: spec["likelihood"].update(piece="likelihoods.Laplace"),
            "model.likelihood is Laplace and Gaussian",
        ),
        (
            lambda spec: spec["posterior"]["network"].update(act="tanh"),
            'model.posterior.network.act is "tanh" and "relu"',
        ),
        (lambda spec: spec["posterior"]["network"]["hidden"].append(3), "model.posterior.network.hidden is [400, 3]"),
        (lambda spec: spec.update(prior={"own": "mine.Prior"}), "model.prior is Prior and StandardNormal"),
    ],
)
def test_descriptions_of_two_models_are_compared(change: Any, said: str) -> None:
    def made() -> tb.VAE:
        posterior = tb.posteriors.DiagonalNormal(MLP((5,), (4,)))
        return tb.VAE(tb.priors.StandardNormal(2), posterior, tb.likelihoods.Gaussian(MLP((2,), (5,))))

    spec = described(made())
    change(spec)
    assert first_unlike(spec, described(made())).startswith(said)
    assert bool(first_unlike(spec, described(made()))) is bool(said)


def test_classes_of_ones_own_go_by_their_name_wherever_they_stand() -> None:
    assert not first_unlike({"own": "__main__.Own"}, {"own": "mine.Own"})
    assert first_unlike({"own": "mine.Own"}, {"own": "mine.Other"}) == "model is Own and Other"


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(63, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(1))


def test_of_a_network_of_ones_own_the_weights_are_kept(tmp_path: Path) -> None:
    def made() -> tb.VAE:
        return tb.VAE(tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(Own()), LIKELIHOODS["bernoulli"]())

    model, again = made(), made()
    model.save(tmp_path)
    with pytest.raises(ValueError, match=r"library's own pieces; got .*\.Own in .* read the weights into it: safetens"):
        load_model(tmp_path)
    from safetensors.torch import load_model as read_weights

    read_weights(again, tmp_path / WEIGHTS)
    x = torch.ones(2, *SHAPE)
    assert again.embed(x).equal(model.embed(x))


def saved(folder: Path) -> dict[str, Any]:
    model = tb.VAE(
        tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(MLP(SHAPE, (4,))), LIKELIHOODS["bernoulli"]()
    )
    model.save(folder)
    (folder / DIGESTS).unlink()
    return json.loads((folder / MODEL).read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.update(format=7), r"Expected a model of format 4; got 7 in .* Write it anew"),
        (
            lambda made: made["model"]["prior"].update(piece="os.system"),
            "Expected a model's description; got a damaged",
        ),
        (
            lambda made: made["model"]["prior"].update(latent_dim=10**12),
            "Expected a model's description; got a damaged",
        ),
        (lambda made: made["model"]["prior"].update(latent_dim="two"), "Expected a model's description; got a damaged"),
        (lambda made: made["model"]["prior"].update(latent_dim=3), None),
        (
            lambda made: made["model"].update(prior={"piece": "priors.Flow", "latent_dim": 2, "transforms": 10**9}),
            "1000000000 transforms are more than a model may have here",
        ),
        (lambda made: made.update(model={"piece": "activation.ReLU"}), "ReLU is no model"),
        (lambda made: made.update(dtype="cat"), "cat is no type of numbers"),
        (
            lambda made: made["model"]["posterior"]["network"].update(hidden=[7]),
            "Expected the weights of this model; got",
        ),
        (lambda made: made.pop("dtype"), "Expected a model's description; got a damaged or foreign file"),
    ],
)
def test_a_strangers_description_is_refused(change: Any, message: str | None, tmp_path: Path) -> None:
    made = saved(tmp_path)
    change(made)
    (tmp_path / MODEL).write_text(json.dumps(made))
    if message is None:  # a prior without weights fits them whatever its size; whoever draws is told
        with pytest.raises(ValueError, match="Expected latents of the prior's shape"):
            load_model(tmp_path).draw(torch.ones(2, *SHAPE))
        return
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"Expected a folder that model\.save\(\.\.\.\) wrote, with a model\.json; got"
    ):
        load_model(tmp_path)
    for name in ("recipe.toml", "training.json"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=r"Expected a folder of its own for a model; got .*, which holds a run\."):
            saved(tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", ["LogNormal", "Exponential", "Gumbel", "Bernoulli", "Categorical"])
def test_latents_of_every_kind_come_back(name: str, learned: bool, tmp_path: Path) -> None:
    """A prior, a posterior and a likelihood may share a name: each comes back as what it is."""
    options = {"classes": 3} if name == "Categorical" else {}
    outputs = 12 if name in ("LogNormal", "Gumbel") else 6
    model = tb.VAE(
        prior=getattr(tb.priors, name)(2 if options else 6, learned=learned, **options),
        posterior=getattr(tb.posteriors, name)(MLP((4,), (outputs,), hidden=(3,)), **options),
        likelihood=tb.likelihoods.Bernoulli(MLP((6,), (4,), hidden=(3,))),
    )
    model.save(tmp_path / "model")
    again, x = tb.load_model(tmp_path / "model"), torch.ones(2, 4)
    assert (type(again.prior), type(again.posterior)) == (type(model.prior), type(model.posterior))
    assert again.prior.learned == learned
    assert again.log_prob(x, samples=5).equal(model.log_prob(x, samples=5))
