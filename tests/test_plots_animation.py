"""A walk along latent elements as a moving picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import tightbound as tb
from tightbound.plots.animation import _pixels


def model(*, seed: int = 0) -> tb.VAE:
    torch.manual_seed(seed)
    return tb.VAE(
        prior=tb.priors.StandardNormal(3),
        posterior=tb.posteriors.DiagonalNormal(tb.networks.MLP((1, 4, 4), (6,))),
        likelihood=tb.likelihoods.Bernoulli(tb.networks.MLP((3,), (1, 4, 4), hidden=(8,))),
    )


def test_a_walk_goes_there_and_back() -> None:
    frames = [_pixels(figure) for figure in tb.plots.traversal_frames(model(), steps=8)]
    assert len(frames) == 8
    assert len({frame.shape for frame in frames}) == 1
    for place in (1, 2, 3):  # the same on the way back
        assert np.array_equal(frames[place], frames[8 - place])
    assert len({frame.tobytes() for frame in frames}) == 5


def test_its_ends_are_where_a_traversal_begins_and_ends() -> None:
    """At 2.5 σ of the prior, all else at its middle."""
    vae = model()
    frames = tb.plots.traversal_frames(vae, dimensions=[1], steps=4, span=2.5)
    drawn = [figure.axes[0].images[0].get_array() for figure in frames]
    for frame, at in ((drawn[0], -2.5), (drawn[1], 0.0), (drawn[2], 2.5)):
        z = torch.zeros(1, 3)
        z[0, 1] = at
        np.testing.assert_allclose(np.asarray(frame)[..., 0], vae.decode(z).mean[0, 0].numpy(), atol=1e-5)


def test_elements_are_named_by_what_they_carry() -> None:
    frames = tb.plots.traversal_frames(model(), kl=torch.tensor([0.0, 2.0, 1.0]), dimensions=2, steps=2)
    assert [text.get_text() for text in frames[0].axes[0].texts] == ["z₁  2.0 nats", "z₂  1.0 nats"]


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_it_moves_and_begins_anew(ending: str, tmp_path) -> None:
    path = tb.plots.save_animation(
        tb.plots.traversal_frames(model(), steps=6), tmp_path / "new" / f"walk.{ending}", seconds=3
    )
    with Image.open(path) as found:
        assert found.n_frames == 6
        assert found.info["loop"] == 0
        found.seek(1)
        found.load()
        assert found.info["duration"] == 500


@pytest.mark.parametrize(
    ("words", "message"),
    [({"steps": 1}, "Expected steps >= 2 and span > 0; got steps=1"), ({"span": 0.0}, "got steps=32, span=0.0")],
)
def test_a_walk_of_nothing_is_refused(words, message) -> None:
    with pytest.raises(ValueError, match=message):
        tb.plots.traversal_frames(model(), **words)


def test_a_variable_of_classes_shows_each_for_as_long() -> None:
    likelihood = tb.likelihoods.Gaussian(nn.Linear(4, 3))
    prior = tb.priors.Joint([tb.priors.StandardNormal(1), tb.priors.Categorical(1, classes=3)])
    posterior = [tb.posteriors.DiagonalNormal(nn.Linear(3, 2)), tb.posteriors.Categorical(nn.Linear(3, 3), classes=3)]
    vae = tb.VAE(prior, tb.posteriors.Joint(posterior), likelihood)
    seen: list[torch.Tensor] = []
    likelihood.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    assert len(tb.plots.traversal_frames(vae, steps=6, span=2.0)) == 6
    walk, classes = seen[-1].view(2, 6, 4)
    torch.testing.assert_close(walk[:, 0], torch.tensor([-2.0, -1.0, 1.0, 2.0, 1.0, -1.0]))
    assert (walk[:, 1:] == torch.eye(3)[0]).all()  # the likeliest class, where all are equally likely
    assert (classes[:, 0] == 0).all()
    assert classes[:, 1:].argmax(-1).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("count", "name", "seconds", "message"),
    [
        (2, "x.png", 1.0, r"Expected a path ending in \.gif or \.webp; got .*x\.png"),
        (0, "x.gif", 1.0, "Expected figures, and seconds > 0; got 0 and 1.0"),
        (2, "x.gif", 0.0, "Expected figures, and seconds > 0; got 2 and 0.0"),
    ],
)
def test_what_cannot_be_written_is_refused(count, name, seconds, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        tb.plots.save_animation([Figure(figsize=(1, 1))] * count, tmp_path / name, seconds=seconds)
