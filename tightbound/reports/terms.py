"""What the words on a page mean, in a sentence each. The glossary of the documentation is the same."""

from __future__ import annotations

import html
import re

__all__ = ["TERMS", "glossary", "linked"]

TERMS = {
    "active units": "Latent dimensions whose posterior mean varies over the data, by a variance above 0.01 (Burda "
    "et al. 2015). The others follow the prior and carry nothing.",
    "amortisation gap": "Nats of the ELBO that are lost because one encoder serves all observations: the posterior it "
    "gives is not the best of its family for each.",
    "approximation gap": "Nats of the ELBO that are lost although each observation has the best posterior of the "
    "family: the family cannot be the true posterior.",
    "baseline": "What a simple model needs on the same observations. A model that needs no less has learned nothing "
    "that the simple one does not know.",
    "bits per dimension": "The NLL in bits, divided by the number of elements of an observation. Only those of data in "
    "the same units, levels and binarisation can be compared.",
    "distortion": "−E log p(x|z) under q(z|x), in nats: what it costs to describe x once its code is known. It "
    "contains the constants of the likelihood, so it may be negative for a density.",
    "effective samples": "How many equally weighted draws would give as steady a mean as these weighted ones. Few of "
    "many: the proposal does not fit.",
    "ELBO": "Evidence lower bound: −distortion − rate. It lies below log p(x) by KL(q(z|x) ‖ p(z|x)), so it is both "
    "what is trained and an understatement of how likely the data are. Higher is better.",
    "entropy of the data": "Where the distribution of the data is known, the least that any model can need on average, "
    "by Gibbs' inequality.",
    "importance-weighted bound": "L_K, or IWAE: the mean of the log of K averaged importance weights. It rises with K "
    "from the ELBO at K = 1 towards log p(x).",
    "log p(x)": "The log-probability, or log-density, that the model gives an observation, in nats; also called the "
    "evidence. Higher is better.",
    "marginal KL": "KL(q(z) ‖ p(z)): how far the codes of all observations together are from the prior. Samples from "
    "the prior are like the data only as far as it is small.",
    "mutual information": "What the code tells about which observation it came from, in nats. The rate is this and the "
    "marginal KL together.",
    "nat": "The unit of information with natural logarithms: 1.44 bits.",
    "NLL": "Negative log-likelihood, −log p(x), in nats per observation. Lower is better.",
    "Pareto's k": "How heavy the tail of an observation's importance weights is. Up to 0.7 the errors are what the "
    "draws say; beyond, the draws that matter most have not come yet and the NLL is too high.",
    "PPCA": "Probabilistic principal component analysis: a normal with a few directions of its own and the same noise "
    "in all others, fitted in closed form. It is the best linear VAE.",
    "rate": "KL(q(z|x) ‖ p(z)), in nats: what the code of an observation costs. 0 means that the code says nothing.",
    "refined proposal": "A normal distribution fitted to the true posterior of one observation, from which draws are "
    "taken to estimate its log p(x).",
    "standard error": "What a mean over observations is likely to be off by, for the observations are a sample: two of "
    "them hold 95 % of the time.",
    "total correlation": "How far the dimensions of the code depend on one another, in nats: KL(q(z) ‖ ∏ q(z_j)).",
}
_CALLED = {"IWAE": "importance-weighted bound", "draws": "refined proposal"}
_CALLED |= {"encoder": "amortisation gap", "family": "approximation gap", "all codes": "marginal KL"}
_CALLED |= {"at least": "mutual information", "at most": "mutual information", "log p(x), estimate": "log p(x)"}
_CALLED |= {"NLL, least": "entropy of the data", "NLL, PPCA": "PPCA", "NLL, independent": "baseline"}
_CALLED |= {"NLL, PNG": "baseline", "bits per dim": "bits per dimension"}


def linked(name: str) -> str:
    """The name of a number, linked to what it means at the end of the page; as it is where there is nothing to say.

    Args:
        name: as a table has it, such as "IWAE, K = 10".

    Returns:
        HTML.

    Example:
        >>> linked("IWAE, K = 10")[:45], linked("difference")
        ('<a href="#term-importance-weighted-bound" tit', 'difference')
    """
    first = name.partition(",")[0]
    term = next((_CALLED.get(each, each) for each in (name, first) if _CALLED.get(each, each) in TERMS), None)
    if term is None:
        return html.escape(name)
    return f'<a href="#{_anchor(term)}" title="{html.escape(TERMS[term])}">{html.escape(name)}</a>'


def glossary(page: str) -> str:
    """What the terms mean that a page links to, as its last section; empty where it links to none.

    Args:
        page: HTML.

    Returns:
        HTML.

    Example:
        >>> glossary(linked("ELBO")).count("<dt"), glossary("nothing")
        (1, '')
    """
    used = [term for term in TERMS if f'href="#{_anchor(term)}"' in page]
    if not used:
        return ""
    listed = "".join(
        f'<dt id="{_anchor(term)}">{html.escape(term)}</dt><dd>{html.escape(TERMS[term])}</dd>' for term in used
    )
    return f'<section class="wide"><h2>Terms</h2><dl>{listed}</dl></section>'


def _anchor(term: str) -> str:
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")
