"""The standard pictures of a run, each made from the run's own numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tightbound import plots
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.conditioned import ConditionalVAE
from tightbound.data import Data, Observations
from tightbound.distributions import class_probabilities
from tightbound.files import foreign
from tightbound.model import Model
from tightbound.plots.pictures import label_name
from tightbound.reports.checked import Picture, checked
from tightbound.runs.folder import DISENTANGLEMENT, EVALUATION, FACTORED, INDEPENDENCE
from tightbound.runs.told import Told
from tightbound.runtime import home, own_random_state
from tightbound.semi_supervised import SemiSupervisedVAE, conditional_of, of_one_condition
from tightbound.training.journal import METRICS

CODES = 5000  # observations in the latent map: enough to see its shape
ROWS = 12  # latent dimensions in the traversal
PAIRS = 6  # rows of the interpolation
COLUMNS = 8  # samples of a class; and observations whose style is shown in every class
SHOWN = 32  # reconstructions, and samples; twice as many of pictures, which are small


def pictures(run: Told, model: Model, data: Data, refused: list[str] | None = None) -> Iterator[Picture]:
    """Every picture that fits the run, in the order a reader wants them.

    Args:
        run: whose pictures.
        model: the run's, trained.
        data: the run's.
        refused: takes a sentence for each picture that cannot be made of this model; without it these raise.

    Raises:
        ValueError: for damaged files, and without ``refused`` for a model of which a picture cannot be made.
    """
    evaluation = run.evaluation() or {}
    yield from _training(run)
    if evaluation:
        with foreign(run.path / EVALUATION, "an evaluation as this version keeps it", run.renewed(EVALUATION)):
            bounds = list(_evidence(run, evaluation))
        yield from bounds
    yield from checked(run)
    yield from _extremes(run, data)
    if isinstance(model, VAE):
        yield from _of_model(run, model, data, evaluation, refused)
    elif refused is not None:
        refused.append(f"No pictures of codes, reconstructions and samples: {type(model).__name__} is no tb.VAE.")
    yield _stored(data)


def _of_model(
    run: Told, model: VAE, data: Data, evaluation: dict[str, Any], refused: list[str] | None
) -> Iterator[Picture]:
    plain, test = of_one_condition(model, data.test)
    under = _under(model, plain, test)
    yield from _factors(run, model, plain, test)
    yield from _dependence(run)
    of_model: dict[str, Callable[[], Iterator[Picture]]] = {
        "the map of the latent space": lambda: _maps(model, data),
        "the manifold": lambda: _manifold(plain, under),
        "reconstructions and samples": lambda: _decoded(model, data),
        "one style in every class": lambda: _analogies(model, data),
        "walks through the latent space": lambda: _walks(plain, test, of_dimensions(model, evaluation), under),
    }
    for name, made in of_model.items():
        try:
            yield from list(made())
        except (ValueError, ArithmeticError, RuntimeError) as error:
            if refused is None:
                raise
            refused.append(f"No picture of {name}: {error}")


def _training(run: Told) -> Iterator[Picture]:
    with foreign(run.path / METRICS, "metrics as this version keeps them", run.renewed(METRICS)):
        yield from _curves(run)


def _curves(run: Told) -> Iterator[Picture]:
    metrics, recipe = run.metrics(), run.recipe
    if metrics and recipe is not None:
        words = [recipe.objective.in_words(metrics[-1]["step"])]
        if any(line["split"] == "validation" for line in metrics):
            words.append("As far as validation stays above training, the model has learned its examples by heart.")
            words.append("Ringed: the best validation loss, whose weights this run keeps.")
            words.append("Validation is of averaged weights, which lag at first." if recipe.train.ema else "")
            if made := recipe.data.augmented():
                words.append(f"Training's images are {made}, those of validation are not.")
        yield Picture("training", "Training", " ".join(words).strip(), plots.training_curves(metrics))


def _evidence(run: Told, evaluation: dict[str, Any]) -> Iterator[Picture]:
    samples = evaluation["samples"]
    if samples > 1:
        paired = all(isinstance(bound.get("rise_se"), float) for bound in evaluation["iwae"])
        error = "rise_se" if paired else "se"  # older evaluations have no other
        bounds = [(bound["samples"], bound["value"], bound[error] or 0.0) for bound in evaluation["iwae"]]
        caption = (
            f"The more samples of q(z|x), the nearer to log p(x). It lies {evaluation['gap']:.2g} nats above the ELBO: "
            "that is KL(q(z|x) ‖ p(z|x)), how far the posterior is from the true one."
        )
        log_px = None if evaluation.get("proposal", "posterior") == "posterior" else -evaluation["nll"]
        figure = plots.bound_by_samples(bounds, log_px=log_px, paired=paired)
        yield Picture("bounds", "How tight the bound is", caption, figure)
    k = run.per_observation().get("k", torch.empty(0))
    if (known := k[~k.isnan()]).numel():
        caption = (
            "How heavy the tail of each observation's importance weights is. Up to 0.7 the errors are what the draws "
            "say; beyond, the draws that matter most have not come yet."
        )
        yield Picture("trust", "How far to trust it", caption, plots.pareto_k(known))
    if kl := evaluation["kl_per_dimension"]:
        caption = "The rate, dimension by dimension. One without nats follows the prior and carries nothing."
        figure = plots.kl_per_dimension(torch.tensor(kl), torch.tensor(evaluation["active"]))
        yield Picture("kl", "Where the nats go", caption, figure)


def _extremes(run: Told, data: Data) -> Iterator[Picture]:
    """The observations that are explained worst and best; nothing where it is not known, or too few are known."""
    log_px = run.per_observation().get("log_px", torch.empty(0))
    known = log_px.isfinite().nonzero()[:, 0]
    count = min(COLUMNS, len(known) // 2)
    if len(log_px) != len(data.test) or count < 2:
        return
    order = known[log_px[known].argsort(stable=True)]
    rows = torch.cat((order[:count], order[-count:]))
    titles = [f"{log_px[row]:.1f}".replace("-", "−") for row in rows.tolist()]
    figure = plots.images(data.test.unbinarised(rows), columns=count, titles=titles)
    worst = ", ".join(str(row) for row in data.test.rows_of(order[:count]).tolist())
    caption = (
        f"Above the {count} test observations with the lowest log p(x), below those with the highest, each with its "
        f"nats. The worst first: rows {worst} of the data."
    )
    yield Picture("extremes", "Worst and best explained", caption, figure)


def _factors(run: Told, model: VAE, plain: VAE, test: Observations) -> list[Picture]:
    """Units beside the known factors, where they were scored."""
    if (found := run.kept(DISENTANGLEMENT)) is None or not found["units"]:
        return []
    with foreign(run.path / DISENTANGLEMENT, "numbers as this version keeps them", run.renewed(DISENTANGLEMENT)):
        seen, names = run.per_observation(FACTORED), list(found["factors"])
        best = [each["best_unit"] for each in found["factors"].values()]
        first, second = torch.tensor(found["information"]), torch.tensor(found["importance"])
        words = [test.label_names if name in found["unordered"] else () for name in names]
        matrix = plots.factor_matrix(first, second, names, found["units"])
        scatter = plots.factor_scatter(seen["codes"], seen["factors"], names, best, words)
    made = [
        ("factors", "Which unit tells of which factor", "One dark cell in each row and column: a disentangled code."),
        ("by-factor", "Each factor against its best unit", "A flat row of lines: the unit does not follow the factor."),
    ]
    pictures = [Picture(*words, figure) for words, figure in zip(made, (matrix, scatter), strict=True)]
    if class_probabilities(model.prior()) is None:
        figure = plots.latent_traversal(plain, examples(test, 1)[1].x[0], dimensions=best, names=names)
        caption = "The unit that tells most of each factor goes along the prior; the others stay."
        pictures.append(Picture("traversal-by-factor", "What the best unit of each factor does", caption, figure))
    return pictures


def _dependence(run: Told) -> Iterator[Picture]:
    """Pairs of units beside each other, where that was measured."""
    if (found := run.kept(INDEPENDENCE)) is not None and len(found["units"]) > 1:
        with foreign(run.path / INDEPENDENCE, "numbers as this version keeps them", run.renewed(INDEPENDENCE)):
            figure = plots.dependence_matrix(torch.tensor(found["dependence"]), found["units"])
        caption = f"Pairs of live units. By chance there are up to {found['chance']:.3f} nats."
        yield Picture("dependence", "Which dimensions depend on one another", caption, figure)


def _maps(model: VAE, data: Data) -> Iterator[Picture]:
    count = min(len(data.test), CODES)
    codes = model.embed(data.test.subset(torch.arange(count)))
    if count > 1:
        labels = data.test.label(torch.arange(count))
        caption = f"Posterior means of {count} test observations"
        caption += ", seen along the two directions in which they vary most." if codes.shape[1] > 2 else "."
        told = model.classes if isinstance(model, ConditionalVAE | SemiSupervisedVAE) else 0
        if labels is not None:
            caption += " The model has seen labels." if told else " The model has never seen the labels."
        figure = plots.latent_map(codes, labels, data.test.label_names)
        yield Picture("map", "The latent space", caption, figure)


def _manifold(model: VAE, under: str) -> Iterator[Picture]:
    if model.prior().event_shape == (2,) and class_probabilities(model.prior()) is None:
        caption = f"Decodings at equally spaced quantiles of the prior{under}."
        yield Picture("manifold", "The manifold", caption, plots.manifold(model))


def _decoded(model: VAE, data: Data) -> Iterator[Picture]:
    shown, seen = examples(data.test, SHOWN)
    caption = "The first test observations, each with the mean of p(x|z) at the mean of q(z|x)."
    if data.test.binarise:
        caption += " The originals are shown in grey; the model saw them binarised."
    figure = plots.reconstructions(shown, model.reconstruct(seen))
    yield Picture("reconstructions", "Reconstructions", caption, figure)
    count = 2 * SHOWN if shown.ndim > 2 else SHOWN
    with own_random_state(home(model)[0], seed=0):
        drawn, rows = samples_of(model, data.test, count)
    caption = "The means of p(x|z) for z drawn from the prior, not chosen by anyone"
    caption += ", a row a class." if rows else "."
    yield Picture("samples", "Samples", caption, plots.samples(drawn, rows=rows, columns=COLUMNS if rows else None))


def samples_of(model: VAE, observations: Observations, count: int) -> tuple[Tensor, list[str]]:
    """Means of samples for a picture: where a model has a condition, of each class equally many.

    Args:
        model: any.
        observations: whose class names and covariates are taken.
        count: how many; for a model of classes a full row of each.

    Returns:
        Samples, and what each row of eight is called; nothing where rows have no name.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> drawn, rows = samples_of(model, Observations(torch.rand(9, 5)), 3)
        >>> drawn.shape, rows
        (torch.Size([3, 5]), [])
    """
    given, observations = conditional_of(model, observations)
    if given is None:
        return model.sample(count, mean=True), []
    rows = [label_name(y, observations.label_names) for y in range(given.classes)]
    count = COLUMNS * len(rows) or count
    return given.sample(count, mean=True, **conditions(given, observations, count)), rows


def conditions(model: ConditionalVAE, observations: Observations, count: int) -> dict[str, Any]:
    """Conditions for samples where nobody asks for one: each class equally often, covariates as observations have them.

    Args:
        model: whose.
        observations: where covariates are taken from.
        count: how many.

    Returns:
        Arguments of ``model.sample``.

    Example:
        >>> import tightbound as tb
        >>> model = ConditionalVAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5 + 3, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2 + 3, 5)),
        ...     classes=3,
        ... )
        >>> conditions(model, Observations(torch.zeros(1, 5)), 6)
        {'label': tensor([0, 0, 1, 1, 2, 2])}
    """
    given: dict[str, Any] = {}
    if model.classes:
        given["label"] = torch.arange(count) * model.classes // count
    if model.covariates and (table := observations.factor_table()) is not None:
        given["factors"] = table[torch.arange(count) % len(table)]
    return given


def _analogies(model: VAE, data: Data) -> Iterator[Picture]:
    given, test = conditional_of(model, data.test)
    if given is not None and given.classes:
        shown, seen = examples(test, COLUMNS)
        names = [label_name(y, test.label_names) for y in range(given.classes)]
        caption = "The code of each framed test observation, decoded in every class: what z says beside the class."
        figure = plots.analogies(shown, given.analogies(seen), names)
        yield Picture("analogies", "One style in every class", caption, figure)


def _under(model: VAE, plain: VAE, test: Observations) -> str:
    """The condition of a plain model of one condition in words; empty where there is none."""
    if plain is model:
        return ""
    label = test.label(torch.arange(1))
    of = "" if label is None else f", of class {label_name(int(label), test.label_names)}"
    return f", under the condition of the first test observation{of}"


def of_dimensions(model: VAE, evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation whose numbers are those of the dimensions that move; nothing where the class counts among them.

    Args:
        model: any.
        evaluation: as ``Run.evaluation`` gives it.

    Example:
        >>> import tightbound as tb
        >>> parts = tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4))
        >>> of_dimensions(tb.VAE(*parts, tb.likelihoods.Gaussian(torch.nn.Linear(2, 5))), {"elbo": -9.0})
        {'elbo': -9.0}
    """
    return {} if isinstance(model, SemiSupervisedVAE) else evaluation


def ranked(evaluation: dict[str, Any], count: int) -> dict[str, Any]:
    """Which dimensions a traversal shows: by their KL, or where there is none by how they vary or what they tell.

    Args:
        evaluation: as ``Run.evaluation`` gives it; may be empty.
        count: how many dimensions at most.

    Returns:
        Arguments of ``plots.latent_traversal``.

    Example:
        >>> ranked({}, 3)
        {'dimensions': 3}
    """
    if not evaluation:
        return {"dimensions": count}
    active = torch.tensor(evaluation["active"])
    if kl := evaluation["kl_per_dimension"]:
        return {"dimensions": count, "kl": torch.tensor(kl), "active": active}
    spread = torch.tensor(evaluation.get("information") or evaluation["mean_variance"])
    return {"dimensions": spread.argsort(descending=True)[:count].tolist(), "active": active}


def _walks(model: VAE, test: Observations, evaluation: dict[str, Any], under: str) -> Iterator[Picture]:
    seen = examples(test, 2 * PAIRS)[1].x
    figure = plots.latent_traversal(model, seen[0], **ranked(evaluation, ROWS))
    order = "the most informative first" if evaluation.get("kl_per_dimension") else "by how their posterior means vary"
    caption = f"One latent dimension at a time, {order if evaluation else 'in order'}; the others stay where the first"
    caption += f" test observation has them{under}."
    yield Picture("traversal", "What each dimension does", caption, figure)
    if pairs := len(seen) // 2:
        caption = "Straight lines through the latent space between pairs of test observations, those framed"
        caption += ", as the model saw them" if test.binarise else ""
        caption += f"{under}."
        figure = plots.interpolation(model, seen[:pairs], seen[pairs : 2 * pairs])
        yield Picture("interpolation", "Interpolation", caption, figure)


def _stored(data: Data) -> Picture:
    caption = "Test observations chosen at random, as stored."
    if data.test.binarise:
        caption += " The model sees them binarised: each pixel is white with a probability of its grey value."
    return Picture("data", "The data", caption, plots.data_grid(data.test))


def examples(observations: Observations, count: int) -> tuple[Tensor, Batch]:
    """The first observations, as a person wants to see them and as the model does.

    Args:
        observations: of any kind.
        count: how many; all where there are fewer.

    Returns:
        A tensor, and a batch of the same shape. They differ where the model sees binarised values.

    Example:
        >>> shown, seen = examples(Observations(torch.rand(9, 4), binarise=True), 2)
        >>> shown.shape, bool(((seen.x == 0) | (seen.x == 1)).all())
        (torch.Size([2, 4]), True)
    """
    rows = torch.arange(min(count, len(observations)))
    return observations.unbinarised(rows), observations.eval_batch(0, len(rows))
