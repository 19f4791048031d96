"""The fast model: the same numbers, to what 16 bits allow, and nothing where it would not pay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tightbound as tb
from tightbound.conditional import unvalidated
from tightbound.evaluate import fast
from tightbound.evaluate.accelerate import Fast, difference
from tightbound.networks import MLP
from tightbound.runtime import multiplies_bfloat16, obstacle


def model() -> tb.VAE:
    return tb.VAE(
        prior=tb.priors.StandardNormal(4),
        posterior=tb.posteriors.DiagonalNormal(MLP((30,), (8,), hidden=(20,))),
        likelihood=tb.likelihoods.Bernoulli(MLP((4,), (30,), hidden=(20,))),
    ).eval()


def data(count: int = 16) -> Tensor:
    return torch.bernoulli(torch.full((count, 30), 0.3))


def test_in_single_precision_it_is_the_likelihood_itself() -> None:
    vae, x, z = model(), data(), torch.randn(5, 16, 4)
    q = vae.encode(x)
    draws, expected = Fast(vae, torch.float32, compile=False).weigh(x, z, q), vae.weigh(x, z, q)
    for name in ("log_px_z", "log_pz", "log_qz_x"):
        assert getattr(draws, name).equal(getattr(expected, name))


def test_sixteen_bits_round_and_no_more() -> None:
    """Rounding to 8 bits of mantissa moves a log-density of about 30 nats by some thousandths, not at random."""
    vae, x, z = model(), data(), torch.randn(5, 16, 4)
    draws = Fast(vae, torch.bfloat16, compile=False).weigh(x, z, vae.encode(x))
    rough = draws.log_px_z
    assert draws.log_pz.equal(vae.prior.log_prob(z))  # in single precision, as all but the decoder
    exact = vae.likelihood.log_prob(x, z)
    assert rough.dtype == torch.float32
    assert not rough.equal(exact)
    torch.testing.assert_close(rough, exact, rtol=2**-8, atol=0)


def test_the_difference_is_what_the_check_measures() -> None:
    vae, x = model(), data()
    torch.manual_seed(0)
    measured = difference(vae, x)
    assert 0 < measured < fast.SAME
    with torch.no_grad():
        vae.likelihood.network.last.weight.mul_(300.0)  # logits in the hundreds: rounding then costs whole nats
    assert difference(vae, x) > fast.SAME


def test_a_rough_model_stays_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "COST", 0.0)
    monkeypatch.setattr(fast, "obstacle", lambda: "none here")
    monkeypatch.setattr(fast, "multiplies_bfloat16", lambda device: True)
    vae = model()
    assert accelerate(vae, data(), rows=1000, precision="auto")[1] == "bfloat16"
    with torch.no_grad():
        vae.likelihood.network.last.weight.mul_(300.0)
    assert accelerate(vae, data(), rows=1000, precision="auto")[1] == "float32"


def test_what_would_not_pay_is_left_alone() -> None:
    vae = model()
    assert accelerate(vae, data(), rows=1000, precision="auto") == (vae, "float32")


def test_a_model_with_its_own_draws_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(tb.VAE):
        pass

    monkeypatch.setattr(fast, "COST", 0.0)
    vae = model()
    own = Own(vae.prior, vae.posterior, vae.likelihood)
    assert accelerate(own, data(), rows=10**9, precision="bfloat16") == (own, "float32")


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
    with pytest.raises(ValueError, match=r"within the support of the Bernoulli likelihood; got the value 0\.3"):
        tb.evaluate.evidence(model(), torch.full((4, 30), 0.3), samples=5, precision="bfloat16")


def test_its_parameters_are_the_models() -> None:
    vae = model()
    own, theirs = Fast(vae, torch.float32, compile=False).parameters(), vae.parameters()
    assert all(one is other for one, other in zip(own, theirs, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize("prior", ["standard-normal", "mixture", "vamp"])
def test_compiled_it_weighs_the_same(prior: str) -> None:
    vae, x = model(), data()
    if prior == "mixture":
        vae.prior = tb.priors.MixtureOfNormals(4, components=3)
    if prior == "vamp":
        vae.prior = tb.priors.VampPrior(vae.posterior, data(3))
    with torch.no_grad(), unvalidated():
        q = vae.encode(x)
        z = q.sample(torch.Size([5]))
        quick = Fast(vae, torch.float32, compile=True)
        draws, expected = quick.weigh(x, z, q), vae.weigh(x, z, q)
    assert quick._compiled is not None
    torch.testing.assert_close(draws.log_w, expected.log_w, rtol=1e-5, atol=1e-5)


class Awkward(torch.nn.Module):
    """A network that nothing can compile once and for all."""

    def __init__(self, inner: torch.nn.Module, *, counts: bool) -> None:
        super().__init__()
        self.inner, self.counts, self.calls = inner, counts, 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(z) * (1 + 1e-9 * self.calls if self.counts else float(z.isfinite().all()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize("counts", [True, False])
def test_a_model_that_cannot_be_compiled_is_evaluated_plainly(monkeypatch: pytest.MonkeyPatch, counts: bool) -> None:
    vae, x = model(), data()
    settings = {"samples": 64, "budget": 128, "precision": "float32"}
    expected = tb.evaluate.evidence(vae, x, **settings)
    monkeypatch.setattr(fast, "COST", 0.0)
    vae.likelihood.network = Awkward(vae.likelihood.network, counts=counts)
    found = tb.evaluate.evidence(vae, x, **settings)
    assert found.nll.value == pytest.approx(expected.nll.value, rel=1e-5)
