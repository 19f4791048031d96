"""The law: a model that overrides the contract is the model that is trained and the model that is judged.

The model has two layers, all of them linear and Gaussian, so that its evidence is known exactly. It is a ``VAE`` whose
parts describe another model: whoever passes by the contract gets that other model's numbers.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from abc import ABC
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

import tightbound as tb
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.checks import check_model
from tightbound.draws import Draws
from tightbound.evaluate import evidence
from tightbound.evaluate.accelerate import Accelerated
from tightbound.evaluate.noise import proposed, seeds_of
from tightbound.execution import Execution, obstacle
from tightbound.gradients import (
    VIMCO,
    DoublyReparameterised,
    Gradient,
    Pathwise,
    ScoreFunction,
    StickingTheLanding,
)
from tightbound.model import Model, with_log_joint
from tightbound.objectives import ELBO, IWAE, Bound, Capacity, FreeBits, Objective
from tightbound.settings import Training
from tightbound.training import fit
from tightbound.training.step import TrainStep

UP, DOWN, NOISE, LOW = 0.8, torch.tensor([[1.0], [-0.5], [2.0]]), 0.6, 0.5  # z2 -> z1 -> x
SAMPLES = 4


class TwoLayers(VAE):
    """z = (z2, z1): z2 ~ N(0, 1), z1 ~ N(UP · z2, LOW²), x ~ N(DOWN · z1, NOISE²). Its VAE parts say something else."""

    def __init__(self) -> None:
        decoy = tb.likelihoods.Gaussian(nn.Linear(2, 3), scale=30.0)
        super().__init__(tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(nn.Linear(3, 4)), decoy)
        self.guess = nn.Linear(3, 4)
        self.down = nn.Parameter(DOWN.clone())
        with torch.no_grad():
            self.guess.weight.mul_(0.3)

    def q(self, batch: Batch) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.guess(batch.x).chunk(2, -1)
        return mean, log_scale.exp()

    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        mean, scale = self.q(batch)
        z = mean + scale * torch.randn(samples, *mean.shape, dtype=mean.dtype)
        return z, self.log_posterior(batch, z)

    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        mean, scale = self.q(batch)
        if frozen:
            mean, scale = mean.detach(), scale.detach()
        return Normal(mean, scale, validate_args=False).log_prob(z).sum(-1)

    def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        upper, lower = z[..., :1], z[..., 1:]
        one = torch.ones((), dtype=z.dtype)
        log_pz = Normal(0 * one, one, validate_args=False).log_prob(upper)
        log_pz = log_pz + Normal(UP * upper, LOW * one, validate_args=False).log_prob(lower)
        p = Normal(lower @ self.down.mT, NOISE * one, validate_args=False)
        return p.log_prob(batch.x).sum(-1), log_pz.sum(-1)


def truth() -> MultivariateNormal:
    down = DOWN.double()
    spread = (UP**2 + LOW**2) * down @ down.T + NOISE**2 * torch.eye(3, dtype=torch.float64)
    return MultivariateNormal(torch.zeros(3, dtype=torch.float64), spread)


def model() -> TwoLayers:
    torch.manual_seed(0)
    return TwoLayers().double()


def observations(count: int = 5) -> Tensor:
    torch.manual_seed(1)
    return truth().sample((count,))


BOUNDS = {"elbo": tb.bounds.elbo, "iwae": tb.bounds.iwae, "renyi": tb.bounds.renyi(0.5), "miwae": tb.bounds.miwae(2)}
GRADIENTS = [
    Pathwise(), StickingTheLanding(), DoublyReparameterised(), ScoreFunction(), ScoreFunction("batch"), VIMCO(),
]  # fmt: skip
OBJECTIVES: list[Objective] = [
    *(ELBO(samples=SAMPLES, gradient=gradient) for gradient in GRADIENTS),
    *(IWAE(SAMPLES, gradient=gradient) for gradient in GRADIENTS),
    *(Bound(bound, SAMPLES) for bound in BOUNDS.values()),
    Capacity(0.0, gamma=1.0, samples=SAMPLES),
]
NAMES = [f"{number}-{type(objective).__name__}" for number, objective in enumerate(OBJECTIVES)]
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)


def expected(objective: Objective, vae: TwoLayers, x: Tensor) -> tuple[float, float]:
    """Loss and distortion, straight from the contract."""
    torch.manual_seed(2)
    draws = vae.draw(x, samples=SAMPLES)
    bound = getattr(objective, "bound", tb.bounds.iwae if isinstance(objective, IWAE) else tb.bounds.elbo)
    value = bound(draws)
    if isinstance(objective, Capacity):
        value = draws.log_px_z.mean(0) - (draws.log_qz_x - draws.log_pz).mean().abs()
    return -value.mean().item(), -draws.log_px_z.mean().item()


@every_objective
def test_objectives_train_it(objective: Objective) -> None:
    vae, x = model(), observations()
    value, distortion = expected(objective, vae, x)
    torch.manual_seed(2)
    loss = objective(vae, Batch(x))
    assert loss.value.item() == pytest.approx(value, rel=1e-10)
    assert loss.terms["distortion"].item() == pytest.approx(distortion, rel=1e-10)
    loss.value.backward()
    assert (vae.down.grad != 0).all()  # type: ignore[operator]
    assert all(p.grad is None for part in (vae.prior, vae.posterior, vae.likelihood) for p in part.parameters())


def gradient_of(objective: Objective, rows: int, *, compiled: bool = False) -> dict[str, Tensor]:
    vae = model()
    step = TrainStep(vae, objective, Training(micro_batch=rows), steps=10, device=torch.device("cpu"))
    if compiled:
        step.use(Execution(compiled=True))
    torch.manual_seed(3)
    values = step.gradient(Batch(observations(), checked=True), 0)
    return {"values": values, **dict(zip(step.parameters, step.gradients, strict=True))}


@every_objective
def test_micro_batches_train_it(objective: Objective) -> None:
    whole, parts = gradient_of(objective, 0), gradient_of(objective, 3)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    assert (whole["down"] != 0).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize("rows", [0, 5])
def test_a_compiled_step_trains_it(rows: int) -> None:
    objective = IWAE(SAMPLES, gradient=StickingTheLanding())
    found = gradient_of(objective, rows, compiled=True)
    torch.testing.assert_close(found, gradient_of(objective, rows), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
def test_a_compiled_evaluation_judges_it() -> None:
    vae, batch = model(), Batch(observations(), checked=True)
    fast = with_log_joint(vae, Accelerated(vae, torch.float32, compile=True))
    found = []
    for each in (vae, fast):
        torch.manual_seed(0)
        found.append(each.score(batch, samples=20, rows=50).log_w)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_evaluation_judges_it() -> None:
    vae, x = model(), observations(20)
    report = evidence(vae, x, samples=200, proposal="posterior")
    batch = Batch(x)
    z, log_q = proposed(vae, batch, seeds_of(batch, 0), 200)
    draws = Draws(z, *vae.log_joint(batch, z), log_q)
    assert report.rate_kind == "sampled"
    torch.testing.assert_close(report.per_observation["log_px"], tb.bounds.iwae(draws), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(report.per_observation["elbo"], tb.bounds.elbo(draws), rtol=1e-10, atol=1e-10)


def test_refined_proposals_judge_it() -> None:
    """They move latents along the slope of the model's own log_joint; those of the decoy would miss by far."""
    vae, x = model(), observations(20)
    report = evidence(vae, x, samples=10, error=0.02)
    assert report.proposal == "refined"
    off = report.per_observation["log_px"] - truth().log_prob(x)
    assert (off.abs() < 5 * report.per_observation["error"] + 1e-9).all()
    assert report.per_observation["error"].max() < 0.04


def test_training_reaches_its_evidence() -> None:
    """The decoy alone could not: its noise is fifty times the data's."""
    vae, x = model(), observations(2000)
    fit(vae, x, objective=IWAE(10), epochs=20, batch_size=100, learning_rate=0.02, progress=False)
    found = evidence(vae, x, samples=200)
    off = found.per_observation["log_px"] - truth().log_prob(x)
    assert off.mean().abs() < 0.1
    assert vae.log_prob(x[:9], samples=2000).sub(truth().log_prob(x[:9])).abs().max() < 0.5


def test_a_closed_form_of_the_parents_would_be_another_models() -> None:
    vae, batch = model(), Batch(observations())
    assert vae.rate(batch) is None
    assert vae.rate_per_dimension(batch) is None
    assert vae.posterior_mean(batch) is None
    assert vae.encoded(batch).q is None
    with pytest.raises(TypeError, match=r"Expected a model whose rate has a closed form; got TwoLayers"):
        ELBO(kl="closed-form")(vae, batch)
    with pytest.raises(TypeError, match="as FreeBits needs; got TwoLayers"):
        FreeBits()(vae, batch)


def test_a_closed_form_of_its_own_stays() -> None:
    class Own(TwoLayers):
        def rate(self, batch: Batch) -> Tensor:
            return torch.full((batch.size,), 7.0, dtype=batch.x.dtype)

    assert ELBO(kl="closed-form")(Own().double(), Batch(observations())).terms["rate"] == 7


def test_what_a_class_states_beside_the_contract_is_kept() -> None:
    """A closed form in the class that overrides the contract is that of this class, and its subclasses inherit it."""

    class Stated(VAE):
        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            return super().propose(batch, samples)

        def rate(self, batch: Batch) -> Tensor:
            return torch.full((batch.size,), 7.0)

    class Named(Stated):
        pass

    class Other(Stated):
        def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
            return super().log_posterior(batch, z, frozen=frozen)

    assert Stated.rate is Named.rate is not Model.rate
    assert Other.rate is Model.rate
    assert Stated.rate_per_dimension is Model.rate_per_dimension


@pytest.mark.parametrize("base", [VAE, Model])
@pytest.mark.parametrize("name", ["draw", "score", "log_prob"])
def test_what_is_made_of_the_contract_cannot_be_overridden(name: str, base: type[Model]) -> None:
    with pytest.raises(
        TypeError, match=rf"Expected a subclass that overrides the contract .*; got {name} overridden by"
    ):
        type("Wrong", (base,), {name: lambda self: None})


def test_a_proposal_and_its_density_must_agree() -> None:
    class Half(TwoLayers):
        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            z, log_q = super().propose(batch, samples)
            return 2 * z, log_q

    with pytest.raises(ValueError, match=r"Expected log_posterior to give the log q\(z\|x\) that propose gives; got"):
        check_model(Half().double(), Batch(observations()), name="data")
    check_model(model(), Batch(observations()), name="data")


def test_classes_are_abstract_or_final() -> None:
    """No class of the package inherits from another that can be made itself; but a model of a VAE's parts is a VAE."""
    root = Path(tb.__file__).parent
    for file in sorted(root.rglob("*.py")):
        if file.name == "__main__.py":
            continue
        module = importlib.import_module(".".join(["tightbound", *file.relative_to(root).with_suffix("").parts]))
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for name in (node.name for node in body if isinstance(node, ast.ClassDef)):
            for base in getattr(module, name).__bases__:
                own = base.__module__.startswith("tightbound") and not getattr(base, "_is_protocol", False)
                abstract = inspect.isabstract(base) or ABC in base.__bases__ or base.__name__.startswith("_")
                assert not own or abstract or base is tb.VAE, f"{name} inherits from concrete {base.__name__}"


def test_gradients_are_one_signature() -> None:
    expected_signature = inspect.signature(Gradient.__call__)
    assert all(inspect.signature(type(gradient).__call__) == expected_signature for gradient in GRADIENTS)
    assert Model.__abstractmethods__ == {"propose", "log_joint", "log_posterior"}
