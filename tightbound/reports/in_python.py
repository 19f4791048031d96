"""The report as one call: of a model that was made in Python, or of a run."""

from __future__ import annotations

import dataclasses
import html
import os
from pathlib import Path
from typing import Any

from tightbound.checks import check_data, check_model, said_of
from tightbound.data import Data
from tightbound.evaluate import Evidence
from tightbound.files import write_text
from tightbound.model import Model
from tightbound.paths import require_path
from tightbound.reports.page import page_of, refuse_damaged
from tightbound.runs.from_fit import HELD_OUT
from tightbound.runs.measured import Measured, measure, noted, remark_on
from tightbound.runs.recipe import EvaluateRecipe
from tightbound.runs.run import Run, open_run
from tightbound.runs.told import UNKNOWN, Judged, Told, in_python
from tightbound.runs.trained import model_of, remark_of
from tightbound.runtime import home, own_random_state
from tightbound.training import TrainResult

__all__ = ["Report", "report"]

BASE = '<base href="about:srcdoc">'  # or a link to a place in the page would load the notebook into the frame
HEIGHT = 720  # CSS pixels of a page within a notebook, which scrolls


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Report:
    """A report: one self-contained page. A notebook shows it as the last line of a cell.

    Attributes:
        name: What it is of.
        page: The page, HTML.
        evidence: What the model was judged by; None where the evaluation was refused, and the page says why.

    Example:
        >>> Report("digits", "<!doctype html>", None)
        Report of digits: .write('page.html') writes the page.
    """

    name: str
    page: str
    evidence: Evidence | None

    def __repr__(self) -> str:
        return f"Report of {self.name}: .write('page.html') writes the page."

    def _repr_html_(self) -> str:
        """The page in a frame of its own: its style stays inside, and nothing in it runs."""
        page = self.page.replace("<head>", f"<head>{BASE}", 1)
        return (
            f'<iframe srcdoc="{html.escape(page, quote=True)}" sandbox="" title="{html.escape(repr(self))}" '
            f'style="width:100%;height:{HEIGHT}px;border:0;border-radius:10px"></iframe>'
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, over one that was there.

        Args:
            path: of a file that ends in .html; folders above it are made.

        Returns:
            The path.

        Raises:
            TypeError: for anything but a path.
            ValueError: for another ending, and a path that the system does not take.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Report("digits", "<!doctype html>", None).write(f"{folder}/page.html").name
            'page.html'
        """
        path = _require_page(path)
        write_text(path, self.page.encode(errors="backslashreplace").decode())  # names need not be UTF-8
        return path


def report(
    model: Model | Run | str | os.PathLike[str],
    data: Any = None,
    result: TrainResult | None = None,
    *,
    evidence: Evidence | None = None,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Report:
    """The report of a model: verdict, numbers with their errors, and pictures, on one self-contained page.

    It is the page that ``tightbound report RUN`` writes. In a notebook the last line of a cell shows it:
    ``tb.report(model, data, result)``. Nothing is written unless ``out`` says where.

    A model is judged on what it has not seen. Of ``Data`` that is the test set. Of the observations that ``result`` is
    the training of, it is what was held out for validation. Of any others it is all of them, and the page says so.

    Args:
        model: any model, also one of your own; or a run, or its folder.
        data: as ``fit`` takes them. Of a run: its data, where no folder keeps them.
        result: what ``fit`` returned, for the curves of the training; without it there are none.
        evidence: what ``tb.evidence`` returned of the observations that are judged; by default that is estimated here.
        out: a file that ends in .html, to write the page to.
        name: what the page is called; the model's class and the data's name by default.
        progress: whether to show how it goes.

    Returns:
        The report: ``report.write("page.html")`` writes it too.

    Raises:
        TypeError: for what is no model and no run, data or a result of another kind, and a model without data.
        ValueError: for data that do not fit the model or that it has seen all, evidence of other observations, and a
            path without .html.

    Example:
        >>> import torch, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> x = torch.randn(60, 5)
        >>> result = tb.fit(model, x, epochs=1, progress=False)
        >>> found = tb.report(model, x, result, progress=False)
        >>> found, found.evidence.observations
        (Report of VAE: .write('page.html') writes the page., 6)
    """
    if out is not None:
        _require_page(out)
    if evidence is not None and not isinstance(evidence, Evidence):
        raise TypeError(f"Expected what tb.evidence returned; got {_kind(evidence)}. Leave it out to have it made.")
    if isinstance(model, str | os.PathLike | Run):
        found = _of_run(model, data, result, evidence, name, progress=progress)
    else:
        found = _of_model(model, data, result, evidence, name, progress=progress)
    if out is not None:
        found.write(out)
    return found


def _require_page(path: Any) -> Path:
    """Refuse what is no path of a page.

    Args:
        path: where one is to be written.

    Raises:
        TypeError: for anything but a path.
        ValueError: for another ending, a folder, and a path that the system does not take.

    Example:
        >>> _require_page("page.txt")
        Traceback (most recent call last):
        ...
        ValueError: Expected the path of a page, which ends in .html; got page.txt. For example: page.html.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"Expected the path of a page; got {path!r}. For example: 'page.html'.")
    require_path(path)
    found = Path(path)
    if found.suffix.lower() != ".html" or found.is_dir():
        got = f"{found}, which is a folder" if found.is_dir() else found
        raise ValueError(f"Expected the path of a page, which ends in .html; got {got}. For example: page.html.")
    return found


def _of_run(
    given: Run | str | os.PathLike[str], data: Any, result: object, evidence: Evidence | None, name: str | None, *,
    progress: bool,
) -> Report:  # fmt: skip
    if result is not None or name is not None:
        what = "result" if result is not None else "name"
        raise TypeError(f"Expected no {what}= with a run, whose folder has it; got one. Leave it out.")
    run = given if isinstance(given, Run) else open_run(Path(given))
    refuse_damaged(run)
    model, found = model_of(run), run.data(data)
    refused: list[str] = []
    told: Told = run
    if evidence is not None or run.evaluation() is None:
        settings = {"remark": remark_of(run), **dataclasses.asdict(run.recipe.evaluate)}
        told = _judged(run, model, found, evidence, refused, train=found.train, progress=progress, **settings)
    shown = evidence if evidence is not None or not isinstance(told, Judged) else told.found.evidence
    return Report(run.name, page_of(told, model, found, refused=refused), shown)


def _of_model(
    model: Model, data: Any, result: TrainResult | None, evidence: Evidence | None, name: str | None, *, progress: bool
) -> Report:
    if not isinstance(model, Model):
        raise TypeError(
            f"Expected a model such as tb.VAE(prior, posterior, likelihood), a run, or a run's folder; got "
            f"{_kind(model)}. Write a tb.Model for one of your own."
        )
    if data is None:
        raise TypeError("Expected data to judge the model on; got none. Give them: tb.report(model, data).")
    if result is not None and not isinstance(result, TrainResult):
        raise TypeError(
            f"Expected what tb.fit returned as result; got {_kind(result)}. Leave it out for a page without curves."
        )
    if name is not None and not isinstance(name, str):
        raise TypeError(f"Expected a name for the page; got {name!r}. For example: name='digits'.")
    made, parts = in_python(name, type(model).__name__, data, result)
    device, dtype = home(model)
    check_model(model, parts.test.eval_batch(0, 2, dtype).to(device), name=said_of(parts.test))
    check_data(model, parts.test)
    remark = "" if made.recipe is None or result is None else remark_on(made.recipe, result.steps)
    unknown = UNKNOWN in parts.test.notes
    remark = " ".join(each for each in (remark, UNKNOWN if unknown else "") if each)
    settings = {"remark": remark, **dataclasses.asdict(EvaluateRecipe())}
    refused: list[str] = []
    train = None if unknown else parts.train
    told = _judged(made, model, parts, evidence, refused, train=train, progress=progress, **settings)
    shown = told.found.evidence if isinstance(told, Judged) else None
    with own_random_state(device):
        return Report(made.name, page_of(told, model, parts, refused=refused), shown)


def _judged(
    told: Told, model: Model, data: Data, evidence: Evidence | None, refused: list[str], *, remark: str, **settings: Any
) -> Told:
    """With its evaluation; where that is refused, a sentence says so."""
    if evidence is not None:
        if evidence.observations != len(data.test):
            whose = "held out for validation" if HELD_OUT in data.test.notes else "of the test set"
            raise ValueError(
                f"Expected evidence of the {len(data.test)} observations {whose}; got evidence of "
                f"{evidence.observations}. Leave it out to have it made."
            )
        said = evidence.remark or noted(remark, data.test)
        return Judged(told, Measured(dataclasses.replace(evidence, remark=said), None))
    try:
        return Judged(told, measure(model, data.test, remark=remark, **settings))
    except ValueError as error:
        refused.append(f"The evaluation was refused. {error}")
        return told


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
