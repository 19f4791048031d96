"""The figures of :mod:`tightbound.labs.training`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tightbound.plots import style
from tightbound.plots.figure import Figure
from tightbound.plots.tradeoff import rate_distortion_on, tradeoff_on

PANELS = {
    "elbo": "ELBO",
    "reconstruction": "Reconstruction term, E log p(x | z)",
    "kl": "KL term, the rate",
    "objective": "Total:  −distortion − β · rate",
}


@style.styled
def trade_off_figure(numbers: Mapping[str, Any]) -> Figure:
    """A row for each quantity, over training and over β; below, the curve of rate and distortion, and the choice.

    Args:
        numbers: of the lab.
    """
    figure = Figure(figsize=(9.6, 13.2))
    grid = figure.add_gridspec(5, 2, height_ratios=[1, 1, 1, 1, 1.7])
    left = [figure.add_subplot(grid[row, 0]) for row in range(4)]
    right = [figure.add_subplot(grid[row, 1], sharey=left[row]) for row in range(4)]
    _over_training(left, numbers["curves"])
    best = tradeoff_on(right, numbers["rows"])
    right[-1].set_xlabel("β, the weight of the KL term in training")
    rate_distortion_on(panel := figure.add_subplot(grid[4, 0]), numbers["rows"])
    panel.set_title("Rate and distortion")
    _choices(figure.add_subplot(grid[4, 1]), numbers["choices"])
    figure.legend(*left[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(numbers["betas"]))
    style.note(
        figure,
        "Held-out digits. Left: after each epoch. Right: at the end, ± 2 standard errors; ringed: the highest ELBO. "
        "Grey lines below: equal ELBO.\nTotals at different β are on different scales: no ranking.",
    )
    span = f"β from {numbers['rows'][0]['beta']:g} to {numbers['rows'][-1]['beta']:g}"
    return style.describe(
        figure,
        f"ELBO, reconstruction term, KL term and total over training and over β for {len(numbers['rows'])} runs on "
        f"digits, {span}, with the curve of rate and distortion. Highest ELBO {style.number(best['elbo'], 2)} nats at "
        f"β = {best['beta']:g}.",
    )


def _over_training(axes: Sequence[Axes], curves: Sequence[Mapping[str, Any]]) -> None:
    for panel, (name, title) in zip(axes, PANELS.items(), strict=True):
        for curve, colour in zip(curves, _shades(len(curves)), strict=True):
            steps, values = (np.array([point[key] for point in curve["points"]]) for key in ("step", name))
            panel.plot(steps, values, color=colour, lw=1.4, label=f"β = {curve['beta']:g}")
        panel.set(title=title, ylabel=style.NATS)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[-1].set_xlabel("step of training")


def _choices(panel: Axes, chosen: Sequence[Mapping[str, Any]]) -> None:
    """Which β for which purpose, in words."""
    panel.set_axis_off()
    panel.set_title("Which β, by these numbers")
    lines: list[str] = []
    for choice in chosen:
        value = "none" if choice["value"] is None else f"β = {choice['value']:g}"
        lines += [f"For {choice['purpose']}: {value}", *textwrap.wrap(choice["because"], 56), ""]
    y = 0.97
    for line in lines:
        bold = "bold" if line.startswith("For ") else "normal"
        panel.text(0.02, y, style.plain(line), transform=panel.transAxes, va="top", fontsize=8.5, fontweight=bold)
        y -= 0.062


def _shades(count: int) -> list[tuple[float, ...]]:
    """One colour for each, dark to light: an order that any eye can see."""
    return [tuple(colour) for colour in matplotlib.colormaps["viridis"](np.linspace(0, 0.92, count))]


@style.styled
def decomposition_figure(numbers: Mapping[str, Any]) -> Figure:
    """The parts stacked up to the negative ELBO; below, the rate of each latent and when it wakes.

    Args:
        numbers: of the lab.
    """
    figure = Figure(figsize=(9.0, 8.2))
    grid = figure.add_gridspec(2, 1, height_ratios=[1.15, 1])
    top = figure.add_subplot(grid[0])
    bottom = figure.add_subplot(grid[1], sharex=top)
    ordered = sorted(numbers["latents"], key=lambda latent: (latent["awake_by"] or np.inf, latent["latent"]))
    order = [latent["latent"] for latent in ordered]
    steps = np.array([line["step"] for line in numbers["lines"]])
    rates = np.array([line["rates"] for line in numbers["lines"]])[:, order]
    shades = _shades(len(order))
    _stack(top, numbers["lines"], steps, rates, shades)
    _wakings(figure, bottom, steps, rates, ordered)
    for label, shade in zip(bottom.get_yticklabels(), shades, strict=True):
        label.set_color(shade)  # type: ignore[arg-type]
        label.set_fontweight("bold")
    style.note(
        figure,
        "Means over each epoch, on the training's own batches. The parts add up to the loss that was trained on: "
        f"at most {_power(numbers['largest_difference'])} nats apart.",
    )
    awake = [latent for latent in ordered if latent["awake_by"] is not None]
    return style.describe(
        figure,
        f"Negative ELBO over {numbers['steps']} steps as distortion plus the rate of {len(order)} latents, of which "
        f"{len(awake)} wake; parts and total are at most {_power(numbers['largest_difference'])} nats apart.",
    )


def _stack(
    panel: Axes, lines: Sequence[Mapping[str, Any]], steps: np.ndarray, rates: np.ndarray, shades: Sequence[Any]
) -> None:
    distortion = np.array([line["distortion"] for line in lines])
    loss = np.array([line["loss"] for line in lines])
    edges = distortion[:, None] + np.concatenate([np.zeros((len(steps), 1)), rates.cumsum(1)], 1)
    for place, shade in enumerate(shades):
        panel.fill_between(steps, edges[:, place], edges[:, place + 1], color=shade, lw=0, alpha=0.75)
    panel.plot(steps, loss, color=style.INK, lw=1.6, label="−ELBO, the loss")
    panel.plot(steps, distortion, color=style.VERMILION, lw=1.6, label="distortion, −E log p(x | z)")
    panel.fill_between(
        [], [], color=shades[len(shades) // 2], alpha=0.75, label="between them: the rate, latent by latent"
    )
    panel.set(title="−ELBO = distortion + rate", ylabel=style.NATS)
    panel.legend(loc="upper right")
    panel.set_xlim(0, steps[-1])
    panel.tick_params(labelbottom=False)


def _wakings(
    figure: Figure, panel: Axes, steps: np.ndarray, rates: np.ndarray, ordered: Sequence[Mapping[str, Any]]
) -> None:
    starts = np.concatenate([[0], steps])
    mesh = panel.pcolormesh(starts, np.arange(len(ordered) + 1) - 0.5, rates.T, cmap="Blues", vmin=0)
    figure.colorbar(mesh, ax=panel, label="KL of the latent, nats", pad=0.01)
    for row, latent in enumerate(ordered):
        by = latent["awake_by"]
        at = 0 if by is None else starts[int(np.flatnonzero(steps == by)[0])]  # where that epoch begins
        if by is not None:
            panel.plot([at, at], [row - 0.5, row + 0.5], color=style.VERMILION, lw=2)
        words = " asleep at the end" if by is None else f" awake by step {by}"
        style.haloed(panel.text(at, row, words, va="center", fontsize=8))
    panel.set_yticks(range(len(ordered)), [style.z_name(latent["latent"]) for latent in ordered])
    panel.invert_yaxis()
    panel.grid(visible=False)
    panel.set(
        title="The rate of each latent, in the order of waking (red: 0.1 nats, for good)", xlabel="step of training"
    )


def _power(value: float) -> str:
    return f"{value:.0e}".replace("-", "−")
