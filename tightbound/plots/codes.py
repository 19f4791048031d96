"""The latent code as a whole: where observations lie in it, and how many nats each element carries."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import matplotlib.cm
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from torch import Tensor

from tightbound.plots.figure import Figure
from tightbound.plots.pictures import label_name
from tightbound.plots.style import (
    BLUE,
    GREY,
    HALF,
    INK,
    NATS,
    PALETTE,
    SHADE,
    SMALL,
    Array,
    alive_by,
    as_array,
    counted,
    describe,
    fractions,
    haloed,
    number,
    plain,
    styled,
    z_name,
)

NAMED = 20  # labels: more of them get a colour bar
# Tol's muted scheme, https://sronpersonalpages.nl/~pault: told apart with any colour vision; the tenth is a grey.
TEN = ("#CC6677", "#332288", "#C9AE3D", "#117733", "#56B4E9", "#882255", "#44AA99", "#999933", "#AA4499", "#555555")


@styled
def latent_map(
    codes: Array,
    labels: Array | None = None,
    label_names: Sequence[str] = (),
    *,
    dimensions: tuple[int, int] | None = None,
    colours: Sequence[str] = (),
    circles: Sequence[float] = (1.0, 2.0),
) -> Figure:
    """Codes in the plane, coloured by label: the two elements themselves, or two principal components of more.

    Args:
        codes: shape (N, L), posterior means.
        labels: shape (N,), integers.
        label_names: what label 0, 1, … is called.
        dimensions: two elements to show of longer codes, in place of principal components.
        colours: of label 0, 1, …, as matplotlib names them; by default colours that all readers tell apart.
        circles: for two-dimensional codes, radii drawn round 0: standard deviations of a standard-normal prior.

    Raises:
        ValueError: for codes that are not (N, L), not finite, or fewer than two; labels of another length or kind;
            dimensions that are not two different ones of them; fewer colours than labels.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(latent_map(np.eye(3)))
        'Map of 3 codes: 2 principal components of 3 dimensions, 100 % of the variance.'
    """
    points = _checked(codes)
    kinds = None if labels is None else _labels(labels, len(points))
    figure = Figure(figsize=(HALF, 4.2))
    panel = figure.add_subplot()
    length = points.shape[1]
    if length == 1:
        _histogram(panel, points[:, 0], kinds, label_names)
        return describe(figure, f"Histogram of {len(points)} one-dimensional codes.")
    what = "2 dimensions"
    shown = _two(dimensions, length)
    panel.set(xlabel=z_name(shown[0]), ylabel=z_name(shown[1]))
    if length > 2 and dimensions is None:
        points, shares = _principal(points)
        panel.set(
            xlabel=f"principal component 1 ({100 * shares[0]:.0f} % of variance)",
            ylabel=f"principal component 2 ({100 * shares[1]:.0f} % of variance)",
        )
        what = f"2 principal components of {length} dimensions, {100 * shares.sum():.0f} % of the variance"
    else:
        points = points[:, shown]
        _circles(panel, circles)
    _scatter(figure, panel, points, kinds, label_names, colours)
    panel.set_aspect("equal", adjustable="datalim")
    by = "" if kinds is None else f", coloured by {counted(len(np.unique(kinds)), 'label')}"
    return describe(figure, f"Map of {len(points)} codes: {what}{by}.")


def _checked(codes: Array) -> np.ndarray:
    points = as_array(codes, "codes")
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"Expected at least 2 codes of shape (N, L); got {points.shape}. Use model.embed(x).")
    if not np.isfinite(points).all():
        raise ValueError(f"Expected finite codes; got {int((~np.isfinite(points)).any(1).sum())} that are not.")
    return points.astype(np.float64)


def _labels(labels: Array, count: int) -> np.ndarray:
    values = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if values.shape != (count,) or values.dtype.kind not in "biu":
        raise ValueError(f"Expected {count} integer labels; got {values.dtype} of shape {values.shape}.")
    return values.astype(np.int64)


def _two(dimensions: tuple[int, int] | None, length: int) -> list[int]:
    if dimensions is None:
        return [0, 1]
    two = [int(each) for each in dimensions]
    if len(set(two)) != 2 or len(two) != 2 or not all(0 <= each < length for each in two):
        raise ValueError(f"Expected two different dimensions from 0 to {length - 1}; got {tuple(dimensions)}.")
    return two


def _principal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two principal components, each with its largest loading positive, and their shares of the variance."""
    centred = points - points.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    top = directions[:, [-1, -2]]
    top = top * np.sign(top[np.abs(top).argmax(0), [0, 1]])
    return centred @ top, variances[[-1, -2]] / max(variances.sum(), np.finfo(float).tiny)


def _circles(panel: Axes, radii: Sequence[float]) -> None:
    for radius in radii:
        panel.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GREY, ls=(0, (4, 3)), lw=0.9, zorder=3))
        haloed(
            panel.text(
                0, radius, f"{radius:g} σ of the prior", ha="center", va="bottom", fontsize=SMALL, color=GREY, zorder=4
            )
        )


def _colours(count: int) -> list[str]:
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    if count <= len(TEN):
        return list(TEN[:count])
    return [matplotlib.colors.to_hex(c) for c in matplotlib.colormaps["viridis"](np.linspace(0, 0.95, count))]


def _scatter(
    figure: Figure, panel: Axes, points: np.ndarray, kinds: np.ndarray | None, names: Sequence[str],
    given: Sequence[str],
) -> None:  # fmt: skip
    # In a random order: the last label drawn would hide the others.
    order = np.random.default_rng(0).permutation(len(points))
    size, alpha = np.clip(16000 / len(points), 4, 20), np.clip(40 / np.sqrt(len(points)), 0.35, 0.85)
    found = np.zeros(1, np.int64) if kinds is None else np.unique(kinds)
    if given and (found[0] < 0 or found[-1] >= len(given)):
        raise ValueError(f"Expected a colour for each label, 0 to {found[-1]}; got {len(given)}.")
    colours = np.array([given[int(label)] for label in found] if given else _colours(len(found)))
    which = np.zeros(len(points), np.int64) if kinds is None else np.searchsorted(found, kinds)
    panel.scatter(
        points[order, 0], points[order, 1], s=size, c=colours[which[order]], alpha=alpha, linewidths=0, zorder=2
    )
    if kinds is None:
        return
    if len(found) > NAMED:
        scale = matplotlib.colors.ListedColormap(list(colours))
        bar = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(found[0], found[-1]), scale)
        figure.colorbar(bar, ax=panel, label="label")
        return
    words = [plain(label_name(int(label), names)) for label in found]
    keys = [Line2D([], [], marker="o", ls="", ms=5, color=c, label=w) for c, w in zip(colours, words, strict=True)]
    figure.legend(handles=keys, loc="outside right upper", title="label")
    _name_middles(panel, [np.median(points[which == index], 0) for index in range(len(found))], words)


def _name_middles(panel: Axes, middles: Sequence[np.ndarray], words: Sequence[str]) -> None:
    """The names at the medians, but not where one would lie on another: the legend has them all."""
    taken: list[tuple[np.ndarray, float]] = []
    for (x, y), at, word in zip(middles, fractions(panel, np.stack(middles)), words, strict=True):
        half = 0.01 + 0.008 * len(word)
        if all(abs(at[0] - other[0]) > half + wide or abs(at[1] - other[1]) > 0.035 for other, wide in taken):
            haloed(panel.text(x, y, word, ha="center", va="center", fontweight="bold", color=INK, zorder=5))
            taken.append((at, half))


def _histogram(panel: Axes, values: np.ndarray, kinds: np.ndarray | None, names: Sequence[str]) -> None:
    edges = list(np.histogram_bin_edges(values, 40))
    found = [None] if kinds is None or len(np.unique(kinds)) > NAMED else list(np.unique(kinds))
    for label, colour in zip(found, _colours(len(found)), strict=True):
        chosen = values if label is None else values[kinds == label]
        words = None if label is None else plain(label_name(int(label), names))
        panel.hist(chosen, edges, histtype="step", lw=1.6, color=colour, label=words)
    panel.set(xlabel=z_name(0), ylabel="observations")
    if found[0] is not None:
        panel.legend(title="label")


@styled
def kl_per_dimension(kl: Array, active: Array | None = None) -> Figure:
    """Nats each latent dimension carries, most first; dead ones greyed.

    Args:
        kl: mean KL of each dimension, shape (L,), in nats.
        active: which are alive, shape (L,), booleans; by default those of at least 0.01 nats.

    Raises:
        ValueError: for another shape, or values that are not finite.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(kl_per_dimension(np.array([0.0, 2.5, 1.5])))
        'KL of 3 latent dimensions, 2 of them active, 4.00 nats in all: z₁ 2.50, z₂ 1.50, z₀ 0.00.'
    """
    nats = as_array(kl, "nats per dimension")
    if nats.ndim != 1 or not len(nats) or not np.isfinite(nats).all():
        raise ValueError(
            f"Expected finite nats of shape (L,), one for each dimension; got {nats.shape}. "
            "Average over observations first: kl.mean(0)."
        )
    alive = alive_by(nats, active)
    order = np.argsort(-nats, kind="stable")
    figure = Figure(figsize=(min(max(HALF, 1.2 + 0.25 * len(nats)), 8.0), 3.7))
    panel = figure.add_subplot()
    panel.bar(range(len(nats)), nats[order], color=[BLUE if alive[j] else GREY for j in order], width=0.8)
    for place in np.flatnonzero(~alive[order]):
        panel.axvspan(place - 0.5, place + 0.5, color=SHADE, linewidth=0, zorder=0)
    panel.set(ylabel=NATS, xlabel="latent dimension, most nats first")
    panel.set_title(f"{alive.sum()} of {len(nats)} dimensions active, {number(nats.sum())} nats in all")
    panel.grid(visible=False, axis="x")
    panel.set_xlim(-0.8, len(nats) - 0.2)
    every = -(-len(nats) // 25)
    panel.set_xticks(range(0, len(nats), every), [z_name(int(j)) for j in order[::every]])
    for tick, j in zip(panel.get_xticklabels(), order[::every], strict=True):
        tick.set_color(INK if alive[j] else GREY)
    if not alive.all():
        keys = [Patch(color=SHADE, label="dead")]  # above: the first bar is high, and all else may be shaded
        panel.legend(handles=keys, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    listed = ", ".join(f"{z_name(int(j))} {number(nats[j], 2)}" for j in order[:10])
    counts = f"KL of {len(nats)} latent dimensions, {alive.sum()} of them active, {number(nats.sum(), 2)} nats in all"
    return describe(figure, f"{counts}: {listed}{', …' if len(nats) > 10 else ''}.")
