"""Figures of the latent code and of the bound, and every complaint that a figure can make."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor, nn

import tightbound as tb
from tightbound import plots
from tightbound.batch import Batch
from tightbound.networks import MLP
from tightbound.plots.style import BLUE, GREY, VERMILION

LIMITS = (-8.0, 8.0)


class Paint(nn.Module):
    """A picture whose row j is the latent's element j, or whose values are an observation's code: both ways linear."""

    def forward(self, z: Tensor) -> Tensor:
        return z[..., None, :, None].repeat_interleave(4, -2).expand(*z.shape[:-1], 1, 4 * z.shape[-1], 4)


class Read(nn.Module):
    """The code that :class:`Paint` painted, with a variance of one."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x[:, 0, ::4, 0]
        return torch.cat([mean, torch.zeros_like(mean)], -1)


def painter(latent: int, prior: nn.Module | None = None) -> tb.VAE:
    prior = prior or tb.priors.StandardNormal(latent)
    likelihood = tb.likelihoods.Gaussian(nn.Sequential(Paint(), nn.Dropout()), scale=1.0)
    return tb.VAE(prior, tb.posteriors.DiagonalNormal(Read()), likelihood)


def codes(figure: Figure) -> np.ndarray:
    """The latents that were painted, picture by picture."""
    pictures = np.stack([np.asarray(image.get_array()) for image in figure.axes[0].images])
    return pictures[:, ::4, 0, 0] * (LIMITS[1] - LIMITS[0]) + LIMITS[0]


def row_labels(figure: Figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_a_traversal_moves_one_element_a_row_in_the_order_of_their_nats() -> None:
    model, x0 = painter(3), Paint()(torch.tensor([1.0, -2.0, 3.0]))
    figure = plots.latent_traversal(model, x0, kl=torch.tensor([0.5, 0.004, 4.0]), span=2, steps=5, limits=LIMITS)
    expected = np.tile([1.0, -2.0, 3.0], (3, 5, 1))
    for row, j in enumerate((2, 0, 1)):
        expected[row, :, j] = [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(codes(figure), expected.reshape(-1, 3), atol=1e-5)
    assert row_labels(figure) == ["z₂  4.0 nats", "z₀  0.5 nats", "z₁  0.00 nats, dead"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["−2", "−1", "0", "1", "2"]


def test_the_middle_of_a_traversal_is_zero() -> None:
    """By the command line's own eleven steps, in which 32 bits miss it."""
    figure = plots.latent_traversal(painter(2), steps=11)
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert labels == ["−3", "−2.4", "−1.8", "−1.2", "−0.6", "0", "0.6", "1.2", "1.8", "2.4", "3"]


def test_only_dead_rows_are_greyed() -> None:
    kl = torch.tensor([0.5, 0.004, 4.0])
    for active, dead in ((None, {"z₁"}), (torch.tensor([False, True, True]), {"z₀"})):
        figure = plots.latent_traversal(painter(3), kl=kl, active=active, limits=LIMITS)
        axes = figure.axes[0]
        (veil,) = axes.patches
        covered = veil.get_y() + veil.get_height() / 2
        greyed = {
            tick.get_text()[:2]
            for tick, at in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
            if tick.get_color() == GREY and math.isclose(at, covered)
        }
        assert greyed == dead
    assert not plots.latent_traversal(painter(3), limits=LIMITS).axes[0].patches


def test_a_traversal_shows_the_elements_asked_for() -> None:
    kl = torch.arange(15.0)
    assert len(row_labels(plots.latent_traversal(painter(15), kl=kl))) == 12
    assert [label[:3] for label in row_labels(plots.latent_traversal(painter(15), kl=kl, dimensions=2))] == [
        "z₁₄",
        "z₁₃",
    ]
    chosen = plots.latent_traversal(painter(15), kl=kl, dimensions=[3, 9, 6])
    assert [label[:2] for label in row_labels(chosen)] == ["z₉", "z₆", "z₃"]
    assert row_labels(plots.latent_traversal(painter(3), dimensions=[2, 0])) == ["z₂", "z₀"]


def test_a_traversal_spans_the_prior_whatever_it_is() -> None:
    prior = tb.priors.MixtureOfNormals(2, components=1)
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([[1.0, -1.0]]))
        prior.log_scale.copy_(torch.tensor([[0.5, 2.0]]).log())
    figure = plots.latent_traversal(painter(2, prior), span=2, steps=3, limits=LIMITS)
    np.testing.assert_allclose(codes(figure), [[0, -1], [1, -1], [2, -1], [1, -5], [1, -1], [1, 3]], atol=1e-5)


def test_a_prior_without_formulas_is_drawn_from() -> None:
    class Shifted(tb.priors.Prior):
        def tempered(self, temperature: float) -> torch.distributions.Distribution:
            base = tb.priors.StandardNormal(2).tempered(temperature)
            shift = torch.distributions.AffineTransform(torch.tensor([3.0, 0.0]), 1.0, event_dim=1)
            return torch.distributions.TransformedDistribution(base, [shift])

    model = painter(2, Shifted())
    middle = codes(plots.latent_traversal(model, span=1, steps=3, limits=LIMITS))[1]
    np.testing.assert_allclose(middle, [3, 0], atol=4 / math.sqrt(10_000))
    assert plots.to_png(plots.manifold(model, 3), dpi=30) == plots.to_png(plots.manifold(model, 3), dpi=30)


def test_a_model_is_left_as_it_was_found() -> None:
    model = painter(2)
    model.posterior.eval()
    x, modes, before = torch.rand(1, 1, 8, 4), [m.training for m in model.modules()], torch.get_rng_state()
    plots.latent_traversal(model, x[0])
    plots.interpolation(model, x, x)
    plots.manifold(model, 3)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interpolation_goes_straight_from_one_original_to_the_other() -> None:
    ends = torch.tensor([[0.0, 1.0], [4.0, -3.0], [1.0, 1.0], [-1.0, 0.0]])
    x = Paint()(ends)
    figure = plots.interpolation(painter(2), x[:2], x[2:].numpy(), 3, limits=LIMITS)
    rows = [[a, a, (a + b) / 2, b, b] for a, b in zip(ends[:2].numpy(), ends[2:].numpy(), strict=True)]
    np.testing.assert_allclose(codes(figure), np.concatenate(rows), atol=1e-5)
    framed = sorted((round(p.get_x(), 3), round(p.get_y(), 3)) for p in figure.axes[0].patches)
    columns = sorted({x for x, _ in framed})
    assert len(framed) == 4
    assert len(columns) == 2
    assert columns[0] == 0


def test_a_manifold_runs_over_quantiles_rightwards_and_upwards() -> None:
    figure = plots.manifold(painter(2), 3, limits=LIMITS)
    q = torch.distributions.Normal(0, 1).icdf(torch.tensor(5 / 6)).item()
    expected = [[across, up] for up in (q, 0, -q) for across in (-q, 0, q)]
    np.testing.assert_allclose(codes(figure), expected, atol=1e-5)
    assert row_labels(figure) == ["1.0", "0.0", "−1.0"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["−1.0", "0.0", "1.0"]


def test_a_map_shows_every_code_in_its_labels_colour() -> None:
    z, labels = torch.randn(60, 2), torch.arange(60) % 3
    figure = plots.latent_map(z, labels, ("ant", "$bee$", "_cow"))
    (points,) = figure.axes[0].collections
    drawn = {
        tuple(np.round(p, 4)): to_hex(c) for p, c in zip(points.get_offsets(), points.get_facecolor(), strict=True)
    }
    assert drawn.keys() == {tuple(np.round(p, 4)) for p in z.double().numpy()}
    by_label = [{drawn[tuple(np.round(p, 4))] for p in z[labels == k].double().numpy()} for k in range(3)]
    (legend,) = figure.legends
    assert [{to_hex(handle.get_color())} for handle in legend.legend_handles] == by_label
    assert [text.get_text().strip() for text in legend.get_texts()] == ["ant", r"\$bee\$", "_cow"]
    assert [p.radius for p in figure.axes[0].patches if isinstance(p, Circle)] == [1, 2]


def test_a_map_of_more_dimensions_is_their_principal_components() -> None:
    t = torch.randn(80, 2, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    t = t - t.mean(0)
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q[:2]
    axes = plots.latent_map(t @ basis + 5).axes[0]
    u, s, _ = torch.linalg.svd(t, full_matrices=False)
    offsets = np.asarray(axes.collections[0].get_offsets())
    order = np.random.default_rng(0).permutation(80)
    np.testing.assert_allclose(np.abs(offsets), (u * s).abs().numpy()[order], atol=1e-9)
    shares = 100 * s**2 / (s**2).sum()
    assert axes.get_xlabel() == f"principal component 1 ({shares[0]:.0f} % of variance)"
    assert axes.get_ylabel() == f"principal component 2 ({shares[1]:.0f} % of variance)"
    assert not axes.patches


def test_names_at_the_medians_never_lie_on_each_other() -> None:
    z = torch.tensor([[0.0, 0.0], [0.001, 0.0], [5.0, 5.0]]).repeat(4, 1)
    names = [
        text.get_text() for text in plots.latent_map(z, torch.arange(12) % 3, list("abc"), circles=()).axes[0].texts
    ]
    assert names == ["a", "c"]


@pytest.mark.parametrize("count", [9, 11, 30])
def test_many_labels_keep_colours_of_their_own(count: int) -> None:
    figure = plots.latent_map(torch.randn(60, 2), torch.arange(60) % count)
    assert len({tuple(c) for c in figure.axes[0].collections[0].get_facecolor()}) == count
    assert (len(figure.axes) == 2) == (count > 20)  # a colour bar in place of the legend


def test_one_dimension_is_counted_and_a_collapsed_code_is_drawn() -> None:
    heights = [p.get_xy()[:, 1].max() for p in plots.latent_map(torch.randn(50, 1)).axes[0].patches]
    assert heights[0] > 1
    plots.to_png(plots.latent_map(torch.zeros(5, 2), torch.arange(5)), dpi=30)
    assert "0 % of the variance" in plots.alt_text(plots.latent_map(torch.zeros(5, 4)))


def test_the_bound_is_drawn_by_samples_above_its_elbo() -> None:
    figure = plots.bound_by_samples([(100, -88.0, 0.5), (1, -92.0, 0.5), (10, -89.0, float("nan"))])
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, -92], [10, -89], [100, -88]])
    assert axes.get_xscale() == "log"
    assert "ELBO\n−92.00" in [text.get_text() for text in axes.texts]
    low, high = axes.get_ylim()
    assert low < -93 < -87 < high
    given = plots.bound_by_samples([(10, -89.0, 0.5)], (-95.0, 0.1)).axes[0]
    assert "ELBO\n−95.00" in [text.get_text() for text in given.texts]
    assert not any("ELBO" in text.get_text() for text in plots.bound_by_samples([(10, -89.0, 0.5)]).axes[0].texts)


def test_what_the_bars_of_a_bound_mean_is_said() -> None:
    for paired, words in ((True, "of the rise above the first, paired"), (False, "over observations, the same at")):
        figure = plots.bound_by_samples([(1, -92.0, 0.0), (10, -89.0, 0.5)], paired=paired)
        assert any(words in text.get_text().replace("\n", " ") for text in figure.texts)


def test_what_the_bound_rises_to_is_drawn_where_it_is_known() -> None:
    axes = plots.bound_by_samples([(1, -92.0, 0.5), (10, -89.0, 0.5)], log_px=-86.0).axes[0]
    assert "log p(x)\n−86.00" in [text.get_text() for text in axes.texts]
    assert axes.get_ylim()[1] > -86
    assert "3.00 below log p(x)" in plots.alt_text(axes.figure)


def test_every_observation_is_in_the_histogram_and_the_doubtful_in_red() -> None:
    k = torch.cat([torch.linspace(-3, 0.7, 70), torch.linspace(0.7001, 2.0, 29), torch.tensor([torch.inf])])
    axes = plots.pareto_k(k).axes[0]
    heights = {BLUE: 0.0, VERMILION: 0.0}
    for bar in axes.patches:
        heights[to_hex(bar.get_facecolor()).upper()] += bar.get_height()
    assert heights == {BLUE: 70, VERMILION: 30}
    assert "30.0 %" in axes.get_title(loc="left")
    right = [
        bar.get_x() for bar in axes.patches if to_hex(bar.get_facecolor()) == VERMILION.lower() and bar.get_height()
    ]
    assert min(right) >= 0.7 - 0.051


X, Z, VAE = torch.rand(4, 1, 8, 8), torch.randn(5, 2), painter(3)
RUN = {"beta": 1.0, "elbo": -90.0, "distortion": 80.0, "rate": 10.0}
COMPLAINTS: dict[str, tuple[Callable[[], Any], str]] = {
    "no list": (lambda: plots.images(["a"]), "Expected observations as a tensor or an array"),
    "complex": (lambda: plots.images(np.ones((2, 3), complex)), "real numbers; got ndarray"),
    "single": (lambda: plots.images(torch.rand(8)), r"shape \(N, ...\); got \(8,\). For a single one: x\[None\]"),
    "none": (lambda: plots.samples(torch.rand(0, 1, 8, 8)), "Expected observations of shape"),
    "too many": (lambda: plots.images(torch.rand(2000, 2)), "at most 1024 .* got 2000. Choose some"),
    "columns": (lambda: plots.images(X, columns=0), "Expected columns >= 1; got 0"),
    "part of a column": (lambda: plots.samples(X, columns=2.5), "Expected columns as a whole number; got 2.5"),
    "columns of a grid": (lambda: plots.data_grid(tb.data.Observations(X), columns=0), "Expected columns >= 1; got 0"),
    "columns of pairs": (lambda: plots.reconstructions(X, X, columns=0), "Expected columns >= 1; got 0"),
    "words for columns": (lambda: plots.reconstructions(X, X, columns="8"), "columns as a whole number; got '8'"),
    "number of rows": (lambda: plots.samples(X, rows=2), r"rows as names, .* got 2. For two rows of eight: columns=8"),
    "name of a row": (lambda: plots.samples(X, rows="cat"), "rows as names, one for each row; got 'cat'"),
    "names of rows": (lambda: plots.samples(X, columns=2, rows=["a"]), "a name for each of 2 rows; got 1. columns"),
    "labels of images": (lambda: plots.images(X, titles=torch.arange(5)), "one title for each of 4 .* got 5"),
    "titles": (lambda: plots.images(X, titles=["a"]), "one title for each of 4 observations; got 1"),
    "limits": (lambda: plots.images(X, limits=(1, 1)), "Expected limits .* low < high"),
    "grid": (lambda: plots.data_grid(tb.data.Observations(X), 0), "Expected count >= 1; got 0"),
    "pairs": (lambda: plots.reconstructions(X, X[:2]), "of one shape; got .4, 1, 8, 8. and .2, 1, 8, 8."),
    "no pairs": (lambda: plots.reconstructions(X, X, 0), "Expected count >= 1; got 0"),
    "no metrics": (lambda: plots.training_curves([]), "finite 'loss'.*got 0 lines without"),
    "no step": (lambda: plots.training_curves([{"split": "train", "loss": 1.0}]), "Expected 'step' in every row"),
    "NaN step": (lambda: plots.training_curves([{"split": "train", "step": None, "loss": 1.0}]), "a finite 'step'"),
    "no rows": (lambda: plots.beta_tradeoff([]), "at least one run; got no rows"),
    "no rate": (lambda: plots.rate_distortion([RUN, {"beta": 1.0, "elbo": 0.0, "distortion": 1.0}]), "'rate' .* row 1"),
    "NaN elbo": (lambda: plots.beta_tradeoff([RUN, {**RUN, "elbo": np.nan}]), "finite 'elbo' .* nan in row 1"),
    "kl shape": (lambda: plots.latent_traversal(VAE, kl=torch.rand(9, 3)), r"kl of shape \(3,\).*kl.mean\(0\)"),
    "NaN kl": (lambda: plots.latent_traversal(VAE, kl=torch.full((3,), torch.nan)), "finite mean nats"),
    "active": (lambda: plots.latent_traversal(VAE, active=torch.ones(2)), r"active of shape \(3,\).*got \(2,\)"),
    "element": (lambda: plots.latent_traversal(VAE, dimensions=[3]), r"among 0 to 2, or how many; got \[3\]"),
    "elements": (lambda: plots.latent_traversal(VAE, dimensions=0), "among 0 to 2, or how many; got 0"),
    "span": (lambda: plots.latent_traversal(VAE, span=0), "Expected steps >= 2 and span > 0"),
    "ends": (lambda: plots.interpolation(VAE, X, X[:1]), "Expected a and b of one shape"),
    "steps": (lambda: plots.interpolation(VAE, X, X, 1), "Expected steps >= 2; got 1"),
    "manifold": (lambda: plots.manifold(VAE), "Expected a model with 2 latent dimensions; got 3.*latent_traversal"),
    "manifold steps": (lambda: plots.manifold(VAE, 1), "Expected steps >= 2; got 1"),
    "codes": (lambda: plots.latent_map(torch.rand(4, 2, 2)), r"codes of shape \(N, L\); got \(4, 2, 2\)"),
    "one code": (lambda: plots.latent_map(Z[:1]), "Expected at least 2 codes"),
    "NaN codes": (lambda: plots.latent_map(Z.log()), "Expected finite codes; got"),
    "labels": (lambda: plots.latent_map(Z, torch.arange(4)), "Expected 5 integer labels; got int64 of shape .4,."),
    "real labels": (lambda: plots.latent_map(Z, torch.rand(5)), "Expected 5 integer labels; got float32"),
    "kl bars": (lambda: plots.kl_per_dimension(Z), r"finite nats of shape \(L,\)"),
    "active bars": (lambda: plots.kl_per_dimension(torch.rand(3), torch.ones(2)), r"active of shape \(3,\)"),
    "bounds": (lambda: plots.bound_by_samples([]), "Expected .samples >= 1, finite value, standard error. for some K"),
    "K = 0": (lambda: plots.bound_by_samples([(0, -1.0, 0.1)]), "samples >= 1"),
    "k": (lambda: plots.pareto_k(torch.tensor([0.3, torch.nan])), r"k of shape \(N,\), none of them NaN; got \(2,\)"),
    "ending": (lambda: plots.save(plots.images(X), "x.pdf"), "Expected a path ending in .png or .svg; got x.pdf"),
    "dpi": (lambda: plots.to_png(plots.images(X), dpi=0), "Expected dpi > 0; got 0"),
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_complaints_say_what_was_expected_and_what_came(name: str) -> None:
    call, message = COMPLAINTS[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_latents_that_are_no_vectors_are_refused() -> None:
    class Square(tb.priors.Prior):
        def tempered(self, temperature: float) -> torch.distributions.Distribution:
            return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2, 2), temperature), 2)

    with pytest.raises(ValueError, match=r"Expected a latent vector; got latents of shape \(2, 2\)"):
        plots.manifold(painter(2, Square()))


@pytest.mark.parametrize("kind", ["bits", "classes"])
@pytest.mark.parametrize("given", [False, True])
def test_a_traversal_of_codes_goes_through_the_classes_of_each_variable(kind: str, given: bool) -> None:
    """Every picture is decoded from a code, which differs from the first one in one variable."""
    seen: list[Tensor] = []
    if kind == "bits":
        prior, posterior, classes = tb.priors.Bernoulli(3), tb.posteriors.Bernoulli(MLP((4,), (3,))), 2
    else:
        prior, classes = tb.priors.Categorical(3, classes=4), 4
        posterior = tb.posteriors.Categorical(MLP((4,), (12,)), classes=4)
    decoder = MLP((3 if kind == "bits" else 12,), (1, 3, 3))
    decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    model = tb.VAE(prior, posterior, tb.likelihoods.Bernoulli(decoder))
    x0 = torch.ones(4) if given else None
    figure = plots.latent_traversal(model, x0, kl=torch.tensor([0.5, 2.0, 0.0]), dimensions=2)
    assert f"along 2 of 3 latent dimensions, through {classes} classes: z₁  2.0 nats" in plots.alt_text(figure)
    shown = prior().log_prob(seen[-1])  # which refuses what is no code
    assert len(shown) == 2 * classes
    table = classes_in(seen[-1], classes, kind).view(2, classes, 3)
    assert table[0, :, 1].tolist() == table[1, :, 0].tolist() == [*range(classes)]
    likeliest = [0, 0, 0] if x0 is None else model.class_probabilities(Batch(x0[None])).argmax(-1)[0].tolist()
    assert (table[0, :, [0, 2]] == torch.tensor(likeliest)[[0, 2]]).all()
    with pytest.raises(ValueError, match="whose latents are numbers; got one of bits or classes"):
        plots.manifold(model)


def classes_in(codes: Tensor, classes: int, kind: str) -> Tensor:
    """Which class each variable of each code has."""
    return codes.long() if kind == "bits" else codes.unflatten(-1, (-1, classes)).argmax(-1)


@pytest.mark.parametrize("name", ["LogNormal", "Exponential", "Gumbel"])
def test_a_traversal_stays_where_the_prior_is(name: str) -> None:
    """Its values are the prior's quantiles at which a normal is −3, …, 3 deviations from its mean."""
    seen: list[Tensor] = []
    prior = getattr(tb.priors, name)(2)
    decoder = MLP((2,), (1, 3, 3))
    decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    posterior = getattr(tb.posteriors, name)(MLP((4,), (2 if name == "Exponential" else 4,)))
    model = tb.VAE(prior, posterior, tb.likelihoods.Bernoulli(decoder))
    plots.latent_traversal(model, span=3.0, steps=7)
    z = seen[-1].view(2, 7, 2)[0, :, 0]
    theirs = {"LogNormal": scipy.stats.lognorm(1.0), "Exponential": scipy.stats.expon, "Gumbel": scipy.stats.gumbel_r}
    expected = theirs[name].ppf(scipy.stats.norm.cdf(np.linspace(-3, 3, 7)))
    np.testing.assert_allclose(z.numpy(), expected, rtol=1e-3, atol=1e-3)
    assert plots.manifold(model, steps=3)
