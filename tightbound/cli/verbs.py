"""The command line: verbs only. What they do is in ``commands``, which loads torch once there is something to do."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cyclopts import App, Parameter

from tightbound._version import __version__
from tightbound.cli.answer import answered, answering
from tightbound.cli.errors import exit_code
from tightbound.cli.flags import Changes, Split, Switch, Whole, WholeOrNone
from tightbound.cli.output import prepare
from tightbound.cli.showing import SHOWING
from tightbound.cli.there import data, entry, version
from tightbound.labs import catalogue
from tightbound.runs import recipe as recipes
from tightbound.runs.migrate import recipe_of

HELP = """Variational autoencoders whose bounds you can trust.

Begin with `tightbound demo`, which needs no download.

Then `tightbound train mnist`, or your own data: `tightbound train auto --data my-images/`.

A run is a folder, and every other verb takes it: `tightbound evaluate runs/digits-…`.

`tightbound VERB --help` has an example for each. `--debug` shows where an error came from.

`--json`, with any verb, prints one JSON object in place of words; on failure it prints nothing.

Exit codes: 0 good, 1 the run failed, 2 the request was wrong.
"""

app = App(
    name="tightbound",
    help=HELP,
    version=__version__,
    default_parameter=Parameter(negative="", allow_repeating=True),  # a flag given twice takes the last
    help_format="markdown",
)


@app.command
def demo(
    name: Literal["sprites", "digits", "mnist"] = "sprites", /, *, out: Path | None = None, json: Switch = False
) -> int:
    """Train, evaluate and explain a VAE, in a minute or two: a first look, with nothing to prepare.

    For example: `tightbound demo`. The page's path is printed at the end; open it in a browser.

    Args:
        name: sprites: pictures that the library draws, learned at two values of β and compared, beside a toy whose
            answer is known. digits: scikit-learn's 8×8 digits, a run like any other. mnist: the same on MNIST, which
            is fetched where it is not at hand.
        out: The new folder; `runs/<name>-<time>` by default.
        json: Print one JSON object.
    """
    from tightbound.cli import commands

    if name != "sprites":
        return answered(commands.train, recipes.load(name), out, as_json=json)
    from tightbound.cli.demo import demonstrate

    return answered(demonstrate, out, as_json=json)


@app.command(name="recipes")
def list_recipes(name: str | None = None, /, *, json: Switch = False) -> int:
    """List the recipes that come with the library, or print one as TOML to start your own from.

    For example: `tightbound recipes mnist > mine.toml`, then change it and `tightbound train mine.toml`.

    Args:
        name: The recipe to print: a name, the path of a .toml file, or a run's folder.
        json: Print one JSON object.
    """
    with answering(as_json=json) as answer:
        if name is not None:
            recipe = recipe_of(Path(name)) if Path(name).is_dir() else recipes.load(name)
            answer.say(recipes.to_toml(recipe).rstrip("\n"))
            answer.give({"name": name, "recipe": recipes.to_table(recipe)})
            return 0
        known = {shipped: recipes.load(shipped) for shipped in recipes.shipped()}
        width = max(map(len, known)) + 2
        for shipped, recipe in known.items():
            reaches = f"\n{'':{width}}Reaches: {recipe.reaches}." if recipe.reaches else ""
            answer.say(f"{shipped:{width}}{recipe.about}{reaches}")
        told = [{"name": name, "about": each.about, "reaches": each.reaches or None} for name, each in known.items()]
        answer.give({"recipes": told})
    return 0


app.command(data)


@app.command
def train(
    recipe: str | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    procs: Whole = 1,
    log: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = None,
    quiet: Switch = False,
    json: Switch = False,
    changes: Changes | None = None,
) -> int:
    """Train a recipe into a new folder, evaluate it on the test set and write its report.

    For example: `tightbound train auto --data my-images/ --data.size 64`.

    Every field of the recipe is an option: `tightbound train mnist --objective.beta 4 --train.epochs 10`.

    Ctrl-C stops cleanly. `tightbound train --resume RUN` goes on from there, and from a crash, to the same result bit
    for bit.

    Args:
        recipe: A recipe's name (see `tightbound recipes`) or the path of a .toml file.
        out: The run's new folder; `runs/<recipe>-<time>` by default. A folder with something in it is refused.
        resume: The folder of a run to go on with, in place of a recipe. With --data where its data have moved. With
            other options it is a new run that starts from its weights: --resume RUN --train.epochs 20.
        procs: Processes that share each batch, one for each GPU; on several machines: `torchrun … -m tightbound train`.
        log: A tracker that gets each line of metrics besides metrics.jsonl; `pip install` it first. TensorBoard's files
            are in RUN/tensorboard: `tensorboard --logdir runs` shows all runs.
        quiet: Say nothing while it works.
        json: Print one JSON object: the run, how its training went, and its evaluation as of `evaluate`.
    """
    given = changes or Changes()
    if (recipe is None) == (resume is None):
        got = "both" if recipe else "neither"
        raise ValueError(f"Expected a recipe or --resume RUN; got {got}. For example: tightbound train digits")
    anew = dataclasses.replace(given, data=None) != Changes()
    if resume is not None and out is not None and not anew:
        raise ValueError(
            "Expected --resume RUN without --out, as it goes on in its own folder; got both. To train on from its "
            "weights as a new run say for how long: --train.epochs 20."
        )
    wanted = None if recipe is None else given.apply(before := recipes.load(recipe))
    from tightbound.cli import commands
    from tightbound.cli.launch import in_processes

    shown: dict[str, Any] = {"progress": not quiet, "log": log, "as_json": json}
    work: Callable[[], int] = partial(answered, commands.resume, Path(str(resume)), data=given.data, **shown)
    if resume is not None and anew:
        work = partial(answered, commands.train_on, resume, given.apply, out, **shown)
    if wanted is not None:
        work = partial(answered, commands.train, wanted, out, before=before, **shown)
    return in_processes(procs, work)


@app.command
def evaluate(
    run: Path,
    /,
    *,
    split: Split | None = None,
    samples: WholeOrNone = None,
    proposal: Literal["auto", "refined", "enumerated", "posterior"] | None = None,
    error: float | None = None,
    data: str | None = None,
    json: Switch = False,
) -> int:
    """Estimate the evidence: ELBO, distortion, rate, importance-weighted bounds and log p(x), each with its error.

    For example: `tightbound evaluate runs/digits --error 0.02 --json`.

    The literature's protocol is `--proposal posterior --samples 5000`: an upper bound on the NLL, often a loose one.

    Args:
        run: A run's folder.
        split: Which observations of the run's data; test by default.
        samples: Draws from q(z|x) for each observation; the recipe's number by default. For ELBO and bounds.
        proposal: What log p(x) is estimated with; the recipe's by default. refined: a normal fitted to each
            observation. enumerated: the sum over all codes. posterior: q(z|x), at K samples.
        error: Standard error that a refined proposal's draws may leave in each observation's log p(x), in nats.
        data: Other observations of the same shape: their test set if they have one, else all of them.
        json: Print one JSON object, in nats per observation.
    """
    from tightbound.cli import commands

    given = {"samples": samples, "proposal": proposal, "error": error}
    changes = {name: value for name, value in given.items() if value is not None}
    return answered(commands.evaluate, run, changes, split=split, source=data, as_json=json)


@app.command
def certify(
    run: Path,
    /,
    *,
    observations: Whole = 200,
    temperatures: Whole = 30,
    chains: Whole = 4,
    leapfrogs: Whole = 3,
    seed: Whole = 0,
    json: Switch = False,
    data: str | None = None,
) -> int:
    """Check the estimate of log p(x): by a second, unlike method, and from both sides on data the model simulates.

    For example: `tightbound certify runs/digits --observations 100`.

    Annealed importance sampling walks from the refined proposals to the true posteriors: two methods must give one
    number. On simulated data it also walks backwards, from an exact draw of the posterior, and so bounds log p(x) from
    above: how far the bounds are apart certifies the sampler. The result is kept in RUN/certificate.json.

    Args:
        run: A run's folder, of a model whose latents are real numbers.
        observations: Test observations, taken at random; and how many are simulated.
        temperatures: Between proposal and posterior. More bring the bounds together.
        chains: Walks of each observation.
        leapfrogs: Steps of each Hamiltonian move.
        seed: Of everything random.
        json: Print one JSON object, in nats per observation.
        data: Where its data are now, where they have moved.
    """
    from tightbound.cli import commands

    walk = {"temperatures": temperatures, "chains": chains, "leapfrogs": leapfrogs}
    return answered(commands.certify, run, walk, observations=observations, seed=seed, as_json=json, source=data)


@app.command
def gaps(
    run: Path, /, *, observations: Whole = 200, seed: Whole = 0, json: Switch = False, data: str | None = None
) -> int:
    """Say how loose the ELBO is, and why: what the encoder loses, and what its family of posteriors cannot follow.

    For example: `tightbound gaps runs/digits --observations 100`.

    Test observations stand beside training ones: an encoder that over-fits loses less on what it has seen. The result
    is kept in RUN/gaps.json.

    Args:
        run: A run's folder, of a model whose latents are real numbers.
        observations: Of the test set and of the training set, taken at random.
        seed: Of everything random.
        json: Print one JSON object, in nats per observation.
        data: Where its data are now, where they have moved.
    """
    from tightbound.cli import commands

    return answered(commands.gaps, run, observations=observations, seed=seed, as_json=json, source=data)


@app.command
def information(
    run: Path,
    /,
    *,
    draws: Whole = 2000,
    split: Split = "test",
    seed: Whole = 0,
    json: Switch = False,
    data: str | None = None,
) -> int:
    """Say what the code tells about an observation, as an interval, and how far all codes together are from the prior.

    For example: `tightbound information runs/digits --split train`.

    The more observations, the more can be told: with N of them no more than log N nats. That of the test set is kept in
    RUN/information.json.

    Args:
        run: A run's folder.
        draws: Draws of the code in all, at most; each observation has equally many.
        split: Which observations of the run's data.
        seed: Of the draws.
        json: Print one JSON object, in nats per observation.
        data: Where its data are now, where they have moved.
    """
    from tightbound.cli import commands

    return answered(commands.information, run, draws=draws, split=split, seed=seed, as_json=json, source=data)


@app.command
def check(
    run: Path, /, *, observations: Whole = 500, seed: Whole = 0, json: Switch = False, data: str | None = None
) -> int:
    """Check what the model says of data to come: its intervals, its predictions, its samples.

    For example: `tightbound check runs/digits --observations 200`.

    Intervals: does z lie in them as often as they say, on data that the model simulates? Asked of q(z|x) and of the
    refined proposals. Predictions: are test observations among replicas of their own, and among what the model makes?
    Samples: are they nearer to training observations than test observations are? Do they look like test observations,
    and vary as much? The result is kept in RUN/checks.json, and `tightbound report RUN` shows it. Of discrete latents
    the intervals are left out.

    Args:
        run: A run's folder.
        observations: How many are simulated; and how many test observations are taken at random, at most.
        seed: Of everything random.
        json: Print one JSON object.
        data: Where its data are now, where they have moved.
    """
    from tightbound.cli import commands

    return answered(commands.check, run, observations=observations, seed=seed, as_json=json, source=data)


@app.command
def disentangle(
    run: Path,
    /,
    *,
    observations: Whole = 10_000,
    split: Split | Literal["all"] = "all",
    seed: Whole = 0,
    json: Switch = False,
    data: str | None = None,
) -> int:
    """Score how far each latent dimension stands for one of the factors that the data were made of.

    For example: `tightbound disentangle runs/sprites`.

    For data whose factors are known: sprites, dSprites, 3D Shapes, or your own with the array factors in a .npz file.
    Of other data it says how far dimensions depend on one another, and what cannot be known.
    Each score stands beside what it is by chance and what a perfect code has. Those of all observations, as the
    literature has them, or of a test set that came apart, are kept in RUN/disentanglement.json, and `tightbound report
    RUN` shows them.

    Args:
        run: A run's folder.
        observations: How many, taken at random, at most.
        split: Which of the run's data.
        seed: Of everything random.
        json: Print one JSON object, with the definition of each score.
        data: Where its data are now, where they have moved.
    """
    from tightbound.cli import commands

    return answered(
        commands.disentangle, run, observations=observations, split=split, seed=seed, as_json=json, source=data
    )


@app.command
def compare(
    *runs: Path,
    split: Literal["validation", "test"] = "test",
    out: Path | None = None,
    json: Switch = False,
    data: str | None = None,
) -> int:
    """Compare runs on the same held-out observations: differences with their errors, recipes, and a verdict.

    For example: `tightbound compare runs/a runs/b`.

    Of several runs, each is compared with the first. Differences are paired by observation, so they can be told apart
    where the runs' own errors overlap. What a run's folder does not hold is measured and kept there. Runs on other
    data, another split or another kind of likelihood are refused. A page with all of it, and with pictures, is written.

    Args:
        runs: Two runs' folders, or more.
        split: What they are compared on; for validation all must have held out the same observations.
        out: A new .html file for the page; by default compare.html beside the first run, written anew each time.
        json: Print one JSON object, in nats per observation.
        data: Where their data are now, where they have moved.
    """
    from tightbound.cli import commands

    return answered(commands.compare, runs, split=split, out=out, as_json=json, source=data)


for shown in SHOWING:
    app.command(shown)


@app.command
def sweep(
    recipe: str,
    /,
    *,
    over: str,
    seeds: Whole = 1,
    out: Path | None = None,
    quiet: Switch = False,
    json: Switch = False,
    changes: Changes | None = None,
) -> int:
    """Train a recipe once for each value of a field; over objective.beta it ends with the trade-off and a choice.

    For example: `tightbound sweep digits --over objective.beta=0.5,1,2,4 --out beta`.

    The values are compared on the observations held out for validation: the test set is left for the run you choose.
    With several seeds errors are over seeds. Where factors are known, dimensions are scored beside them.
    A sweep that was broken off goes on with the same command and the same --out.

    Args:
        recipe: A recipe's name (see `tightbound recipes`) or the path of a .toml file.
        over: The field and its values, such as `objective.beta=0.5,1,2,4`.
        seeds: Trainings of each value, with the recipe's seed and those after it.
        out: The sweep's folder; `runs/<recipe>-sweep-<time>` by default.
        quiet: Say nothing while it works.
        json: Print one JSON object: a row of numbers for each run, in nats per observation, and what to choose.
    """
    wanted = (changes or Changes()).apply(before := recipes.load(recipe))
    from tightbound.cli import commands

    return answered(commands.sweep, wanted, over, out, as_json=json, before=before, seeds=seeds, progress=not quiet)


@app.command
def report(run: Path, /, *, data: str | None = None, json: Switch = False) -> int:
    """Write RUN/report.html anew: one self-contained page with the numbers, their errors and the pictures.

    For example: `tightbound report runs/digits`.

    Args:
        run: A run's folder.
        data: Where its data are now, where they have moved.
        json: Print one JSON object: where the page is, and the evaluation that it shows.
    """
    from tightbound.cli import commands

    return answered(commands.report, run, as_json=json, source=data)


def lab(name: str | None = None, /, *, out: Path = Path("labs"), seed: Whole = 0, json: Switch = False) -> int:
    """Compute a concept of VAEs live: its numbers, what they mean in words, and a figure.

    For example: `tightbound lab bounds`. Without a name, the labs are listed.

    {labs}

    A lab takes seconds, and the same seed gives the same numbers. It writes NAME.png, NAME.json and NAME.txt, over
    those of an earlier call.

    Args:
        name: Which lab.
        out: The folder for its three files.
        seed: Of everything random in it.
        json: Print the numbers as one JSON object, in place of the words.
    """
    if name is None:
        with answering(as_json=json) as answer:
            for each in catalogue.LABS.values():
                answer.say(entry(each.name, each.teaches, 20))
            answer.give({"labs": [{"name": each.name, "teaches": each.teaches} for each in catalogue.LABS.values()]})
        return 0
    found = catalogue.find(name)
    from tightbound.cli import commands

    return answered(commands.lab, found, out=out, seed=seed, as_json=json)


lab.__doc__ = (lab.__doc__ or "").replace("{labs}", catalogue.described().replace("\n", "\n\n    "))
app.command(lab)
app.command(version)

for place, verb in enumerate(app):
    if not verb.startswith("-"):
        app[verb].sort_key = place  # in the order they are needed, not in that of the alphabet


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words of the command; those of the process by default.

    Returns:
        The exit code: 0 good, 1 the run failed, 2 the request was wrong.

    Example:
        >>> main(["recipes", "digitz"])
        2
    """
    if argv is None:
        prepare()
    return exit_code(app, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
