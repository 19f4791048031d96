"""Training, step by step or by epoch; of several runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from tightbound.plots.figure import Figure
from tightbound.plots.style import (
    BLUE,
    GREY,
    NATS,
    ORANGE,
    PALETTE,
    SMALL,
    VERMILION,
    Row,
    column,
    counted,
    describe,
    haloed,
    note,
    number,
    panels,
    plain,
    short,
    styled,
)
from tightbound.training.history import by_epoch

TITLES = {"loss": "Loss", "distortion": "Distortion  −log p(x | z)", "rate": "Rate  log q(z | x) − log p(z)"}
COLOURS = {"train": BLUE, "validation": ORANGE}
LINE = 70  # characters: names that fit above the panels
MANY = 60  # points: more of them hide their own trend
ELBO = "−ELBO"
NOTHING = (
    "Expected lines with 'step', 'split' ('train' or 'validation') and a finite 'loss', 'distortion' or 'rate'; got {} "
    "lines without. Read them from a run's metrics.jsonl."
)


@styled
def training_curves(metrics: Any, *, x: Literal["step", "epoch"] | None = None) -> Figure:
    """Loss, distortion and rate in training and validation; of several runs −ELBO, distortion, rate and validation.

    The vertical range is that of the run after its start: what the first steps add beyond it is cut off, and said.
    Values that are not finite are marked at the bottom.

    Several runs are drawn by what can be compared: −ELBO = distortion + rate, whatever each of them made small. Only
    where the lines have no such terms it is the loss.

    Args:
        metrics: what ``tb.fit`` returns, a run, its ``history``, or lines as in ``metrics.jsonl``: "step", "split"
            ("train" or "validation"), and any of "loss", "distortion" and "rate" in nats per observation; "beta" where
            it changes. A mapping from names to such, or a list of results or runs, for several.
        x: "step" shows every line, "epoch" of training the mean over each epoch. By default steps of one run, and
            epochs of several.

    Raises:
        TypeError: for anything else.
        ValueError: if there is no such line, or none has a finite loss, distortion or rate.

    Example:
        >>> from tightbound.plots import alt_text
        >>> lines = [{"step": 10, "split": "validation", "loss": 3.0}, {"step": 20, "split": "validation", "loss": 2.0}]
        >>> alt_text(training_curves(lines))
        'Loss by step, up to step 20. Best validation loss 2.00 nats at step 20.'
        >>> alt_text(training_curves({"one": lines, "other": lines}, x="step"))
        'Validation loss of 2 runs by step: one, other.'
    """
    if x not in ("step", "epoch", None):
        raise ValueError(f"Expected x='step' or x='epoch'; got {x!r}.")
    runs = _runs(metrics)
    if isinstance(runs, dict):
        return _overlay({name: _by(lines, x or "epoch") for name, lines in runs.items()}, x or "epoch")
    x = x or ("epoch" if isinstance(metrics, Mapping) else "step")
    return _one(_by(runs, x), x, len(runs))


def _runs(metrics: Any) -> list[Row] | dict[str, list[Row]]:
    """The lines of one run, or those of several by their names."""
    if isinstance(metrics, Mapping) and not {"epoch", "train"} <= metrics.keys():
        return {str(name): _lines(each) for name, each in metrics.items()}
    if isinstance(metrics, Sequence) and any(hasattr(each, "metrics") for each in metrics):
        names = [str(getattr(getattr(each, "path", None), "name", place)) for place, each in enumerate(metrics, 1)]
        apart = names if len(set(names)) == len(names) else [f"{i}: {name}" for i, name in enumerate(names, 1)]
        return {name: _lines(each) for name, each in zip(apart, metrics, strict=True)}
    return _lines(metrics)


def _lines(given: Any) -> list[Row]:
    if isinstance(given, Mapping):  # by epoch already
        return _of_history(given)
    found = getattr(given, "metrics", given)
    found = found() if callable(found) else found
    if not isinstance(found, Sequence) or not all(isinstance(line, Mapping) for line in found):
        raise TypeError(
            f"Expected what tb.fit returned, a run, or lines as in metrics.jsonl; got {type(given).__name__}. "
            "For example: training_curves(result), or training_curves({'β = 1': one, 'β = 4': other})."
        )
    return list(found)


def _of_history(history: Mapping[str, Any]) -> list[Row]:
    """Lines of a history, which has them by epoch."""
    lines: list[Row] = []
    for place, epoch in enumerate(history["epoch"]):
        for split in ("train", "validation"):
            values = {name: column[place] for name, column in history.get(split, {}).items()}
            step = {"step": history["step"][place]} if "step" in history else {}
            lines += [{**step, "epoch": epoch, "split": split, **values}] if values else []
    return lines


def _by(lines: Sequence[Row], x: str) -> list[Row]:
    """The lines that stand at a step or at an epoch."""
    known = [line for line in lines if line.get("split") in COLOURS]
    if x == "step":
        return known
    if any(not np.isfinite(column([line], "epoch")[0]) for line in known):
        raise ValueError("Expected a finite 'epoch' in every line; got one that is not. x='step' needs none.")
    return _of_history(by_epoch([{"step": place, **line} for place, line in enumerate(known, 1)]))


def _one(lines: Sequence[Row], x: str, count: int) -> Figure:
    steps = column(lines, x)
    if not np.isfinite(steps).all():
        raise ValueError(f"Expected a finite {x!r} in every line; got one that is not.")
    names = [name for name in TITLES if np.isfinite(column(lines, name, np.nan)).any()]
    if not names:
        raise ValueError(NOTHING.format(count))
    figure, axes = panels(len(names), columns=len(names), width=3.3 if len(names) > 1 else 5.5, height=2.9)
    for panel, name in zip(axes, names, strict=True):
        _curve(panel, lines, steps, name)
        _frame(panel, TITLES[name], x)
    axes[0].set_ylabel(NATS)
    after = _mark_warm_up(axes[0], lines, steps)
    best = _mark_best(axes[names.index("loss")], lines, steps, after, x) if "loss" in names else ""
    handles, words = axes[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="upper right", bbox_to_anchor=(0.99, 0.98), ncols=4)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.92))  # the legend's line above
    what = ", ".join(names).capitalize()
    return describe(figure, f"{what} by {x}, up to {x} {steps.max():g}.{best}")


def _overlay(runs: Mapping[str, Sequence[Row]], x: str) -> Figure:
    """A panel each for −ELBO, distortion and rate in training, and for −ELBO in validation; a colour each run."""
    every = [line for lines in runs.values() for line in lines]
    shown = [each for each in _shown(every) if np.isfinite(_values(every, *each[1:])).any()]
    if not shown:
        raise ValueError(NOTHING.format(len(every)))
    columns = 2 if len(shown) in (2, 4) else len(shown)
    figure, axes = panels(len(shown), columns=columns, width=4.0 if columns < 3 else 3.3, height=2.7)
    colours = _colours(len(runs))
    for panel, (title, split, key) in zip(axes, shown, strict=True):
        at: list[np.ndarray] = []
        for (name, lines), colour in zip(runs.items(), colours, strict=True):
            place, values = column([line for line in lines if line["split"] == split], x), _values(lines, split, key)
            _thread(panel, place, values, plain(name), colour, ringed=split == "validation")
            at.append(np.stack([place, values]))
        points = np.concatenate(at, 1)
        _limit(panel, points[0], points[1])
        _frame(panel, title, x)
    for panel in axes[::columns]:
        panel.set_ylabel(NATS)
    handles, words = axes[0].get_legend_handles_labels()
    if sum(map(len, words)) <= LINE:
        figure.legend(handles, words, loc="outside upper left", ncols=len(words))
    else:
        beside = -(-len(words) // 20)
        figure.set_figwidth(figure.get_figwidth() + beside * (0.5 + 0.075 * max(map(len, words))))
        figure.legend(handles, words, loc="outside right upper", ncols=beside)
    note(figure, _remark(every, {split for _, split, _ in shown}))
    what = _listed(shown)
    return describe(figure, f"{what} of {counted(len(runs), 'run')} by {x}: {', '.join(runs)}.")


def _listed(shown: Sequence[tuple[str, str, str]]) -> str:
    return ", ".join(title.partition("  ")[0] for title, _, _ in shown)


def _shown(every: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Titles of panels, with the split and the value that each shows."""
    found = []
    for split, words in (("train", "Training"), ("validation", "Validation")):
        if np.isfinite(_values(every, split, ELBO)).any():
            found.append((f"{words} −ELBO  distortion + rate", split, ELBO))
        else:
            found.append((f"{words} loss", split, "loss"))
    others = [(TITLES[name], "train", name) for name in ("distortion", "rate")]
    return [found[0], *others, found[1]]


def _values(lines: Sequence[Row], split: str, key: str) -> np.ndarray:
    rows = [line for line in lines if line["split"] == split]
    if key == ELBO:
        return column(rows, "distortion", np.nan) + column(rows, "rate", np.nan)
    return column(rows, key, np.nan)


def _colours(count: int) -> Sequence[Any]:
    """The house's, or where there are more runs than those, from dark to light in the runs' order."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.92, count)))


def _thread(panel: Axes, x: np.ndarray, values: np.ndarray, name: str, colour: Any, *, ringed: bool) -> None:
    """One run's line, and where asked a ring round its lowest point."""
    fine = np.isfinite(values)
    order = np.argsort(x[fine], kind="stable")
    at, y = x[fine][order], values[fine][order]
    if not len(at):
        panel.plot([], [], color=colour, label=name)
        return
    smooth = _smoothed(y) if len(y) > MANY else y
    panel.plot(at, smooth, "o-" if len(at) == 1 else "-", ms=3, color=colour, label=name, lw=1.4)
    if ringed and len(at) > 1:
        lowest = int(y.argmin())
        panel.plot(at[lowest], smooth[lowest], "o", ms=6, mfc="none", mec=colour, mew=1.2)


def _remark(every: Sequence[Row], splits: set[str]) -> str:
    """What a reader must know of the figure."""
    words = ["Distortion and rate: in training."]
    words += ["Ringed: each run's lowest."] if "validation" in splits else []
    elbo, loss = (_values(every, "train", key) for key in (ELBO, "loss"))
    known = np.isfinite(elbo) & np.isfinite(loss)
    if known.any() and not np.allclose(elbo[known], loss[known], rtol=1e-3):
        words.append("\nA run that made something else small than −ELBO has a loss on another scale, not shown.")
    return " ".join(words).replace(" \n", "\n")


def _curve(panel: Axes, lines: Sequence[Row], steps: np.ndarray, name: str) -> None:
    values = column(lines, name, np.nan)
    given = np.array([name in line for line in lines])
    for split, colour in COLOURS.items():
        chosen = given & np.array([line["split"] == split for line in lines])
        _line(panel, steps[chosen], values[chosen], split, colour)
    for step in steps[given & ~np.isfinite(values)]:
        panel.axvline(step, 0, 0.04, color=VERMILION, lw=1.5)
    broken = int((given & ~np.isfinite(values)).sum())
    _limit(panel, steps, values, f"red: not finite, {counted(broken, 'line')}" if broken else "")


def _limit(panel: Axes, steps: np.ndarray, values: np.ndarray, more: str = "") -> None:
    """The vertical range, and in the corners what lies beyond it."""
    low, high = _range(steps, values)
    panel.set_ylim(low, high)
    fine = values[np.isfinite(values)]
    words = [f"off the top: up to {short(fine.max())}"] if fine.max() > high else []
    _corner(panel, 0.97, "\n".join([*words, more] if more else words))
    _corner(panel, 0.05, f"off the bottom: down to {short(fine.min())}" if fine.min() < low else "")


def _frame(panel: Axes, title: str, x: str) -> None:
    panel.set(title=title, xlabel=x)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.yaxis.set_major_locator(MaxNLocator(6))


def _corner(panel: Axes, y: float, words: str) -> None:
    if words:
        align = "top" if y > 0.5 else "bottom"
        haloed(panel.text(0.98, y, words, transform=panel.transAxes, ha="right", va=align, fontsize=SMALL, color=GREY))


def _line(panel: Axes, steps: np.ndarray, values: np.ndarray, split: str, colour: str) -> None:
    fine = np.isfinite(values)
    order = np.argsort(steps[fine], kind="stable")
    x, y = steps[fine][order], values[fine][order]
    if len(x) > MANY:
        panel.plot(x, y, color=colour, alpha=0.3, lw=0.8)
        panel.plot(x, _smoothed(y), color=colour, label=f"{split} (running mean)")
    elif len(x):
        panel.plot(x, y, "o-" if split == "validation" or len(x) == 1 else "-", ms=3, color=colour, label=split)


def _smoothed(y: np.ndarray) -> np.ndarray:
    window = np.ones(2 * (len(y) // 60) + 1)
    return np.convolve(y, window, "same") / np.convolve(np.ones(len(y)), window, "same")


def _range(steps: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Limits that hold everything, or all after the first tenth of the run if its start would squash the rest."""
    fine = np.isfinite(values)
    steps, values = steps[fine], values[fine]
    later = values[steps >= steps.min() + 0.1 * (steps.max() - steps.min())]
    low, high = np.percentile(later, [0.5, 99.5])
    room = 0.6 * (high - low) or max(abs(high), 1.0)
    low, high = max(values.min(), low - room), min(values.max(), high + room)
    pad = 0.06 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - pad, high + pad


def _mark_warm_up(panel: Axes, lines: Sequence[Row], steps: np.ndarray) -> float:
    """A line where β stops changing, and that step: losses before it are on other scales."""
    betas = column(lines, "beta", np.nan)
    known = np.isfinite(betas)
    changing = known & (betas != betas[known][-1]) if known.any() else known
    if not changing.any():
        return -np.inf
    end = float(steps[changing].max())
    panel.axvline(end, color=GREY, lw=1, ls=":", label=f"β reaches {betas[known][-1]:g}")
    return end


def _mark_best(panel: Axes, lines: Sequence[Row], steps: np.ndarray, after: float, x: str) -> str:
    loss = column(lines, "loss", np.nan)
    loss[[line["split"] != "validation" for line in lines] | (steps <= after)] = np.nan
    if np.isnan(loss).all():
        return ""
    best = int(np.nanargmin(loss))
    panel.plot(steps[best], loss[best], "o", ms=9, mfc="none", mec=COLOURS["validation"], mew=1.4)
    words = number(loss[best], 2)
    place = (steps[best], loss[best])
    haloed(panel.annotate(words, place, (0, 8), textcoords="offset points", ha="center", fontweight="bold"))
    return f" Best validation loss {words} nats at {x} {steps[best]:g}."
