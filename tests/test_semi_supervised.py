"""A latent class and numbers that depend on it, against sums written out; and what few labels teach."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from compiled import assert_compiled_is_plain, compiles
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

import tightbound as tb
from tightbound import bounds
from tightbound.data import Observations, few_labels
from tightbound.distributions import ClassFirst, class_probabilities, every_code, parts_of
from tightbound.evaluate import classification
from tightbound.gradients import GumbelSoftmax, Pathwise, ScoreFunction
from tightbound.networks import MLP
from tightbound.objectives import ELBO, SemiSupervised
from tightbound.runs.build import build
from tightbound.runs.recipe import Recipe
from tightbound.settings import Training
from tightbound.told import Late
from tightbound.training import batches

C, L, D = 3, 2, 5
X = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(4, D)


def model_of(*, late: bool = False, scale: float = 0.7) -> tb.SemiSupervisedVAE:
    torch.manual_seed(2)
    network: nn.Module = MLP((D + C,), (2 * L,), hidden=(6,))
    if late:
        network = Late(MLP((D,), (6,), hidden=()), MLP((6 + C,), (2 * L,), hidden=()), (D,))
    model = tb.SemiSupervisedVAE(
        tb.priors.Joint([tb.priors.StandardNormal(L), tb.priors.Categorical(1, classes=C, learned=True)]),
        tb.posteriors.ClassFirst(
            tb.posteriors.Categorical(nn.Linear(D, C), classes=C), tb.posteriors.DiagonalNormal(network)
        ),
        tb.likelihoods.Gaussian(nn.Linear(L + C, D), scale=scale),
    ).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.7 * torch.randn_like(p))
    return model


def by_hand(model: tb.SemiSupervisedVAE, x: Tensor, z: Tensor, y: int) -> dict[str, Tensor]:
    """Each density at z of shape (K, B, L) in class y, written with torch's own distributions."""
    posterior: Any = model.posterior
    told = torch.eye(C, dtype=x.dtype)[y]
    log_qy = posterior.classifier.network(x).log_softmax(-1)[:, y]
    mean, log_variance = posterior.given.network(torch.cat([x, told.expand(len(x), C)], 1)).chunk(2, -1)
    log_py = Categorical(logits=model.prior.parts[1]().logits[0]).log_prob(torch.tensor(y))  # type: ignore[index,operator]
    decoded = model.likelihood.network(torch.cat([z, told.expand(*z.shape[:-1], C)], -1))
    return {
        "log_qy": log_qy,
        "log_qz": Normal(mean, (0.5 * log_variance).exp()).log_prob(z).sum(-1),
        "log_p": Normal(0, 1).log_prob(z).sum(-1) + log_py,
        "log_px": Normal(decoded, 0.7).log_prob(x).sum(-1),
        "kl": 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1) - log_py,
    }


@pytest.mark.parametrize("late", [False, True])
def test_the_three_densities_are_those_written_out(late: bool) -> None:
    model, batch = model_of(late=late), tb.Batch(X)
    z = torch.randn(6, 4, L, dtype=torch.float64)
    for y in range(C):
        code = torch.eye(C, dtype=torch.float64)[y].expand(6, 4, C)
        latent = torch.cat([z, code], -1)
        wanted = by_hand(model, X, z, y)
        log_px, log_pz = model.log_joint(batch, latent)
        torch.testing.assert_close(log_px, wanted["log_px"])
        torch.testing.assert_close(log_pz, wanted["log_p"])
        torch.testing.assert_close(model.log_posterior(batch, latent), wanted["log_qy"] + wanted["log_qz"])


def test_draws_have_the_densities_that_they_come_with_and_the_shares_of_the_classes() -> None:
    model, batch = model_of(), tb.Batch(X)
    z, log_q = model.propose(batch, 20_000)
    torch.testing.assert_close(model.log_posterior(batch, z), log_q)
    share = model.class_probabilities(batch)
    assert share is not None
    error = (share[:, 0] * (1 - share[:, 0]) / 20_000).sqrt()
    assert ((z[..., L:].mean(0) - share[:, 0]).abs() < 5 * error).all()
    mean = model.posterior_mean(batch)
    assert mean is not None
    assert ((z.mean(0) - mean).abs() < 5 * z.std(0) / math.sqrt(20_000)).all()


def test_the_rate_is_the_sum_over_classes() -> None:
    model, batch = model_of(), tb.Batch(X)
    rate = model.rate(batch)
    assert rate is not None
    parts = [by_hand(model, X, torch.zeros(1, 4, L, dtype=torch.float64), y) for y in range(C)]
    wanted = sum(part["log_qy"].exp() * (part["kl"] + part["log_qy"]) for part in parts)
    torch.testing.assert_close(rate, wanted)
    draws = model.draw(batch, samples=40_000)
    sampled = draws.log_qz_x - draws.log_pz
    assert ((sampled.mean(0) - rate).abs() < 5 * sampled.std(0) / 200).all()


def test_what_it_is_made_of() -> None:
    q = model_of().encode(X)
    assert isinstance(q, ClassFirst)
    assert [(part.length, part.variables, part.discrete) for part in parts_of(q)] == [(2, 2, False), (3, 1, True)]
    assert class_probabilities(q).shape == (4, 1, C)  # type: ignore[union-attr]
    inside = q.support.check(q.sample(torch.Size([9])))
    assert bool(inside.all())
    assert not bool(q.support.check(torch.full((4, L + C), 0.5, dtype=torch.float64)).any())
    with pytest.raises(TypeError, match=r"Expected codes that can be listed, .* a latent of ClassFirst"):
        every_code(q)


def objective_by_hand(model: tb.SemiSupervisedVAE, labels: Tensor, samples: int) -> Tensor:
    """Distortion and rate of the objective by sums over classes; z drawn again by the same noise."""
    torch.manual_seed(7)
    q: Any = model.encode(X)
    z = q.every.rsample(torch.Size([samples]))
    total = torch.zeros(4, dtype=torch.float64)
    for y in range(C):
        part = by_hand(model, X, z[:, :, y], y)
        lower = -part["log_px"].mean(0) + part["kl"]
        total += torch.where(labels == y, lower, 0)
        total += torch.where(labels < 0, part["log_qy"].exp() * (lower + part["log_qy"]), 0)
    return total.mean()


@pytest.mark.parametrize("labels", [(-1, -1, -1, -1), (0, 2, 1, 1), (-1, 2, -1, 0)])
def test_the_loss_is_the_sum_over_classes_where_the_label_is_not_known(labels: tuple[int, ...]) -> None:
    model, label = model_of(), torch.tensor(labels)
    torch.manual_seed(7)
    loss = SemiSupervised(alpha=3.0, samples=4)(model, tb.Batch(X, label=label))
    wanted = objective_by_hand(model, label, 4)
    torch.testing.assert_close(loss.terms["distortion"] + loss.terms["rate"], wanted)
    known = label >= 0
    log_qy = model.posterior.classifier.network(X).log_softmax(-1)  # type: ignore[operator,union-attr]
    told = -log_qy[known, label[known]].mean() if known.any() else torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close(loss.terms["classifier"], told)
    torch.testing.assert_close(loss.value, wanted + 3 * told)


def test_without_labels_it_is_the_negative_elbo() -> None:
    model, batch = model_of(), tb.Batch(X, label=torch.full((4,), -1))
    value = torch.stack([SemiSupervised(samples=50)(model, batch).value for _ in range(200)]).detach()
    elbo = bounds.elbo(model.draw(tb.Batch(X), samples=40_000))
    assert abs(value.mean() + elbo.mean()) < 5 * (value.std() / math.sqrt(200) + 0.01)


def test_its_gradient_is_that_of_the_score_function() -> None:
    model = model_of()
    batch = tb.Batch(X, label=torch.full((4,), -1))
    logits = model.posterior.classifier.network.weight  # type: ignore[operator,union-attr]
    exact = torch.stack(
        [torch.autograd.grad(SemiSupervised(samples=20)(model, batch).value, logits)[0] for _ in range(100)]
    )
    other = ELBO(samples=400, kl="sampled", gradient=ScoreFunction(baseline="leave-one-out"))
    drawn = torch.stack([torch.autograd.grad(other(model, batch).value, logits)[0] for _ in range(200)])
    error = (exact.var(0) / 100 + drawn.var(0) / 200).sqrt()
    assert ((exact.mean(0) - drawn.mean(0)).abs() < 5 * error).all()


def test_fit_keeps_the_labelled_observations_for_the_classifier() -> None:
    torch.manual_seed(0)
    y = torch.arange(300) % C
    x = torch.eye(D)[y] * 3 + 0.5 * torch.randn(300, D)
    some = few_labels(Observations(x, y), 6)
    model = model_of().float()
    settings = Training(epochs=200, batch_size=50, learning_rate=2e-2, validation=0)
    result = tb.fit(model, some, objective=SemiSupervised(1.0), settings=settings, progress=False)
    kept = result.objective
    assert isinstance(kept, SemiSupervised)
    assert len(kept.labels) == 6
    assert kept.labelled.equal(x[(some.label(torch.arange(300)) >= 0)])  # type: ignore[operator]
    assert classification(model, Observations(x, y)).error.value < 0.05
    drawn = torch.stack([model.sample(500, label=c, mean=True).mean(0) for c in range(C)])
    assert (drawn.argmax(1) == torch.arange(C)).all()


def test_grey_labelled_images_are_binarised_anew_each_time() -> None:
    some = Observations(torch.full((8, D), 0.5), torch.arange(8) % C, binarise=True)
    model = tb.SemiSupervisedVAE(
        tb.priors.Joint([tb.priors.StandardNormal(L), tb.priors.Categorical(1, classes=C)]),
        tb.posteriors.ClassFirst(
            tb.posteriors.Categorical(nn.Linear(D, C), classes=C), tb.posteriors.DiagonalNormal(nn.Linear(D + C, 2 * L))
        ),
        tb.likelihoods.Bernoulli(nn.Linear(L + C, D)),
    )
    batch = some.eval_batch()
    fitted = SemiSupervised(labelled_batch=5000).fitted_to(model, batch, some)
    assert fitted.labelled.unique().tolist() == [0.5]
    seen: list[Tensor] = []
    model.posterior.classifier.register_forward_hook(lambda _module, given, _out: seen.append(given[0]))  # type: ignore[operator,union-attr]
    fitted(model, batch)
    assert seen[-1].unique().tolist() == [0, 1]
    assert abs(seen[-1].mean() - 0.5) < 5 * 0.5 / math.sqrt(5000 * D)


@compiles
def test_a_compiled_step_is_the_plain_one() -> None:
    model = model_of(late=True).float()
    batch = tb.Batch(X.float(), label=torch.tensor([-1, 2, -1, 0]), checked=True)
    objective = SemiSupervised(2.0).fitted_to(model, batch, Observations(X.float(), batch.label))
    assert_compiled_is_plain(model, objective, batch)


def test_the_model_of_one_class_is_its_conditional() -> None:
    model = model_of(late=True)
    conditional = model.conditional
    label = torch.tensor([0, 1, 2, 2])
    z = torch.randn(5, 4, L, dtype=torch.float64)
    code = torch.eye(C, dtype=torch.float64)[label].expand(5, 4, C)
    ours = model.log_joint(tb.Batch(X), torch.cat([z, code], -1))[0]
    theirs = conditional.log_joint(tb.Batch(X, label=label), z)[0]
    torch.testing.assert_close(ours, theirs)
    q = model.log_posterior(tb.Batch(X), torch.cat([z, code], -1))
    p = model.classify(X)[torch.arange(4), label].log()
    torch.testing.assert_close(q, conditional.log_posterior(tb.Batch(X, label=label), z) + p)
    torch.manual_seed(1)
    one = model.sample(3, label=2)
    torch.manual_seed(1)
    torch.testing.assert_close(conditional.sample(3, label=2), one)
    assert model.sample(3).shape == (3, D)


def test_where_the_class_is_not_known_it_is_the_likeliest() -> None:
    model = model_of()
    whole = Observations(X, torch.tensor([-1, 2, -1, 0]))
    part = whole.subset(torch.tensor([3, 2, 1]))
    likeliest = model.classify(X).argmax(1)
    assert model.labelled(part).label(torch.arange(3)).tolist() == [0, int(likeliest[2]), 2]
    assert model.labelled(Observations(X)).label(torch.arange(4)).equal(likeliest)


def test_saved_and_read_back(tmp_path: Path) -> None:
    model = model_of(late=True).eval()
    model.save(tmp_path / "model")
    again = tb.load_model(tmp_path / "model")
    assert isinstance(again, tb.SemiSupervisedVAE)
    torch.testing.assert_close(again.classify(X), model.classify(X), rtol=0, atol=0)


def test_classification_counts_what_is_taken_for_what() -> None:
    class Given(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :C].log()

    model = model_of()
    model.posterior.classifier.network = Given()  # type: ignore[union-attr]
    p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25]])
    x = torch.cat([p, torch.ones(5, 2)], 1).double()
    found = classification(model, Observations(x, torch.tensor([0, 1, 1, 2, -1]), label_names=("a", "b", "c")))
    assert found.observations == 4
    assert found.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert found.error.value == 0.25
    assert found.error.se == pytest.approx(math.sqrt(0.25 * 0.75 / 3))  # of a share, by n − 1
    assert found.expected_error.value == pytest.approx((0.3 + 0.4 + 0.2 + 0.5) / 4)
    assert "25.00 % of the observations are taken for another class." in found.verdict
    assert "50 % of class b are taken for a" in found.verdict
    assert "too sure" not in found.verdict
    assert found.to_json()["confusion"] == found.confusion.tolist()
    assert "error in %" in str(found)


def test_probabilities_that_are_too_sure_are_told() -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 9 * x[:, :C]

    model = model_of()
    model.posterior.classifier.network = Sure()  # type: ignore[union-attr]
    y = torch.arange(300) % C
    x = torch.cat([torch.eye(C)[y.roll(3 * 1)], torch.zeros(300, 2)], 1).double()
    x[:60] = x[:60].roll(1, 1)  # wrong, and just as sure
    found = classification(model, Observations(x, y))
    assert "The probabilities are too sure of themselves: they would have expected" in found.verdict


def test_few_labels_keeps_equally_many_of_each_class() -> None:
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    whole = Observations(torch.arange(100.0)[:, None], y)
    part = whole.subset(torch.arange(99, -1, -1))
    kept = few_labels(part, 9, seed=4)
    labels = kept.label(torch.arange(100))
    assert labels is not None
    assert labels[labels >= 0].bincount().tolist() == [3, 3, 3]
    same = part.label(torch.arange(100))
    assert same is not None
    assert labels[labels >= 0].equal(same[labels >= 0])
    again = few_labels(part, 9, seed=4).label(torch.arange(100))
    other = few_labels(part, 9, seed=5).label(torch.arange(100))
    assert again is not None
    assert other is not None
    assert labels.equal(again)
    assert not labels.equal(other)


def test_the_labelled_are_no_more_often_held_out_for_validation_than_others() -> None:
    held = 0
    for seed in range(20):
        some = few_labels(Observations(torch.zeros(300, 1), torch.arange(300) % C), 60, seed=seed)
        _, out = batches.split(some, 0.1, seed)
        assert out is not None
        labels = out.label(torch.arange(len(out)))
        assert labels is not None
        held += int((labels >= 0).sum())
    assert abs(held - 20 * 6) < 5 * math.sqrt(20 * 6)


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: few_labels(Observations(X), 3), ValueError, "Expected observations with labels; got none in data."),
    (lambda: few_labels(Observations(X, torch.tensor([0, 1, 0, 1])), 3), ValueError,
     "Expected a number of labels that is a multiple of 2, the classes of data; got 3."),
    (lambda: few_labels(Observations(X, torch.tensor([0, 1, 0, 1])), 0), ValueError, "a multiple of 2"),
    (lambda: few_labels(Observations(X, torch.tensor([0, 1, 0, 0])), 4), ValueError,
     "Expected at most 1 labels of a class, as data has; got 2."),
    (lambda: tb.SemiSupervisedVAE(tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(nn.Linear(D, 4)),
                                  tb.likelihoods.Gaussian(nn.Linear(2, D))), TypeError,
     "Expected tb.posteriors.ClassFirst as posterior; got DiagonalNormal."),
    (lambda: tb.SemiSupervisedVAE(tb.priors.StandardNormal(5), model_of().posterior,
                                  tb.likelihoods.Gaussian(nn.Linear(5, D))), TypeError,
     "Expected tb.priors.Joint of two priors, that of z and a Categorical; got StandardNormal."),
    (lambda: tb.posteriors.ClassFirst(tb.posteriors.DiagonalNormal(nn.Linear(D, 4)),  # type: ignore[arg-type]
                                      tb.posteriors.DiagonalNormal(nn.Linear(D, 4))), TypeError,
     "Expected a Categorical posterior as classifier"),
    (lambda: tb.posteriors.ClassFirst(tb.posteriors.Categorical(nn.Linear(D, 6), classes=3),
                                      tb.posteriors.DiagonalNormal(nn.Linear(D + 3, 4)))(X.float()), ValueError,
     "Expected a classifier of one variable of 3 classes; got 6 outputs of its network."),
    (lambda: SemiSupervised(-1.0), ValueError, "Expected alpha >= 0; got -1.0"),
    (lambda: SemiSupervised(samples=0), ValueError, "Expected samples >= 1; got 0"),
    (lambda: SemiSupervised(labelled_batch=0), ValueError, "Expected labelled_batch >= 1; got 0"),
    (lambda: SemiSupervised()(model_of(), tb.Batch(X)), ValueError,
     "Expected labels, -1 where one is not known; got none."),
    (lambda: SemiSupervised()(model_of().conditional, tb.Batch(X, label=torch.tensor([0, 1, 2, 0]))), TypeError,
     "Expected a model of a class and numbers that depend on it, for SemiSupervised; got ConditionalVAE"),
    (lambda: tb.fit(model_of(), Observations(X), objective=SemiSupervised(), progress=False), ValueError,
     "Expected some labelled observations in the training set, for SemiSupervised; got none."),
    (lambda: ELBO(gradient=Pathwise())(model_of(), tb.Batch(X)), TypeError, "a latent that is discrete in part"),
    (lambda: ELBO(gradient=GumbelSoftmax())(model_of(), tb.Batch(X)), TypeError, "ClassFirst"),
    (lambda: classification(model_of().conditional, Observations(X)), TypeError,
     "Expected a model with a classifier, tb.SemiSupervisedVAE; got ConditionalVAE."),
    (lambda: classification(model_of(), Observations(X)), ValueError,
     "Expected observations with labels, to compare with; got none in data."),
    (lambda: classification(model_of(), Observations(X, torch.tensor([0, 1, 2, 3]))), ValueError,
     "Expected labels from 0 to 2, this model's classes; got 3 in data."),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "error", "message"), REFUSED)
def test_what_is_refused(ask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ask()


SEMI = {"model.posterior": "class-first", "objective.name": "semi-supervised", "data.labels": 6}


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_recipes_build_it(network: str) -> None:
    recipe = Recipe().updated({**SEMI, "model.network": network, "model.hidden": [9, 7], "model.channels": 4})
    built = build(recipe, Observations(torch.randn(60, 1, 8, 8), torch.arange(60) % 3))
    assert isinstance(built.model, tb.SemiSupervisedVAE)
    assert built.model.classes == 3
    labels = built.data.train.label(torch.arange(len(built.data.train)))
    assert labels is not None
    assert int((labels >= 0).sum()) == 6
    loss = built.objective(built.model, built.data.train.eval_batch())
    assert math.isfinite(loss.value.item())
    assert built.model.classify(built.data.test).shape == (6, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.posterior": "class-first"},
            "Expected the objective 'semi-supervised' with model.posterior 'class-fi",
        ),
        ({"objective.name": "semi-supervised"}, "with it alone; got 'semi-supervised' and 'diagonal-normal'."),
        ({**SEMI, "model.condition": "label"}, "Expected model.condition 'none' with model.posterior 'class-first'"),
        ({**SEMI, "model.prior": "standard-normal"}, "Expected model.prior 'auto', or 'class-and-normal'"),
    ],
)
def test_recipes_refuse_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe().updated(changes)


def test_recipes_need_labels() -> None:
    with pytest.raises(ValueError, match=re.escape("Expected labels from 0 for model.posterior 'class-first'; got")):
        build(Recipe().updated({name: SEMI[name] for name in SEMI if name != "data.labels"}), torch.randn(40, 3))
