"""Precision and compilation of a step: decided by rules, and never at the cost of the numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from training import QUIET, data, model

import tightbound as tb
from tightbound import execution
from tightbound.batch import Batch
from tightbound.execution import Execution, obstacle, step_pays
from tightbound.networks import MLP
from tightbound.objectives import ELBO
from tightbound.settings import Training
from tightbound.training import fit
from tightbound.training.adam import Adam, clipped
from tightbound.training.step import TrainStep


def train_step(**settings: Any) -> TrainStep:
    return TrainStep(model(), ELBO(), Training(**settings), steps=10, device=torch.device("cpu"))


def batch() -> Batch:
    """Observations whose values nobody needs to look at again."""
    return Batch(data(), checked=True)


def test_sixteen_bits_where_the_processor_has_them_and_the_loss_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tightbound.training.step.multiplies_bfloat16", lambda device: True)
    assert train_step().choose_precision(batch()) == Execution("bfloat16")
    monkeypatch.setattr("tightbound.training.step.SAME", 0.0)
    assert train_step().choose_precision(batch()) == Execution("float32")
    monkeypatch.setattr("tightbound.training.step.multiplies_bfloat16", lambda device: False)
    assert train_step().choose_precision(batch()) == Execution("float32")


def test_a_named_precision_is_taken_at_its_word() -> None:
    assert train_step(precision="float32").choose_precision(batch()) == Execution("float32")
    assert train_step(precision="bfloat16").choose_precision(batch()) == Execution("bfloat16")


def test_weights_are_kept_in_full_and_read_in_sixteen_bits() -> None:
    one = train_step()
    one.use(Execution("bfloat16"))
    assert {w.dtype for w in one.weights} == {torch.float32}
    assert torch.bfloat16 in {copy.dtype for copy in one.copies}
    for number in range(3):
        one.step(batch(), number)
    for copy, w in zip(one.copies, one.weights, strict=True):
        assert copy.equal(w.to(copy.dtype))


def test_the_step_is_torchs_own_adam() -> None:
    ours, theirs = train_step(schedule="constant"), model()
    theirs.load_state_dict(ours.model.state_dict())
    optimizer = torch.optim.Adam(theirs.parameters(), lr=Training().learning_rate)
    torch.manual_seed(3)
    for number in range(4):
        ours.step(batch(), number)
    torch.manual_seed(3)
    for _ in range(4):
        optimizer.zero_grad()
        ELBO()(theirs, data()).value.backward()
        optimizer.step()
    for one, other in zip(ours.weights, theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_compiled_step_is_the_plain_one(precision: str) -> None:
    settings = {"schedule": "constant", "clip": 0.5, "ema": 0.9, "weight_decay": 0.5}
    plain, quick = train_step(**settings), train_step(**settings)
    quick.model.load_state_dict(plain.model.state_dict())
    plain.use(Execution(precision))
    quick.use(Execution(precision))
    before = quick.state()
    assert quick.try_compiled(batch()) == ""
    torch.testing.assert_close(quick.state(), before, rtol=0, atol=0)
    for one in (plain, quick):
        torch.manual_seed(3)
        for number in range(5):
            one.step(batch(), number)
    near = {"rtol": 1e-4, "atol": 1e-5} if precision == "float32" else {"rtol": 1e-2, "atol": 1e-3}
    torch.testing.assert_close(quick.state(), plain.state(), **near)


def test_a_moment_that_fades_ends_at_nothing() -> None:
    """Left to fade, it would end in denormals, which cost a step a third more time."""
    w = torch.ones(3)
    adam = Adam([w])
    for number, gradient in enumerate([1e-3, *[0.0] * 1000]):
        adam.move([torch.full_like(w, gradient)], [w], adam.constants(number, rate=0.1))
    assert adam.first[0].eq(0).all()
    assert adam.second[0].gt(0).all()


def test_compiling_pays_for_long_trainings_only() -> None:
    sizes = [step_pays(steps=steps, parameters=10**6, rows=128) for steps in (10, 1000, 10**5)]
    assert sizes == sorted(sizes)
    assert sizes[0] is False
    assert sizes[-1] is True


@pytest.mark.parametrize(("device", "pays"), [("cpu", False), ("cuda", True)])
def test_convolutions_are_not_compiled_on_a_processor_where_that_seldom_pays(device: str, pays: bool) -> None:
    sizes = {"steps": 10**6, "parameters": 10**6, "rows": 128, "device": device}
    assert step_pays(**sizes) is True
    assert step_pays(**sizes, convolves=True) is pays


def test_a_step_knows_whether_its_model_convolves() -> None:
    asked = [tb.networks.MLP((1, 8, 8), (4,)), tb.networks.ConvEncoder((1, 8, 8), 4)]
    found = []
    for encoder in asked:
        likelihood = tb.likelihoods.Bernoulli(tb.networks.MLP((2,), (1, 8, 8)))
        one = tb.VAE(tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(encoder), likelihood)
        step = TrainStep(one, tb.objectives.ELBO(), Training(), steps=1, device=torch.device("cpu"))
        found.append(step.compiling_pays(Batch(torch.zeros(128, 1, 8, 8)), 10**7))
    assert found == [True, False]


def test_without_a_compiler_training_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tightbound.training.loop.obstacle", lambda: "no C++ compiler was found")
    plain = fit(model(), data(), epochs=2, **QUIET)
    ended = fit(model(), data(), epochs=2, compile="always", **QUIET)
    assert "The step runs uncompiled, and slower: no C++ compiler was found." in capsys.readouterr().err
    assert ended.metrics == plain.metrics


def test_a_step_that_cannot_be_compiled_runs_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("this model\nis beyond me")

    monkeypatch.setattr("tightbound.training.step.compiled", lambda function: refuse)
    monkeypatch.setattr("tightbound.training.loop.obstacle", lambda: "")
    plain = fit(model(), data(), epochs=2, **QUIET)
    ended = fit(model(), data(), epochs=2, compile="always", **QUIET)
    assert "slower: this model." in capsys.readouterr().err
    assert ended.metrics == plain.metrics


def test_a_step_that_is_another_one_once_compiled_runs_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrongly(function: Any) -> Any:
        def halved(*args: Any) -> Any:
            out = function(*args)
            return out if out is None else ([g / 2 for g in out[0]], *out[1:])

        return halved

    monkeypatch.setattr("tightbound.training.step.compiled", wrongly)
    monkeypatch.setattr("tightbound.training.loop.obstacle", lambda: "")
    plain = fit(model(), data(), epochs=2, **QUIET)
    ended = fit(model(), data(), epochs=2, compile="always", **QUIET)
    assert "slower: the compiler made another gradient of it." in capsys.readouterr().err
    assert ended.metrics == plain.metrics


class Counting(torch.nn.Module):
    """A decoder that changes with each call, by a plain number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = torch.nn.Linear(2, 3), 0

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.linear(z) * 0.9**self.calls


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
def test_a_model_that_would_be_compiled_at_every_step_runs_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    ended = []
    for compile in ("never", "always"):
        torch.manual_seed(0)
        vae = model()
        vae.likelihood.network = Counting()
        ended.append(fit(vae, data(), epochs=5, compile=compile, **QUIET))
    assert "The step runs uncompiled, and slower: Detected recompile" in capsys.readouterr().err
    assert ended[1].steps == ended[0].steps == 20


def test_what_stands_in_the_way_of_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution.shutil, "which", lambda name: None)
    assert execution.obstacle() == "no C++ compiler was found"
    monkeypatch.setattr(execution.shutil, "which", lambda name: "/usr/bin/c++")
    monkeypatch.setattr(execution.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert "Python.h was not found" in execution.obstacle()


# One step against torch's own


@pytest.mark.parametrize(("most", "size"), [(1e-3, 1.0), (0.5, 1.0), (100.0, 1.0), (1e-7, 1e-6)])
def test_clipping_is_torchs_own(most: float, size: float) -> None:
    gradients = [size * torch.randn(4, 3), size * torch.randn(5)]
    theirs = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = g.clone()
    nn.utils.clip_grad_norm_(theirs, most)
    torch.testing.assert_close(clipped(gradients, most), [p.grad for p in theirs], rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-9])
def test_the_epsilon_is_where_torchs_own_adam_has_it(size: float) -> None:
    w, theirs = torch.ones(3), nn.Parameter(torch.ones(3))
    adam, optimizer = Adam([w]), torch.optim.Adam([theirs], lr=0.1)
    for number in range(5):
        gradient = size * torch.tensor([1.0, -2.0, 0.5])
        adam.move([gradient], [w], adam.constants(number, rate=0.1))
        theirs.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(w, theirs.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weight_decay_is_that_of_torchs_own_adamw(decay: float) -> None:
    w, theirs = torch.ones(3), nn.Parameter(torch.ones(3))
    adam, optimizer = Adam([w], decay=[decay]), torch.optim.AdamW([theirs], lr=0.1, weight_decay=decay)
    for number in range(5):
        gradient = torch.tensor([1.0, -2.0, 0.5]) * number
        adam.move([gradient], [w], adam.constants(number, rate=0.1))
        theirs.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(w, theirs.detach(), rtol=1e-6, atol=1e-7)


def test_weights_of_products_decay_and_nothing_else_does() -> None:
    vae = tb.VAE(
        prior=tb.priors.MixtureOfNormals(2, components=3),
        posterior=tb.posteriors.DiagonalNormal(
            nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.LayerNorm(2), nn.Linear(2, 4))
        ),
        likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 3), scale="per-element"),
    )
    settings = Training(weight_decay=0.1)
    step = TrainStep(vae, ELBO(), settings, steps=1, device=torch.device("cpu"))
    decayed = {name for name, decay in zip(step.parameters, step.adam.decay, strict=True) if decay == 0.1}
    assert decayed == {f"{n}.weight" for n in ("posterior.network.1", "posterior.network.4", "likelihood.network")}
    assert set(step.adam.decay) == {0.0, 0.1}
    assert not any(TrainStep(vae, ELBO(), Training(), steps=1, device=torch.device("cpu")).adam.decay)


# Which weights are read in 16 bits


def test_weights_of_products_are_copied_in_sixteen_bits_and_others_are_not() -> None:
    vae = tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(
            nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.LayerNorm(2), nn.Linear(2, 4))
        ),
        likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 3), scale="learned"),
    )
    step = TrainStep(vae, ELBO(), Training(), steps=1, device=torch.device("cpu"))
    step.use(Execution("bfloat16"))
    low = {name for name, copy in zip(step.parameters, step.copies, strict=True) if copy.dtype == torch.bfloat16}
    layers = ("posterior.network.1", "posterior.network.4", "likelihood.network")
    assert low == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert len(low) < len(step.parameters)  # layer normalisation and the scale stay whole


# A compiled step, as small as can be


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize(
    ("micro_batch", "posterior"), [(0, "DiagonalNormal"), (2, "DiagonalNormal"), (0, "FullNormal")]
)
def test_a_tiny_compiled_step_is_the_plain_one(micro_batch: int, posterior: str) -> None:
    kind = getattr(tb.posteriors, posterior)

    def tiny() -> TrainStep:
        torch.manual_seed(0)
        vae = tb.VAE(
            prior=tb.priors.StandardNormal(2),
            posterior=kind(MLP((3,), (kind.outputs_for(2),), hidden=(4,))),
            likelihood=tb.likelihoods.Gaussian(MLP((2,), (3,), hidden=(4,)), scale=0.5),
        )
        settings = Training(schedule="constant", clip=0.5, ema=0.9, weight_decay=0.5, micro_batch=micro_batch)
        return TrainStep(vae, ELBO(), settings, steps=10, device=torch.device("cpu"))

    plain, quick, few = tiny(), tiny(), Batch(data(4), checked=True)
    before = quick.state()
    assert quick.try_compiled(few) == ""
    assert quick.execution == Execution(compiled=True)
    torch.testing.assert_close(quick.state(), before, rtol=0, atol=0)
    for one in (plain, quick):
        torch.manual_seed(3)
        for number in range(3):
            one.step(few, number)
    torch.testing.assert_close(quick.state(), plain.state(), rtol=1e-4, atol=1e-5)
