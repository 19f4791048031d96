"""What was measured of a run as sections of its page: words, and tables of numbers with their errors."""

from __future__ import annotations

import html
import re
from typing import Any

from tightbound.evaluate import Estimate
from tightbound.evaluate.check import TITLES
from tightbound.evaluate.fidelity import NOTES, TOLD
from tightbound.reports.terms import linked
from tightbound.runs.folder import (
    CERTIFICATE,
    CHECKS,
    CLASSIFICATION,
    DISENTANGLEMENT,
    EVALUATION,
    GAPS,
    INDEPENDENCE,
    INFORMATION,
)

_ESTIMATED = {
    "refined": "by proposals fitted to each observation",
    "enumerated": "as the sum over all codes",
    "posterior": "from {samples} samples of q(z|x)",
}


def evidence(found: dict[str, Any]) -> str:
    return _verdict(found) + "\n" + _table(found)


def _verdict(found: dict[str, Any]) -> str:
    fine = found["reliable"] and found["is_likelihood"]
    proposal = _proposal(found)
    bound = ("exact" if proposal == "enumerated" else "estimate") if fine else "lower bound"
    name = f"log p(x), {bound} {_ESTIMATED[proposal].format(**found)}"
    what_is_active = "variables of the code" if found.get("information") else "latent dimensions"
    units = f"of {found['latent_dim']} {what_is_active} active"
    tiles = [
        (
            estimate(-found["nll"], found["nll_se"]),
            name if found["is_likelihood"] else "no log p(x): see below",
        ),
        (estimate(found["elbo"], found["elbo_se"]), "ELBO"),
        (estimate(found["gap"], found["gap_se"]), "nats between the two"),
        (estimate(found["rate"], found["rate_se"]), "nats in the code, the rate"),
        ((str(found["active_units"]), ""), units),
    ]
    shown = "".join(
        f"<div><b>{escaped(value)} <small>{escaped(error)}</small></b><span>{escaped(what)}</span></div>"
        for (value, error), what in tiles
    )
    warning = "" if fine else "<small>read with care</small>"
    kind = "wide verdict" if fine else "wide verdict warning"
    points = "\n".join(f"<li>{with_commands(text)}</li>" for text in found.get("findings") or [found["verdict"]])
    return (
        f'<section class="{kind}"><h2>Verdict{warning}</h2><div class="tiles">{shown}</div><ul>{points}</ul></section>'
    )


def with_commands(text: str) -> str:
    """Escaped, and what can be typed as such."""
    value = r"--[a-z]+[.][a-z-]+(?: [a-zN0-9.]*[a-zN0-9])?"
    command = rf"\btightbound [a-z]+ (?:--resume )?RUN\b(?: {value})*"
    return re.sub(rf"{command}|{value}", r"<code>\g<0></code>", escaped(text))


def _table(found: dict[str, Any]) -> str:
    how = str(found["rate_kind"]).replace("-", " ")
    kind = "estimate of −log p(x) " if found["reliable"] else "upper bound on −log p(x) "
    nll = kind + _ESTIMATED[_proposal(found)].format(**found)
    rows = [
        ("ELBO", found["elbo"], found["elbo_se"], "lower bound on log p(x), higher is better"),
        ("distortion", found["distortion"], found["distortion_se"], "−E log p(x|z): what the reconstruction costs"),
        ("rate", found["rate"], found["rate_se"], f"KL(q(z|x) ‖ p(z)), {how}: what the code costs"),
        *(
            (f"rate, layer {i}", layer["value"], layer["se"], "of that, a layer given those above it")
            for i, layer in enumerate(found.get("rate_by_layer", ()), 1)
        ),
        *(
            (f"IWAE, K = {bound['samples']}", bound["value"], bound["se"], "importance-weighted bound of K samples")
            for bound in found["iwae"]
        ),
        ("NLL", found["nll"], found["nll_se"], nll if found["is_likelihood"] else "no likelihood: see the verdict"),
    ]
    cells = [row_of(name, *estimate(value, error), about) for name, value, error, about in rows]
    moves = "it tells more than 0.01 nats about x" if found.get("information") else "the posterior's mean moves with x"
    cells += [
        *_baselines(found),
        row_of("bits per dimension", f"{found['bits_per_dim']:.4f}", "", "NLL in bits, by element of an observation"),
        *_middle(found),
        *_trust(found),
        row_of("active units", f"{found['active_units']} of {found['latent_dim']}", "", moves),
    ]
    note = f"{found['observations']} observations; of each, bounds from {found['samples']} samples of q(z|x)."
    return f'<section class="wide"><h2>Evidence</h2><p class="note">{escaped(note)}</p>{framed(cells)}</section>'


def certificate(found: dict[str, Any]) -> str:
    """Both methods and both bounds, and what they prove."""
    rows = [
        ("NLL, refined", "refined", "by proposals fitted to each of the observations"),
        ("NLL, annealed", "annealed", "by a walk from these proposals to the true posteriors"),
        ("difference", "difference", "of log p(x), paired by observation"),
        ("lower bound", "lower", "on log p(x) of observations that the model simulated"),
        ("upper bound", "upper", "on the same, from exact draws of their posteriors"),
        ("gap", "gap", "between the two, paired by observation"),
    ]
    return _checked("Certificate", found["verdict"], found, rows)


def gaps(found: dict[str, Any]) -> str:
    """Where the nats between ELBO and log p(x) go, on the test set and on training observations."""
    rows = [
        ("gap", "gap", "log p(x) less the ELBO"),
        ("encoder", "amortisation", "lost by the encoder to the best member of its family"),
        ("family", "approximation", "lost by that best member"),
        ("full covariance", "full_wins", "what a full covariance wins over none, each fitted to the observation"),
    ]
    return _checked("How loose the bound is, and why", found["verdict"], found["test"], rows)


def information(found: dict[str, Any]) -> str:
    """What the code tells, and where the rest of the rate goes."""
    rows = [
        ("rate", "rate", "E log q(z|x) − log p(z)"),
        ("at least", "lower", "mutual information of code and observation"),
        ("at most", "upper", "of the same"),
        ("all codes", "marginal_kl", "KL(q(z) ‖ p(z)): how far all codes together are from the prior"),
        ("total correlation", "total_correlation", "of that, dependence between the dimensions"),
        ("dimensions", "dimension_wise", "of that, each dimension by itself"),
    ]
    return _checked("What the code tells", found["verdict"], found, rows)


def checks(found: dict[str, Any]) -> str:
    """What comes true of what the model says: intervals, predictions, samples."""
    cells = []
    for name, of in (("posterior", "q(z|x)"), ("refined", "refined proposals")):
        for each in [] if found[name] is None else found[name]["coverage"]:
            about = f"of the latents that simulated data were made of lie in central {each['interval']:.0%} intervals"
            cells.append(row_of(of, *estimate(each["value"], each["se"]), about))
    rows = (
        (
            "predictive",
            "replicas",
            "realised",
            "mean p-value: share of replicas that are less likely than the test data",
        ),
        ("predictive", "the model's own", "simulated", "the same of data that the model made"),
        (
            "predictive",
            "what is made",
            "above",
            "share of what the model makes that has a lower ELBO than the test data",
        ),
        ("neighbours", "neighbours", "nearer", "share of pairs in which a sample is nearer to training than test data"),
        ("neighbours", "very near", "very_near", "share of samples nearer than all but 1 % of the test data"),
        *(
            ("fidelity", f"{TOLD.get(name, name)}{of}", f"{key}{name}", about)
            for name, about in NOTES.items()
            for of, key in (("", ""), (", data", "reference_"))
        ),
    )
    for check, name, key, about in rows:
        if (report := found.get(check)) is not None:
            cells.append(row_of(name, *estimate(report[key], report[f"{key}_se"]), about))
    said = "".join(f"<p>{escaped(part)}</p>" for part in found["verdict"].split("\n\n"))
    left_out = "".join(
        f'<p class="note">Left out, {escaped(TITLES.get(name, name))}: {escaped(reason)}</p>'
        for name, reason in found["skipped"].items()
    )
    table = framed(cells, unit="share")
    return f'<section class="wide"><h2>Does it come true?</h2>{said}{left_out}{table}</section>'


def classification(found: dict[str, Any]) -> str:
    """How often one class is taken for another."""
    names = ("error", "expected_error")
    shares = {key: 100 * found[key] for name in names for key in (name, f"{name}_se") if found[key] is not None}
    rows = [("error", "error", "taken for another class"), ("expected", "expected_error", "by q(y|x) itself")]
    cells = [row_of(name, *estimate(shares[key], shares.get(f"{key}_se")), about) for name, key, about in rows]
    verdict = escaped(found["verdict"])
    return f'<section class="wide"><h2>Classes</h2><p>{verdict}</p>{framed(cells, unit="%")}</section>'


def independence(found: dict[str, Any]) -> str:
    """How far dimensions depend on one another, where no factor is known."""
    rows = [("total correlation", "total_correlation", "of q(z) over its dimensions")]
    return _checked("What can be said of dimensions without known factors", found["verdict"], found, rows)


def disentanglement(found: dict[str, Any]) -> str:
    """How far each latent dimension stands for one known factor."""
    cells = []
    for score in found["scores"].values():
        about = f"{score['definition']} Chance {score['chance']:.2f}, a perfect code {score['perfect']:.2f}."
        cells.append(row_of(score["title"], *estimate(score["value"], score["se"]), about))
    title, verdict = "What each latent dimension stands for", escaped(found["verdict"])
    return f'<section class="wide"><h2>{title}</h2><p>{verdict}</p>{framed(cells, unit="score")}</section>'


def _checked(title: str, verdict: str, found: dict[str, Any], rows: list[tuple[str, str, str]]) -> str:
    cells = [
        row_of(name, *estimate(found[key], found[f"{key}_se"]), about)
        for name, key, about in rows
        if found[key] is not None
    ]
    return f'<section class="wide"><h2>{title}</h2><p>{escaped(verdict)}</p>{framed(cells)}</section>'


def _baselines(found: dict[str, Any]) -> list[str]:
    """Rows on what simple models reach; none in evaluations that an older version kept."""
    known = found.get("baselines") or {}
    named = (
        ("independent", "independent", "the same likelihood without a latent"),
        ("PPCA", "ppca", f"a normal with {known.get('latent_dim')} directions and even noise"),
        ("PNG", "png", "compressed pixels of a PNG file"),
        ("least", "entropy", "the data’s own entropy: no model needs less on average"),
    )
    return [
        row_of(f"NLL, {name}", *estimate(known[key], known[f"{key}_se"]), about)
        for name, key, about in named
        if known.get(key) is not None
    ]


def _middle(found: dict[str, Any]) -> list[str]:
    """A row on what no far observation can move; none in evaluations that an older version kept."""
    if found.get("nll_trimmed") is None:
        return []
    about = f"of the middle 90 % of the observations; the median is {found['nll_median']:.2f}"
    return [row_of("NLL, middle 90 %", *estimate(found["nll_trimmed"], found["nll_trimmed_se"]), about)]


def _trust(found: dict[str, Any]) -> list[str]:
    """Rows on the draws behind the NLL; none where it is an exact sum."""
    if _proposal(found) == "enumerated":
        return []
    rows = [
        row_of("effective samples", f"{found['ess_median']:.4g}", "", "of these draws; median over the observations")
    ]
    if "draws_mean" in found:
        error = found["draws_error"]
        noise = "" if error is None else f"; their noise moves the mean by {error:.2g}"
        about = f"for the NLL of an observation, at most {found['draws_max']}{noise}"
        rows.insert(0, row_of("draws", f"{found['draws_mean']:.4g}", "", about))
        share = f"of the weights' tail, median; above 0.7 for {found['high_k_share']:.1%} of the observations"
        k = found["k_median"]
        rows.append(row_of("Pareto's k", "unknown" if k is None else f"{k:.2f}".replace("-", "−"), "", share))
    return rows


def _proposal(found: dict[str, Any]) -> str:
    """What log p(x) came from; in evaluations that an older version kept, from the posterior."""
    return str(found.get("proposal", "posterior"))


def framed(cells: list[str], unit: str = "nats") -> str:
    """A table of rows that :func:`row_of` makes."""
    head = f'<tr><th></th><th class="number">{unit}</th><th>± error</th><th class="about"></th></tr>'
    return f'<div class="scroll"><table>{head}{"".join(cells)}</table></div>'


def row_of(name: str, value: str, error: str, about: str) -> str:
    cells = (("name", name), ("number", value), ("error", error), ("about", about))
    shown = (linked(text) if kind == "name" else escaped(text) for kind, text in cells)
    return (
        "<tr>"
        + "".join(f'<td class="{kind}">{text}</td>' for (kind, _), text in zip(cells, shown, strict=True))
        + "</tr>"
    )


def estimate(value: float, error: float | None) -> tuple[str, str]:
    """Value and "± error", as many digits as the error allows."""
    number, _, rest = str(Estimate(value, float("nan") if error is None else error)).partition(" ")
    return number.replace("-", "−"), rest


def escaped(text: object) -> str:
    return html.escape(str(text), quote=True)


OF_FILES = {  # in the order of the page
    EVALUATION: evidence,
    GAPS: gaps,
    INFORMATION: information,
    CERTIFICATE: certificate,
    CLASSIFICATION: classification,
    CHECKS: checks,
    DISENTANGLEMENT: disentanglement,
    INDEPENDENCE: independence,
}
