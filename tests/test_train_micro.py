"""A step in micro-batches: the numbers of one piece, and never more of a decoder in memory than was asked for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SMALL, said
from torch import Tensor, nn
from training import QUIET, before_each_step, data, equal, weights, written

import tightbound as tb
from tightbound.batch import Batch
from tightbound.execution import Execution, obstacle
from tightbound.networks import MLP
from tightbound.objectives import ELBO, IWAE, Capacity, FreeBits, Objective
from tightbound.settings import Training
from tightbound.training import fit
from tightbound.training.micro import MicroBatched, micro_batched
from tightbound.training.step import TrainStep

BATCH, SAMPLES, FULL = 6, 5, Execution("float32")
SAME = {"rtol": 1e-12, "atol": 1e-14}  # rounding, in float64
OBJECTIVES = [ELBO(samples=4), ELBO(samples=3, kl="sampled"), IWAE(SAMPLES), FreeBits(0.1, 2), Capacity(1.0, samples=3)]


class Lines(nn.Module):
    """A network that wants its input in one batch axis, as batch normalisation does."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.inner(z.flatten(0, -2)).unflatten(0, z.shape[:-1])


class Antithetic(tb.VAE):
    """Draws in pairs around the posterior's mean, as far from it as a parameter of its own says."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.stretch = nn.Parameter(torch.tensor(1.0))

    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        q = self.posterior(batch.x)
        away = self.stretch * (q.rsample(torch.Size([-(-samples // 2)])) - q.mean)
        z = torch.cat([q.mean + away, q.mean - away])[:samples]
        return z, self.log_posterior(batch, z)

    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        """Each draw by itself is normal, with a scale stretched."""
        q, stretch = self.posterior(batch.x), self.stretch.detach() if frozen else self.stretch
        mean, scale = (t.detach() if frozen else t for t in (q.mean, q.stddev))
        return torch.distributions.Normal(mean, stretch * scale, validate_args=False).log_prob(z).sum(-1)


def mlp() -> nn.Module:
    return MLP((2,), (3,), hidden=(8,))


def unsteady() -> nn.Module:
    """A decoder with random numbers and a state of its own."""
    return Lines(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def spectral() -> nn.Module:
    """A decoder whose buffers are part of what it computes, and move each time."""
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 8)), nn.Tanh(), nn.Linear(8, 3))


def vae(decoder: Callable[[], nn.Module] = mlp, *, kind: type[tb.VAE] = tb.VAE) -> tb.VAE:
    """Three elements, two latents, a learned scale; in float64, and always the same."""
    torch.manual_seed(0)
    likelihood = tb.likelihoods.Gaussian(decoder(), scale="learned")
    posterior = tb.posteriors.DiagonalNormal(MLP((3,), (4,), hidden=(8,)))
    return kind(tb.priors.StandardNormal(2), posterior, likelihood).double()


def observations(count: int = BATCH) -> Tensor:
    return data(count).double()


def gradients(model: tb.VAE, objective: Objective, rows: int, *, execution: Execution = FULL) -> dict[str, Tensor]:
    """A step's loss, terms and gradients by name; in one piece where ``rows`` is 0."""
    step = TrainStep(model, objective, Training(micro_batch=rows), steps=10, device=torch.device("cpu"))
    step.use(execution)
    torch.manual_seed(1)
    values = step.gradient(Batch(observations().to(step.dtype), checked=True), 3)
    return {"values": values, **dict(zip(step.parameters, step.gradients, strict=True))}


def near(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert all(value.abs().max() > 0 for value in expected.values())
    torch.testing.assert_close(found, expected, **(tolerance or SAME))


def pair(decoder: Callable[[], nn.Module] = mlp) -> tuple[tb.VAE, MicroBatched, Batch, Tensor, Tensor]:
    """A model, its log-densities in pieces, observations, latents, and numbers to weigh log-densities by."""
    model = vae(decoder)
    z = torch.randn(SAMPLES, BATCH, 2, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(2, SAMPLES, BATCH, dtype=torch.float64)
    return model, MicroBatched(model, 4, torch.float32), Batch(observations()), z, cotangent


def scored(log_joint: Callable[[Batch, Tensor], tuple[Tensor, Tensor]], batch: Batch, z: Tensor) -> Tensor:
    return torch.stack(log_joint(batch, z))


# The same numbers


@pytest.mark.parametrize("rows", [1, 3, 4, BATCH, 2 * BATCH, 13, 10**6])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_loss_terms_and_gradients_are_those_of_one_piece(objective: Objective, rows: int) -> None:
    near(gradients(vae(), objective, rows), gradients(vae(), objective, 0))


@pytest.mark.parametrize("tied", ["module", "parameter"])
def test_a_shared_parameter_gets_its_whole_gradient(tied: str) -> None:
    def decoder() -> nn.Module:
        first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        second.weight = first.weight
        return nn.Sequential(first, nn.Tanh(), first if tied == "module" else second, nn.Tanh(), nn.Linear(2, 3))

    near(gradients(vae(decoder), IWAE(SAMPLES), 4), gradients(vae(decoder), IWAE(SAMPLES), 0))


def test_a_model_with_proposals_of_its_own() -> None:
    found = gradients(vae(kind=Antithetic), IWAE(SAMPLES), 4)
    near(found, gradients(vae(kind=Antithetic), IWAE(SAMPLES), 0))
    assert "stretch" in found


@pytest.mark.parametrize("decoder", [unsteady, spectral])
def test_the_second_decoding_is_the_first_again_and_leaves_no_trace(decoder: Callable[[], nn.Module]) -> None:
    model, micro, batch, z, cotangent = pair(decoder)
    torch.manual_seed(2)
    loss = (scored(micro, batch, z) * cotangent).sum()
    torch.rand(3)  # what happens between the two decodings is none of theirs
    found = torch.autograd.grad(loss, [z, *model.likelihood.parameters()])
    found_after = [*model.buffers(), torch.rand(3)]

    model, micro, batch, _, _ = pair(decoder)
    torch.manual_seed(2)
    pieces = [
        (scored(model.log_joint, batch.rows(b), z[k, b]) * cotangent[:, k, b]).sum()
        for k, b in micro.pieces(*z.shape[:2])
    ]
    torch.rand(3)
    expected = torch.autograd.grad(torch.stack(pieces).sum(), [z, *model.likelihood.parameters()])
    torch.testing.assert_close(found, expected, **SAME)
    torch.testing.assert_close(found_after, [*model.buffers(), torch.rand(3)], rtol=0, atol=0)


def test_both_log_densities_are_the_models_own() -> None:
    model, micro, batch, z, cotangent = pair()
    torch.testing.assert_close(scored(micro, batch, z), scored(model.log_joint, batch, z), **SAME)
    found = torch.autograd.grad((scored(micro, batch, z) * cotangent).sum(), z)
    torch.testing.assert_close(found, torch.autograd.grad((scored(model.log_joint, batch, z) * cotangent).sum(), z))


def test_latents_must_fit_the_observations() -> None:
    _, micro, batch, z, _ = pair()
    with pytest.raises(ValueError, match=r"shape \(K, 2, \*latent\) for 2 .*; got \(5, 6, 2\)\. Give .*=0\.$"):
        micro(batch.rows(slice(0, 2)), z)


# In bounded memory


@given(draws=st.integers(1, 12), count=st.integers(1, 12), rows=st.integers(1, 150))
def test_each_draw_of_each_observation_is_in_one_piece_and_none_is_too_large(draws: int, count: int, rows: int) -> None:
    micro = MicroBatched(vae(), rows, torch.float32)
    seen, pieces = torch.zeros(draws, count), [*micro.pieces(draws, count)]
    for piece in pieces:
        seen[piece] += 1
    assert seen.eq(1).all()
    assert max(seen[piece].numel() for piece in pieces) <= rows
    assert rows < draws * count or len(pieces) == 1


@pytest.mark.parametrize("rows", [1, 4, 2 * BATCH, 10**6])
def test_the_decoder_never_sees_more_than_it_was_asked_to(rows: int) -> None:
    model, seen = vae(), []
    model.likelihood.network.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0].shape[:-1].numel()))
    gradients(model, IWAE(SAMPLES), rows)
    assert max(seen) <= rows
    assert sum(seen) == 2 * SAMPLES * BATCH


def test_nothing_of_a_decoders_insides_is_kept() -> None:
    def kept(hidden: int, rows: int) -> int:
        model = vae(lambda: MLP((2,), (3,), hidden=(hidden,)))
        used = micro_batched(model, rows, torch.float32, compile=False) if rows else model
        saved: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            IWAE(SAMPLES)(used, Batch(observations(), checked=True))
        sizes = {t.data_ptr(): t.untyped_storage().nbytes() for t in saved}
        return sum(sizes.values()) - sum(sizes.get(p.data_ptr(), 0) for p in model.parameters())

    assert kept(8, 4) == kept(800, 4) == kept(800, 10**6)
    assert kept(800, 0) - kept(8, 0) >= SAMPLES * BATCH * (800 - 8) * 8


# In 16 bits, and compiled


def test_sixteen_bit_products_give_nearly_the_gradient_of_single_precision() -> None:
    exact = gradients(vae().float(), IWAE(SAMPLES), 0)
    for rows in (0, 4):
        rough = gradients(vae().float(), IWAE(SAMPLES), rows, execution=Execution("bfloat16"))
        for name, value in exact.items():
            assert (rough[name] - value).norm() < 8 * torch.finfo(torch.bfloat16).eps * value.norm()


def test_sums_over_many_pieces_keep_what_sixteen_bits_would_lose() -> None:
    """Equal terms added up in bfloat16 come to a stop at the 256th."""
    count, model = 600, vae(lambda: nn.Linear(2, 3)).float()
    likelihood = model.likelihood = tb.likelihoods.Gaussian(nn.Linear(2, 3).bfloat16(), scale=1.0)
    x, z = torch.ones(1, 3), torch.ones(1, 1, 2)
    one = torch.autograd.grad(likelihood.log_prob(x, z.bfloat16()).sum(), likelihood.network.weight)[0]
    micro = MicroBatched(model, 1, torch.bfloat16)
    micro(Batch(x), z.expand(count, 1, 2))[0].sum().backward()
    found = likelihood.network.weight.grad
    torch.testing.assert_close(found.float(), count * one.float(), rtol=torch.finfo(torch.bfloat16).eps, atol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_score_and_gradient_are_each_one_graph(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=True, dynamic=False, backend="eager")

    monkeypatch.setattr("tightbound.training.micro.compiled", traced)
    expected = gradients(vae().float(), IWAE(SAMPLES), 4, execution=Execution(precision))
    found = gradients(vae().float(), IWAE(SAMPLES), 4, execution=Execution(precision, compiled=True))
    near(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize("rows", [4, 13])
def test_the_compiled_way_agrees_with_the_plain_one(rows: int) -> None:
    def normalised() -> nn.Module:
        return Lines(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))

    plain, quick = vae(normalised), vae(normalised)
    found = gradients(quick, IWAE(SAMPLES), rows, execution=Execution(compiled=True))
    torch.testing.assert_close(found, gradients(plain, IWAE(SAMPLES), rows), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dict(quick.named_buffers()), dict(plain.named_buffers()), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
def test_a_compiler_that_gets_a_dropout_wrong_is_not_believed() -> None:
    """Torch 2.13 reads the mask of this decoder's dropout before it draws it; other versions may get it right."""
    plain, batch = gradients(vae(unsteady), IWAE(SAMPLES), 4), Batch(observations(), checked=True)
    step = TrainStep(vae(unsteady), IWAE(SAMPLES), Training(micro_batch=4), steps=10, device=torch.device("cpu"))
    reason = step.try_compiled(batch)
    assert reason in ("", "the compiler made another gradient of it")
    assert step.execution.compiled == (not reason)
    torch.manual_seed(1)
    step.gradient(batch, 3)
    found = dict(zip(step.parameters, step.gradients, strict=True))
    torch.testing.assert_close(found, {name: plain[name] for name in found}, rtol=1e-9, atol=1e-12)


# In a training


def train(model: tb.VAE, micro_batch: int, **changes: Any) -> dict[str, Tensor]:
    settings = {**QUIET, "epochs": 3, "ema": 0.9, "objective": IWAE(SAMPLES), **changes}
    fit(model, observations(100), micro_batch=micro_batch, **settings)
    return weights(model)


def test_a_training_ends_with_the_weights_of_one_without_and_under_their_names() -> None:
    expected, found = train(vae(), 0), train(vae(), 7)
    assert [*found] == [*vae().state_dict()]
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    assert not equal(found, weights(vae()))


def test_the_model_that_is_trained_is_left_as_it_was_and_its_parameters_are_nobody_elses() -> None:
    model = vae(kind=Antithetic)
    parts = dict(model.named_modules())
    twin = micro_batched(model, 4, torch.float32, compile=False)
    assert type(twin) is Antithetic
    assert dict(model.named_modules()) == parts
    assert [*map(id, twin.parameters())] == [*map(id, model.parameters())]


def test_a_stopped_training_goes_on_as_if_it_never_had_been(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(folder: str, **changes: Any) -> dict[str, Tensor]:
        return train(vae(unsteady), 7, out=tmp_path / folder, **changes)

    with monkeypatch.context() as patch:
        before_each_step(patch, lambda step: step == 5 and os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    assert equal(run("stopped", resume=True), run("complete"))
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


def test_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert said(capsys, "train", "digits", *SMALL, "--train.micro-batch", 64, "--out", tmp_path / "run")[0] == 0
    assert "micro_batch = 64\n" in (tmp_path / "run" / "recipe.toml").read_text()


def test_a_micro_batch_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Expected micro_batch >= 0; got -1\.$"):
        Training(micro_batch=-1)
    with pytest.raises(TypeError, match=r"^Expected a whole number for micro_batch; got 1\.5\.$"):
        Training(micro_batch=1.5)  # type: ignore[arg-type]


def test_a_latent_may_be_a_single_number() -> None:
    """z of shape (K, B): its latent has no axis."""

    class Number(tb.Model):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.tensor(0.3))

        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            z = self.shift + torch.randn(samples, batch.size)
            return z, self.log_posterior(batch, z)

        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            return -0.5 * (batch.x.sum(-1) - z).square(), -0.5 * z.square()

        def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
            return -0.5 * (z - (self.shift.detach() if frozen else self.shift)).square()

    model, batch, z = Number(), Batch(torch.randn(3, 2)), torch.randn(4, 3)
    for ours, theirs in zip(
        micro_batched(model, 5, torch.float32, compile=False).log_joint(batch, z),
        model.log_joint(batch, z),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
