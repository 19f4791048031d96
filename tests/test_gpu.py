"""On a GPU: the numbers of the processor, and the same training. Skipped where there is none, as in CI."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from building import DESCRIBED, recipe, source, trains
from compiled import compiles
from test_train_resume import interrupt_at, stopped_at, train
from test_transforms import images, of_images
from tiny import said
from training import QUIET, before_each_step, bits, data, equal, weights, written
from training import model as small

import tightbound as tb
from tightbound.data.transforms import Compose, Flip, Shift
from tightbound.execution import Execution
from tightbound.runs.build import build
from tightbound.settings import Training
from tightbound.training import fit
from tightbound.training.signals import signals_kept
from tightbound.training.step import TrainStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CUDA = torch.device("cuda")
NEAR = {"rtol": 2e-4, "atol": 2e-3}  # single precision's, of sums over an image's elements


@pytest.fixture(autouse=True)
def _products_in_full() -> Iterator[None]:
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


def assert_same_densities(model: tb.Model, batch: tb.Batch) -> None:
    """Three log-densities at the processor's own draws."""
    there = copy.deepcopy(model).to(CUDA).eval()
    here = model.eval()
    with torch.no_grad():
        z, _ = here.propose(batch, samples=3)
        far, distant = z.to(CUDA), batch.to(CUDA)
        ours = [*here.log_joint(batch, z), here.log_posterior(batch, z)]
        theirs = [*there.log_joint(distant, far), there.log_posterior(distant, far)]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other.cpu(), one, **NEAR)
        rates = here.rate(batch), there.rate(distant)
        if rates[0] is not None and rates[1] is not None:
            torch.testing.assert_close(rates[1].cpu(), rates[0], **NEAR)


@pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
@pytest.mark.parametrize(("likelihood", "kind"), DESCRIBED)
def test_every_likelihood_with_every_network(tmp_path: Path, likelihood: str, kind: str, network: str) -> None:
    built = build(
        recipe(source(tmp_path, kind), model__likelihood=likelihood, model__network=network, train__device="cuda")
    )
    assert_same_densities(built.model, built.data.train.eval_batch(0, 5))
    trains(built)
    assert next(built.model.parameters()).device.type == "cuda"


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        ("standard-normal", "full-normal"),
        ("mixture", "diagonal-normal"),
        ("vamp", "diagonal-normal"),
        ("bernoulli", "bernoulli"),
        ("categorical", "categorical"),
        ("standard-normal", "flow"),
    ],
)
def test_every_prior_and_posterior(tmp_path: Path, prior: str, posterior: str) -> None:
    gradient = {"objective__gradient": "leave-one-out", "objective__samples": 2} if prior == posterior else {}
    made = recipe(
        source(tmp_path, "real"), model__prior=prior, model__posterior=posterior, train__device="cuda", **gradient
    )
    built = build(made)
    assert_same_densities(built.model, built.data.train.eval_batch(0, 5))
    trains(built)


@pytest.mark.parametrize(
    "objective",
    [
        tb.objectives.ELBO(beta=4.0),
        tb.objectives.ELBO(samples=3, kl="sampled"),
        tb.objectives.IWAE(5),
        tb.objectives.IWAE(5, tb.gradients.DoublyReparameterised()),
        tb.objectives.FreeBits(0.1),
    ],
    ids=lambda each: type(each).__name__,
)
def test_every_objective(objective: Any) -> None:
    ended = fit(small(), data(), objective=objective, epochs=2, device="cuda", **QUIET)
    assert ended.loss < float("inf")


def test_it_trains_on_the_gpu_by_default_and_as_well_as_here() -> None:
    here, there = small(), small()
    settings: dict[str, Any] = {**QUIET, "epochs": 60}
    slow = fit(here, data(500), device="cpu", **settings)
    fast = fit(there, data(500), **settings)
    assert next(there.parameters()).device.type == "cuda"
    assert abs(fast.loss - slow.loss) < 0.2
    assert there.embed(data(5)).device.type == "cuda"


@pytest.mark.parametrize("step", [1, 4, 9])
@pytest.mark.parametrize("changes", [{}, {"compile": "always"}], ids=str)
def test_a_stopped_training_goes_on_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, changes: dict[str, Any]
) -> None:
    stopped_at(monkeypatch, step, tmp_path / "stopped", device="cuda", **changes)
    found, resumed = train(tmp_path / "stopped", resume=True, device="cuda", **changes)
    expected, complete = train(tmp_path / "complete", device="cuda", **changes)
    assert equal(found, expected)
    assert resumed.metrics == complete.metrics


@compiles
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_compiled_step_is_the_plain_one(precision: str) -> None:
    settings = Training(schedule="constant", clip=0.5, ema=0.9, weight_decay=0.5)
    steps = [TrainStep(small().to(CUDA), tb.objectives.ELBO(), settings, steps=10, device=CUDA) for _ in range(2)]
    batch = tb.Batch(data(), checked=True)
    for each in steps:
        each.use(Execution(precision))
    assert steps[1].try_compiled(batch) == ""
    for each in steps:
        torch.cuda.manual_seed(3)
        for number in range(5):
            each.step(batch, number)
    near = {"rtol": 1e-4, "atol": 1e-5} if precision == "float32" else {"rtol": 1e-2, "atol": 1e-3}
    torch.testing.assert_close(steps[1].state(), steps[0].state(), **near)


@pytest.mark.parametrize("model", [small, bits], ids=["normal", "bits"])
def test_evidence_agrees_with_the_processor(model: Any) -> None:
    vae = model().eval()
    x = data(200)
    here = tb.evidence(vae, x, samples=200)
    there = tb.evidence(vae.to(CUDA), x, samples=200)
    for name in ("elbo", "nll", "distortion", "rate"):
        one, other = getattr(here, name), getattr(there, name)
        assert abs(one.value - other.value) < 0.05, name


def test_gaps_information_and_a_refined_proposal() -> None:
    vae = small()
    fit(vae, data(300), epochs=20, device="cuda", **QUIET)
    x = data(60, seed=1)
    vae.eval()
    found = tb.evaluate.gaps(vae, x)
    assert found.test.observations == 60
    tb.evaluate.information(vae, x, draws=100)
    tb.evidence(vae, x, samples=50, proposal="refined")


def test_micro_batches() -> None:
    vae = small()
    fit(vae, data(), epochs=1, device="cuda", micro_batch=5, **QUIET)
    assert all(p.isfinite().all() for p in vae.parameters())


def test_a_run_is_made_there_and_opened_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    code, _, error = said(capsys, "train", "digits", "--out", run, "--train.epochs", 3)
    assert code == 0, error
    on_gpu = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    model = tb.open_run(run).model()
    assert next(model.parameters()).device.type == "cpu"
    here = tb.evidence(model, tb.open_run(run).data().test, samples=100)
    assert abs(here.elbo.value - on_gpu["elbo"]) < 0.5
    for verb in ("evaluate", "report", "sample", "traverse", "interpolate", "gaps", "information"):
        code, _, error = said(capsys, verb, run)
        assert code == 0, (verb, error)


def test_a_transform_draws_there_and_a_resume_repeats_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(folder: Path, *, resume: bool = False) -> dict[str, Any]:
        vae = of_images(seed=int(resume))
        changes = {**QUIET, "epochs": 3, "device": "cuda", "on_log": lambda line: vae.sample(2)}
        fit(vae, images(), transform=Compose((Shift(2), Flip("both"))), out=folder, resume=resume, **changes)
        return weights(vae)

    with monkeypatch.context() as patch:
        before_each_step(patch, interrupt_at(4))
        with signals_kept():
            run(tmp_path / "stopped")
    assert equal(run(tmp_path / "stopped", resume=True), run(tmp_path / "complete"))
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)])
def test_sample_quality_is_told_by_a_net_here_of_a_model_there(shape: tuple[int, ...]) -> None:
    width = torch.Size(shape).numel()
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(tb.networks.MLP(shape, (4,))),
        tb.likelihoods.Gaussian(tb.networks.MLP((2,), shape)),
    ).to(CUDA)
    state = torch.cuda.get_rng_state()
    train, test = torch.randn(200, *shape), torch.randn(60, *shape)
    found = tb.evaluate.fidelity(model, train, test)
    assert torch.equal(state, torch.cuda.get_rng_state())
    assert found.samples.shape == (60, 64 if len(shape) == 3 else width)
    assert found.samples.device.type == found.worst.device.type == "cpu"
    assert found.to_json() == tb.evaluate.fidelity(model, train, test).to_json()
