"""What each score of disentanglement is: one sentence, a formula, a source, and how it is estimated here."""

from __future__ import annotations

from dataclasses import dataclass

_COUNTED = "20 bins of equal width a unit, classes of the factor; Miller and Madow's correction"
_PLUG_IN = "20 bins of equal width a unit, classes of the factor; no correction, as in the literature"
_SAMPLES = "the same on a draw from each posterior in place of its mean"
_FOREST = "random forests of 30 trees that may look at every unit, at most 3000 observations; tested on the others"
_GROUPS = "3000 groups of 64 observations to learn from, 1500 to try; spread over three sets"


@dataclass(frozen=True)
class Definition:
    """A score's definition.

    Args:
        title: as tables have it.
        sentence: what it measures.
        formula: in symbols; I is mutual information, H entropy, z a unit and v a factor.
        reference: paper, year, link.
        estimator: how it is estimated here.
    """

    title: str
    sentence: str
    formula: str
    reference: str
    estimator: str


_MIG = (
    "How much more the best unit for a factor tells of it than the second best, as a share of its entropy.",
    "mean over v of (I(z₁; v) − I(z₂; v)) / H(v)",
    "Chen et al. (2018), https://arxiv.org/abs/1802.04942",
)
_SUP = (
    "How much more of its best factor than of its second best a unit tells, as shares of their entropies.",
    "mean over z of I(z; v₁) / H(v₁) − I(z; v₂) / H(v₂)",
    "Li et al. (2020), https://arxiv.org/abs/2002.10549",
)
_MODULARITY = (
    "How little a unit tells of all factors but its best one.",
    "mean over z of 1 − Σ_{v ≠ v₁} I(z; v)² / (I(z; v₁)² (F − 1))",
    "Ridgeway, Mozer (2018), https://arxiv.org/abs/1802.05312",
)
_EASTWOOD = "Eastwood, Williams (2018), https://openreview.net/forum?id=By-7dz-AZ"

DEFINITIONS: dict[str, Definition] = {
    "mig": Definition("MIG", *_MIG, _COUNTED),
    "mig-plug-in": Definition("MIG, plug-in", *_MIG, _PLUG_IN),
    "mig-samples": Definition("MIG, of draws", *_MIG, _SAMPLES),
    "mig-sup": Definition("MIG-sup", *_SUP, _COUNTED),
    "mig-sup-plug-in": Definition("MIG-sup, plug-in", *_SUP, _PLUG_IN),
    "mig-sup-samples": Definition("MIG-sup, of draws", *_SUP, _SAMPLES),
    "modularity": Definition("modularity", *_MODULARITY, _COUNTED),
    "modularity-plug-in": Definition("modularity, plug-in", *_MODULARITY, _PLUG_IN),
    "modularity-samples": Definition("modularity, of draws", *_MODULARITY, _SAMPLES),
    "dci-disentanglement": Definition(
        "DCI disentanglement",
        "How much each unit is of importance for one factor alone.",
        "Σ over z of ρ (1 − H_F(R_z)), R_z the unit's importances as shares, ρ its share of all",
        _EASTWOOD,
        _FOREST,
    ),
    "dci-completeness": Definition(
        "DCI completeness",
        "How much each factor is told by one unit alone.",
        "mean over v of 1 − H_L(R_v), R_v the factor's importances as shares",
        _EASTWOOD,
        _FOREST,
    ),
    "dci-informativeness": Definition(
        "DCI informativeness",
        "How often all units together tell the factor's value.",
        "mean over v of the accuracy",
        _EASTWOOD,
        _FOREST,
    ),
    "sap": Definition(
        "SAP",
        "How much better the best unit for a factor predicts it than the second best.",
        "mean over v of r²(z₁, v) − r²(z₂, v); of a categorical factor accuracies, from 0 at chance to 1",
        "Kumar et al. (2018), https://arxiv.org/abs/1711.00848",
        "squared correlations; of categorical factors a table of 20 bins, learnt on every other observation",
    ),
    "explicitness": Definition(
        "explicitness",
        "How well a linear classifier of all units tells a factor's value from its others; chance is ½.",
        "mean over v and its values of the area under the curve, one versus rest",
        "Ridgeway, Mozer (2018), https://arxiv.org/abs/1802.05312",
        "logistic regressions, at most 3000 observations; tested on the others",
    ),
    "beta-vae-score": Definition(
        "BetaVAE score",
        "How often a linear classifier tells which factor the observations of each pair share.",
        "accuracy from the mean of |z − z'| over 64 pairs; chance is 1/F",
        "Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl",
        _GROUPS,
    ),
    "factor-vae-score": Definition(
        "FactorVAE score",
        "How often the unit that varies least in a group tells which factor the group shares.",
        "accuracy of a majority vote from argmin of Var(z | group) / Var(z); chance is near 1/F",
        "Kim, Mnih (2018), https://arxiv.org/abs/1802.05983",
        _GROUPS,
    ),
    "irs": Definition(
        "IRS",
        "How little a unit moves while its best factor is fixed and all others vary.",
        "mean over z of max over v of 1 − E[Q₀.₉₉ |z − E[z | v]|] / Q₀.₉₉ |z − E[z]|",
        "Suter et al. (2019), https://arxiv.org/abs/1811.00007",
        "the 0.99 quantile in place of the maximum, as Locatello et al. (2019); units count alike",
    ),
}
