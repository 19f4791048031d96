"""The fast model: the same numbers, to what 16 bits allow, and nothing where it would not pay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tightbound as tb
import tightbound.evaluate.accelerate as fast
from tightbound.batch import Batch
from tightbound.evaluate.accelerate import SAME, Accelerated, accelerate, difference, rounding_moves
from tightbound.execution import multiplies_bfloat16, obstacle
from tightbound.networks import MLP

SETTINGS = {"samples": 64, "budget": 128, "precision": "float32"}
compiles = pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
of_the_compiler = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def model() -> tb.VAE:
    return tb.VAE(
        prior=tb.priors.StandardNormal(4),
        posterior=tb.posteriors.DiagonalNormal(MLP((30,), (8,), hidden=(20,))),
        likelihood=tb.likelihoods.Bernoulli(MLP((4,), (30,), hidden=(20,))),
    ).eval()


def data(count: int = 16) -> Tensor:
    return torch.bernoulli(torch.full((count, 30), 0.3))


def binary(count: int = 16) -> Batch:
    return Batch(data(count), checked=True)


def test_in_single_precision_it_is_the_model_itself() -> None:
    vae, batch, z = model(), binary(), torch.randn(5, 16, 4)
    found = Accelerated(vae, torch.float32, compile=False)(batch, z)
    for ours, theirs in zip(found, vae.log_joint(batch, z), strict=True):
        assert ours.equal(theirs)


def test_sixteen_bits_round_and_no_more() -> None:
    """Rounding to 8 bits of mantissa moves a log-density of about 30 nats by some thousandths, not at random."""
    vae, batch, z = model(), binary(), torch.randn(5, 16, 4)
    rough, log_pz = Accelerated(vae, torch.bfloat16, compile=False)(batch, z)
    assert log_pz.equal(vae.prior.log_prob(z))  # in single precision, as all but the decoder
    exact = vae.likelihood.log_prob(batch.x, z)
    assert rough.dtype == torch.float32
    assert not rough.equal(exact)
    torch.testing.assert_close(rough, exact, rtol=2**-8, atol=0)


def test_the_difference_is_what_the_check_measures() -> None:
    vae, batch = model(), binary()
    torch.manual_seed(0)
    measured = difference(vae, batch)
    assert 0 < measured < SAME
    with torch.no_grad():
        vae.likelihood.network.last.weight.mul_(300.0)  # logits in the hundreds: rounding then costs whole nats
    assert difference(vae, batch) > SAME


def test_errors_of_two_observations_do_not_cancel() -> None:
    assert rounding_moves(torch.tensor([0.1, -0.1]).expand(256, 2)) == pytest.approx(0.1)


def test_an_error_moves_by_its_mean_and_half_its_variance() -> None:
    """log E[w exp ε] − log E[w] for normal ε that do not depend on w."""
    spread, shift = torch.tensor([0.5, 0.2, 0.3, 0.1]).double(), torch.tensor([0.3, -0.1, 0.0, 0.2]).double()
    error = shift + spread * torch.randn(100_000, 4, dtype=torch.float64)
    assert rounding_moves(error) == pytest.approx((shift.abs() + spread.square() / 2).mean().item(), rel=0.02)
    moved = error.logsumexp(0) - torch.tensor(100_000.0).double().log()
    torch.testing.assert_close(moved, shift + spread.square() / 2, rtol=0, atol=0.01)
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # mean 0 and variance 2 in one observation, nothing in the other
    assert rounding_moves(two) == pytest.approx(0.5)


def test_a_rough_model_stays_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "evaluation_pays", lambda *, numbers: True)
    monkeypatch.setattr(fast, "obstacle", lambda: "none here")
    monkeypatch.setattr(fast, "multiplies_bfloat16", lambda device: True)
    vae = model()
    assert accelerate(vae, binary(), rows=1000, precision="auto").dtype == torch.bfloat16
    with torch.no_grad():
        vae.likelihood.network.last.weight.mul_(300.0)
    assert accelerate(vae, binary(), rows=1000, precision="auto").dtype == torch.float32


def test_what_would_not_pay_is_left_alone() -> None:
    vae = model()
    made = accelerate(vae, binary(), rows=1000, precision="auto")
    assert (made.model, made.dtype, made.compile) == (vae, torch.float32, False)


def test_what_pays_is_counted_in_numbers_that_the_decoder_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(fast, "evaluation_pays", lambda *, numbers: bool(asked.append(numbers)))
    accelerate(model(), binary(), rows=1000, precision="auto")
    assert asked == [30_000]


def test_a_model_of_ones_own_log_joint_is_accelerated_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tempered(tb.VAE):
        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            log_px_z, log_pz = super().log_joint(batch, z)
            return 2 * log_px_z, log_pz

    vae, batch, z = model(), binary(), torch.randn(5, 16, 4)
    own = Tempered(vae.prior, vae.posterior, vae.likelihood)
    quick = accelerate(own, batch, rows=1, precision="bfloat16")
    assert quick.dtype == torch.bfloat16
    torch.testing.assert_close(quick(batch, z)[0], own.log_joint(batch, z)[0], rtol=2**-8, atol=0)
    assert own.log_joint(batch, z)[0].equal(2 * vae.log_joint(batch, z)[0])


def test_evidence_says_which_precision_it_used() -> None:
    vae, x = model(), data()
    strict = tb.evaluate.evidence(vae, x, samples=50, precision="float32")
    rough = tb.evaluate.evidence(vae, x, samples=50, precision="bfloat16")
    assert (strict.precision, rough.precision) == ("float32", "bfloat16")
    assert rough.nll.value == pytest.approx(strict.nll.value, abs=0.02)
    assert rough.nll.value != strict.nll.value


def test_bfloat16_is_a_matter_of_the_processor() -> None:
    assert multiplies_bfloat16(torch.device("meta")) is False
    assert isinstance(multiplies_bfloat16(torch.device("cpu")), bool)


def test_data_outside_the_support_are_told_of_the_models_own_likelihood() -> None:
    message = r"in the support of the Bernoulli likelihood; got the value 0\.3, neither 0 nor 1, first in observation 0"
    with pytest.raises(ValueError, match=message):
        tb.evaluate.evidence(model(), torch.full((4, 30), 0.3), samples=5, precision="bfloat16")


@pytest.mark.slow
@of_the_compiler
@compiles
@pytest.mark.parametrize("prior", ["standard-normal", "mixture", "vamp"])
def test_compiled_it_weighs_the_same(prior: str) -> None:
    vae, batch = model(), binary()
    if prior == "mixture":
        vae.prior = tb.priors.MixtureOfNormals(4, components=3)
    if prior == "vamp":
        vae.prior = tb.priors.VampPrior(vae.posterior, data(3))
    quick = Accelerated(vae, torch.float32, compile=True)
    with torch.no_grad():
        z = vae.propose(batch, 5)[0]
        found, expected = quick(batch, z), vae.log_joint(batch, z)
    assert quick._graph._compiled is not None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@of_the_compiler
@compiles
def test_a_compiled_evaluation_agrees_with_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, x = model(), data()
    plain = tb.evaluate.evidence(vae, x, **SETTINGS)
    made: list[Accelerated] = []

    class Kept(Accelerated):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(fast, "Accelerated", Kept)
    monkeypatch.setattr(fast, "evaluation_pays", lambda *, numbers: True)
    compiled = tb.evaluate.evidence(vae, x, **SETTINGS)
    (one,) = made
    assert one._graph._compiled is not None
    for name, values in plain.per_observation.items():
        torch.testing.assert_close(compiled.per_observation[name], values, rtol=1e-4, atol=1e-4)


class Awkward(torch.nn.Module):
    """A network that nothing can compile once and for all."""

    def __init__(self, inner: torch.nn.Module, *, counts: bool) -> None:
        super().__init__()
        self.inner, self.counts, self.calls = inner, counts, 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(z) * (1 + 1e-9 * self.calls if self.counts else float(z.isfinite().all()))


@of_the_compiler
@compiles
@pytest.mark.parametrize("counts", [True, False])
def test_a_model_that_cannot_be_compiled_is_evaluated_plainly(monkeypatch: pytest.MonkeyPatch, counts: bool) -> None:
    vae, x = model(), data()
    expected = tb.evaluate.evidence(vae, x, **SETTINGS)
    monkeypatch.setattr(fast, "evaluation_pays", lambda *, numbers: True)
    vae.likelihood.network = Awkward(vae.likelihood.network, counts=counts)
    found = tb.evaluate.evidence(vae, x, **SETTINGS)
    assert found.nll.value == pytest.approx(expected.nll.value, rel=1e-5)
