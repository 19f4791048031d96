"""The command line: verbs only. What they do is in ``commands``, which loads torch once there is something to do."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from tightbound import recipe as recipes
from tightbound._version import __version__
from tightbound.settings import Training

HELP = """Variational autoencoders whose bounds you can trust.

Begin with `tightbound demo`; then `tightbound train mnist`, or
`tightbound train digits --data my-images/`. A run is a folder; every other verb takes it.

Exit codes: 0 good, 1 the run failed, 2 the request was wrong. `--debug` shows tracebacks.
"""

app = App(
    name="tightbound",
    help=HELP,
    version=__version__,
    default_parameter=Parameter(negative=""),
    help_format="markdown",
)


def _changes(cls: type, section: str) -> type:
    """A dataclass of the same fields, each None unless given: what a command line changes in a recipe."""
    described = dict(_described(cls))
    hints = typing.get_type_hints(cls)
    made = dataclasses.make_dataclass(
        f"{cls.__name__}Changes",
        [
            (
                item.name,
                Annotated[hints[item.name] | None, Parameter(help=described.get(item.name, ""), negative="")],
                dataclasses.field(default=None),
            )
            for item in dataclasses.fields(cls)
            if not (section == "data" and item.name == "source")
        ],
        kw_only=True,
    )
    made.__module__ = __name__  # as a class of the standard library's it would not be taken apart into flags
    return Parameter(name=section, group=Group(f"Recipe: {section}", sort_key=10))(made)


def _described(cls: type) -> list[tuple[str, str]]:
    """Names and descriptions from the ``Attributes`` section of a class's docstring: written once, shown in --help too."""
    entries: list[tuple[str, str]] = []
    for line in inspect.getdoc(cls).split("Attributes:\n", 1)[1].splitlines():  # type: ignore[union-attr]
        if line.startswith("        "):
            name, text = entries[-1]
            entries[-1] = (name, f"{text} {line.strip()}")
        elif line.strip():
            name, _, text = line.strip().partition(": ")
            entries.append((name, text))
    return entries


DataChanges = _changes(recipes.DataRecipe, "data")
ModelChanges = _changes(recipes.ModelRecipe, "model")
ObjectiveChanges = _changes(recipes.ObjectiveRecipe, "objective")
TrainChanges = _changes(Training, "train")
EvaluateChanges = _changes(recipes.EvaluateRecipe, "evaluate")


@Parameter(name="*")
@dataclasses.dataclass(kw_only=True)
class Changes:
    """What the command line changes in a recipe.

    Attributes:
        data: "digits", "mnist", or a path: .npy, .npz, a folder of images.
        seed: Of weights, noise, batches and the validation split.
    """

    data: Annotated[str | None, Parameter(name="--data", help='"digits", "mnist", or a path: .npy, .npz, a folder of images.')] = None
    seed: Annotated[int | None, Parameter(help="Of weights, noise, batches and the validation split.")] = None
    data_section: DataChanges = dataclasses.field(default_factory=DataChanges)  # type: ignore[valid-type]
    model: ModelChanges = dataclasses.field(default_factory=ModelChanges)  # type: ignore[valid-type]
    objective: ObjectiveChanges = dataclasses.field(default_factory=ObjectiveChanges)  # type: ignore[valid-type]
    train: TrainChanges = dataclasses.field(default_factory=TrainChanges)  # type: ignore[valid-type]
    evaluate: EvaluateChanges = dataclasses.field(default_factory=EvaluateChanges)  # type: ignore[valid-type]

    def apply(self, recipe: recipes.Recipe) -> recipes.Recipe:
        """The recipe with what was given put in."""
        changes: dict[str, Any] = {"seed": self.seed, "data.source": self.data}
        for section in ("data", "model", "objective", "train", "evaluate"):
            given = getattr(self, "data_section" if section == "data" else section)
            changes |= {f"{section}.{key}": value for key, value in vars(given).items()}
        return recipe.updated({key: value for key, value in changes.items() if value is not None})


Split = Literal["train", "test"]
Out = Annotated[Path | None, Parameter(help="Where the result goes.")]


@app.command
def demo(*, out: Out = None) -> int:
    """Train, evaluate and explain a VAE on scikit-learn's embedded digits, in about a minute.

    Args:
        out: The run's folder; runs/digits-<time> by default.
    """
    from tightbound import commands

    return commands.train(recipes.load("digits"), out)


@app.command(name="recipes")
def list_recipes(name: str | None = None, /) -> int:
    """List the recipes that come with the library, or print one as TOML to start your own from.

    Args:
        name: The recipe to print.
    """
    if name is not None:
        print(recipes.to_toml(recipes.load(name)), end="")
        return 0
    for shipped in recipes.shipped():
        recipe = recipes.load(shipped)
        print(f"{shipped:16} {recipe.about}\n{'':16} reaches: {recipe.reaches}")
    return 0


@app.command
def train(
    recipe: str | None = None,
    /,
    *,
    out: Out = None,
    resume: Path | None = None,
    quiet: bool = False,
    changes: Changes | None = None,
) -> int:
    """Train a recipe into a new folder, evaluate it on the test set and write its report.

    Any field of the recipe can be set: `tightbound train mnist --objective.beta 4 --train.epochs 10`. Ctrl-C stops
    cleanly; `--resume` goes on from there, and from a crash, to the same result bit for bit.

    Args:
        recipe: A shipped recipe's name (see `tightbound recipes`) or the path of a .toml file.
        out: The run's new folder; runs/<recipe>-<time> by default.
        resume: The folder of a run to go on with, in place of a recipe.
        quiet: Show no progress.
    """
    from tightbound import commands

    given = changes or Changes()
    if (recipe is None) == (resume is None):
        raise ValueError("Expected either a recipe or --resume RUN; got " + ("both." if recipe else "neither."))
    if resume is not None:
        if out is not None or given != Changes():
            raise ValueError("Expected --resume RUN alone; got other settings. A resumed run repeats its own recipe.")
        return commands.resume(resume, progress=not quiet)
    return commands.train(given.apply(recipes.load(str(recipe))), out, progress=not quiet)


@app.command
def evaluate(
    run: Path,
    /,
    *,
    split: Split = "test",
    samples: int | None = None,
    data: str | None = None,
    json: bool = False,
) -> int:
    """Estimate the evidence: ELBO, distortion, rate and importance-weighted bounds, each with its standard error.

    Args:
        run: A run's folder.
        split: Which observations.
        samples: Draws for each observation; the recipe's number by default.
        data: Another source of observations of the same shape; then nothing is written into the run.
        json: Print one JSON object.
    """
    from tightbound import commands

    return commands.evaluate(run, split=split, samples=samples, source=data, as_json=json)


@app.command
def sample(run: Path, /, *, count: int = 64, temperature: float = 1.0, seed: int = 0, out: Out = None) -> int:
    """Draw from the prior and decode.

    Args:
        run: A run's folder.
        count: How many.
        temperature: What the prior's standard deviations are multiplied by.
        seed: Of the draws.
        out: A .png for a picture, a .npy for the numbers; RUN/figures/samples.png by default.
    """
    from tightbound import commands

    return commands.sample(run, count=count, temperature=temperature, seed=seed, out=out)


@app.command
def reconstruct(run: Path, /, *, count: int = 16, split: Split = "test", out: Out = None) -> int:
    """Show observations beside their reconstructions.

    Args:
        run: A run's folder.
        count: How many.
        split: Which observations.
        out: A .png for a picture, a .npy for the numbers; RUN/figures/reconstructions.png by default.
    """
    from tightbound import commands

    return commands.reconstruct(run, count=count, split=split, out=out)


@app.command
def traverse(run: Path, /, *, index: int = 0, dimensions: int = 10, steps: int = 11, out: Out = None) -> int:
    """Move along one latent dimension at a time, the most informative first.

    Args:
        run: A run's folder.
        index: The test observation to start from.
        dimensions: How many latent dimensions to show.
        steps: Pictures for each.
        out: The picture; RUN/figures/traversal.png by default.
    """
    from tightbound import commands

    return commands.traverse(run, index=index, dimensions=dimensions, steps=steps, out=out)


@app.command
def interpolate(run: Path, /, *, rows: int = 6, steps: int = 11, out: Out = None) -> int:
    """Walk in a straight line through the latent space between pairs of test observations.

    Args:
        run: A run's folder.
        rows: How many pairs.
        steps: Pictures for each.
        out: The picture; RUN/figures/interpolation.png by default.
    """
    from tightbound import commands

    return commands.interpolate(run, rows=rows, steps=steps, out=out)


@app.command
def embed(run: Path, /, *, out: Path, split: Split = "test", data: str | None = None) -> int:
    """Write the posterior's mean of each observation: coordinates, the same in every call.

    Args:
        run: A run's folder.
        out: The .npy file, shape (observations, latent).
        split: Which observations.
        data: Another source of observations of the same shape.
    """
    from tightbound import commands

    return commands.embed(run, out=out, split=split, source=data)


@app.command
def sweep(
    recipe: str,
    /,
    *,
    over: str,
    out: Out = None,
    quiet: bool = False,
    changes: Changes | None = None,
) -> int:
    """Train a recipe once for each value of a field; over objective.beta it ends with the trade-off and a choice.

    Args:
        recipe: A shipped recipe's name or the path of a .toml file.
        over: The field and its values, such as `objective.beta=0.5,1,2,4`.
        out: The sweep's new folder; runs/<recipe>-sweep-<time> by default. One that was broken off is gone on with.
        quiet: Show no progress.
    """
    from tightbound import commands

    return commands.sweep((changes or Changes()).apply(recipes.load(recipe)), over, out, progress=not quiet)


@app.command
def report(run: Path, /) -> int:
    """Write RUN/report.html anew: one self-contained page.

    Args:
        run: A run's folder.
    """
    from tightbound import commands

    return commands.report(run)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and give its exit code: 0 good, 1 the run failed, 2 the request was wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _say(str(error), 2, debug=debug)
    except (ValueError, TypeError, FileNotFoundError, IsADirectoryError, PermissionError) as error:
        return _say(str(error), 2, debug=debug)
    except KeyboardInterrupt:
        return _say("stopped", 1, debug=debug)
    except BrokenPipeError:
        sys.stdout = open("/dev/null", "w") if Path("/dev/null").exists() else sys.stdout  # noqa: SIM115
        return 0
    except Exception as error:
        named = "" if isinstance(error, ArithmeticError) else f"{type(error).__name__}: "
        return _say(f"{named}{error}", 1, debug=debug)


def _say(message: str, code: int, *, debug: bool) -> int:
    """One line to the person, the traceback only where it was asked for."""
    if debug:
        import traceback

        traceback.print_exc()
    line = " ".join(message.split())
    print(f"tightbound: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

