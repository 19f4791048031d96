"""Recipes: TOML and back, strictly."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

import tightbound as tb
from tightbound.runs import recipe as recipes
from tightbound.runs.drawn import Capacity, Elbo, FreeBits, Iwae, Miwae, Renyi
from tightbound.runs.pieces import GRADIENTS, LIKELIHOODS
from tightbound.runs.recipe import DataRecipe, EvaluateRecipe, ModelRecipe, Recipe
from tightbound.runs.registry import OBJECTIVES
from tightbound.runs.rows import ObjectiveRecipe
from tightbound.runs.schema import to_table
from tightbound.settings import Training

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
positive = st.floats(1e-6, 1e6)
whole = st.integers(1, 10**6)
share = st.floats(0, 0.999)

data_recipes = st.builds(DataRecipe, source=texts, size=st.none() | whole, test_fraction=share)
model_recipes = st.builds(
    ModelRecipe,
    latent_dim=whole,
    network=st.sampled_from(["auto", "mlp", "conv", "resnet"]),
    hidden=st.lists(whole, max_size=4).map(tuple),
    channels=whole | st.just("auto"),
    activation=texts,
    init=st.sampled_from(["torch", "xavier"]),
    posterior=st.sampled_from(["diagonal-normal", "full-normal"]),
    likelihood=st.sampled_from(["auto", *LIKELIHOODS]),
    scale=st.one_of(positive, st.sampled_from(["learned", "per-element"])),
)
warmup = st.integers(0, 10**6)
kls = st.sampled_from(["auto", "closed-form", "sampled"])
gradients = st.sampled_from(sorted(name for name, row in GRADIENTS.items() if "real" in row.latents))
several = st.integers(2, 10**6)
objective_recipes = st.one_of(
    st.builds(Elbo, beta=positive, samples=whole, kl=kls, warmup_steps=warmup),
    st.builds(Elbo, samples=several, kl=st.just("auto"), gradient=gradients),
    st.builds(Iwae, samples=several, gradient=gradients),
    st.builds(Renyi, alpha=positive, samples=several, gradient=gradients),
    st.builds(
        Miwae,
        groups=st.just(2),
        samples=whole.map(lambda half: 2 * half),
        gradient=gradients.filter("leave-one-out".__ne__),
    ),
    st.builds(Capacity, capacity=positive, gamma=positive, samples=whole, kl=kls, warmup_steps=warmup),
)
trainings = st.builds(
    Training,
    epochs=positive,
    batch_size=whole,
    learning_rate=positive,
    schedule=st.sampled_from(["cosine", "constant"]),
    warmup_steps=st.integers(0, 10**6),
    betas=st.tuples(share, share),
    clip=st.floats(0),
    ema=share,
    validation=st.one_of(share, whole.map(float)),
    patience=st.integers(0, 100),
    precision=st.sampled_from(["auto", "float32", "bfloat16"]),
    compile=st.sampled_from(["auto", "always", "never"]),
    device=texts,
    log_every=whole,
    checkpoint_seconds=st.floats(0),
)
all_recipes = st.builds(
    Recipe,
    name=texts,
    about=texts,
    reaches=texts,
    seed=st.integers(0, 2**63 - 1),
    data=data_recipes,
    model=model_recipes,
    objective=objective_recipes,
    train=trainings,
    evaluate=st.builds(EvaluateRecipe, samples=whole),
)


@given(all_recipes)
def test_toml_and_back_is_the_same_recipe(recipe: Recipe) -> None:
    assert recipes.from_toml(recipes.to_toml(recipe)) == recipe


@given(st.builds(FreeBits, nats=positive, samples=whole))
def test_free_bits_survive_the_way_through_toml(objective: FreeBits) -> None:
    recipe = Recipe(objective=objective)
    assert recipes.from_toml(recipes.to_toml(recipe)) == recipe


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_learned_priors_survive_the_way_through_toml(prior: Any) -> None:
    recipe = Recipe(model=ModelRecipe(prior=prior, components=7), objective=Elbo(kl="sampled"))
    assert recipes.from_toml(recipes.to_toml(recipe)) == recipe


def described(cls: type) -> set[str]:
    """The fields that the docstrings of a class and its bases describe."""
    docs = [inspect.cleandoc(base.__doc__ or "") for base in cls.__mro__]
    return {name for doc in docs for name in re.findall(r"^    (\w+): ", doc.partition("Attributes:")[2], flags=re.M)}


def test_every_field_is_written_and_described() -> None:
    whole = Recipe(data=DataRecipe(size=32, labels=10, factors=5))
    for section in ("data", "model", "objective", "train", "evaluate"):
        part = getattr(whole, section)
        names = [field.name for field in dataclasses.fields(part)]
        assert list(to_table(whole)[section]) == names
        assert {*names} - {"name"} <= described(type(part))


@pytest.mark.parametrize("cls", OBJECTIVES.values())
def test_every_field_of_every_objective_is_described(cls: type[ObjectiveRecipe]) -> None:
    assert described(cls) == {field.name for field in dataclasses.fields(cls)} - {"name"}


@pytest.mark.parametrize("name", recipes.shipped())
def test_shipped_recipes_parse_and_say_what_they_reach(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipe.about
    assert recipe.reaches or not recipe.data.source  # without data there is nothing to reach
    assert recipes.from_toml(recipes.to_toml(recipe)) == recipe


def test_there_are_recipes_to_ship() -> None:
    assert {"digits", "mnist"} <= set(recipes.shipped())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", "Expected a known field; got 'epochs'. Did you mean 'train.epochs'?"),
        ("xyzzy = 3", "Expected a known field; got 'xyzzy'. There are: name, about"),
        ("[train]\nepoch = 3", "got 'train.epoch'. Did you mean 'train.epochs'?"),
        ("[models]\nlatent_dim = 3", "got 'models'. Did you mean 'model'?"),
        ("[train]\nlatent_dim = 3", "Expected a known field; got 'train.latent_dim'"),
        ("[train.train]\nepochs = 3", "Expected a known field; got 'train.train'"),
        ("train = 3", r"Expected a section \[train\]; got 3"),
        ("[seed]\nvalue = 3", "Expected a whole number for seed; got {'value': 3}"),
        ("seed = 3.0", "Expected a whole number for seed; got 3.0"),
        ("seed = true", "Expected a whole number for seed; got True"),
        ("seed = -1", "Expected a seed from 0 to 2⁶³ − 1; got -1"),
        ("seed = 9223372036854775808", "Expected a seed from 0 to 2⁶³ − 1"),
        ("name = 3", "Expected a text for name; got 3"),
        ("[train]\nepochs = '3'", "Expected a number for train.epochs; got '3'"),
        ("[train]\nepochs = nan", "Expected a finite epochs > 0; got nan"),
        (f"[train]\nepochs = 1{400 * '0'}", "Expected a number for train.epochs; got 10"),
        ("[train]\nbetas = 0.9", "Expected a list of 2 numbers for train.betas; got 0.9"),
        ("[train]\nbetas = [0.9]", "Expected a list of 2 numbers for train.betas; got"),
        ("[train]\nwarmup-steps = 3\nwarmup_steps = 3", "Expected train.warmup_steps once"),
        ("[model]\nhidden = [3, 4.5]", "Expected a list of whole numbers for model.hidden; got"),
        ("[model]\nhidden = [0]", "Expected hidden widths >= 1; got"),
        ("[model]\nlatent_dim = 0", "Expected latent_dim >= 1; got 0"),
        ("[model]\nlikelihood = 'bernouli'", "for model.likelihood; got 'bernouli'. Did you mean 'bernoulli'?"),
        (
            "[model]\nlikelihood = 'os.system'",
            "Expected 'auto' or 'bernoulli' .* for model.likelihood; got 'os.system'",
        ),
        ("[model]\nscale = 'large'", "Expected a number or 'learned' or 'per-element' for model.scale; got 'large'"),
        ("[model]\nlikelihood = 'grey-bernoulli'", "got 'grey-bernoulli'. Did you mean 'unnormalised-bernoulli'?"),
        (
            "[objective]\nname = 'iwae'\nbeta = 4",
            "Expected only the fields samples, gradient, temperature and anneal_steps with the objective 'iwae'",
        ),
        ("[objective]\nname = 'iwae'\nkl = 'auto'", "got objective.kl, a field of 'elbo' and 'capacity'. Leave it out"),
        ("[objective]\nnats = 3", "with the objective 'elbo'; got objective.nats, a field of 'free-bits'"),
        (
            "[objective]\nname = 'free-bits'\nnat = 3",
            "Expected a field of the objective 'free-bits'; got 'objective.nat'. Did you mean 'objective.nats'?",
        ),
        (
            "[objective]\nname = 'capacity'\nxyzzy = 3",
            "got 'objective.xyzzy'. There are: name, samples, gradient, temp",
        ),
        ("nats = 3", "Expected a known field; got 'nats'. Did you mean 'objective.nats'?"),
        (
            "[objective]\nname = 'elbow'",
            "Expected 'elbo' or 'iwae' or .* for objective.name; got 'elbow'. Did you mean 'elbo'?",
        ),
        ("[objective]\nname = 3", "Expected 'elbo' or 'iwae' or .* for objective.name; got 3"),
        ("objective = 3", r"Expected a section \[objective\]; got 3"),
        ("[objective]\ngradient = 'stl'", "for objective.gradient; got 'stl'. Did you mean 'sticking-the-landing'?"),
        (
            "[objective]\ngradient = 'sticking-the-landing'\nkl = 'closed-form'",
            "Expected objective.kl 'auto' or 'sampled' with objective.gradient 'sticking-the-landing', .* 'closed",
        ),
        (
            "[objective]\ngradient = 'leave-one-out'",
            "Expected objective.samples of at least 2 with objective.gradient 'leave-one-out'; got 1",
        ),
        (
            "[objective]\nname = 'miwae'\ngroups = 3",
            "Expected objective.groups to divide objective.samples; got groups=3 and samples=8",
        ),
        (
            "[objective]\nname = 'miwae'\ngradient = 'leave-one-out'",
            "Expected objective.gradient 'vimco' with the objective 'miwae', whose groups cannot spare a draw; got",
        ),
        (
            "[model]\nposterior = 'bernoulli'\nlatent_dim = 13\n[objective]\ngradient = 'enumerate'",
            r"Expected at most 4096 codes with objective.gradient 'enumerate'; got .* 13 of 2 classes each, 2\^13",
        ),
        (
            "[model]\nposterior = 'categorical'\nclasses = 9\nlatent_dim = 4\n[objective]\ngradient = 'enumerate'",
            r"Expected at most 4096 codes .* 4 of 9 classes each, 9\^4 codes. Take fewer, or 'leave-one-out' with",
        ),
        (
            "[model]\nposterior = 'bernoulli'\n[objective]\ngradient = 'vimco'\ntemperature = 2\nanneal_steps = 9",
            "Expected objective.temperature of at most 1 with objective.anneal_steps, over which it falls from 1",
        ),
        (
            "[model]\nposterior = 'bernoulli'\n[objective]\ngradient = 'gumbel-softmax'\ntemperature = 0",
            "Expected a finite objective.temperature > 0; got 0",
        ),
        ("[evaluate]\nsamples = 0", "Expected samples >= 1; got 0"),
        (
            "[model]\nprior = 'vamp'\n[objective]\nkl = 'closed-form'",
            "with model.prior 'vamp' and model.posterior 'diagonal-normal'; got 'closed-form', which only a prior of",
        ),
        (
            "[model]\nprior = 'vamp'\nposterior = 'full-normal'",
            "Expected model.posterior 'diagonal-normal' with model.prior 'vamp'; got 'full-normal'",
        ),
        (
            "[model]\nprior = 'mixture'\n[objective]\nname = 'free-bits'",
            "with the objective 'free-bits', .* got 'diagonal-normal' and 'mixture'",
        ),
        ("<html>", "Expected TOML in the recipe; got something else: Invalid"),
        ("seed = 1\nseed = 2", "Expected TOML in the recipe; got something else: Cannot overwrite a value"),
        (f"seed = {'1' * 5000}", "Expected TOML in the recipe; got something else: Exceeds the limit"),
        (f"seed = {'[' * 100_000}", "Expected TOML in the recipe; got something else: maximum recursion"),
        *(
            (
                text,
                f"Expected keys of at most 20 parts in the recipe; got more in line {line}. 'tight",
            )
            for text, line in (
                (f"seed{'.a' * 20_000} = 1", 1),
                (f"seed = 1\n[model{'.a' * 20}]\n", 2),
                (f"\n\nseed{' . a' * 20} = 1", 3),
                (f"""seed{'."a b"' * 20} = 1""", 1),
                (f"""seed{".'a.b'" * 20} = 1""", 1),
                (f"model = {{ a{'.b' * 20} = 1 }}", 1),
            )
        ),
        (f"seed{'.a' * 18} = 1", "Expected a whole number for seed; got {"),
        (f"about = '{'a' * 10**6}'", "Expected a recipe of at most 1,000,000 letters in the recipe; got 1,000,010"),
        (f"model.hidden = {[1] * 1001}", "In the recipe: Expected at most 1000 hidden layers; got 1001. Take fewer"),
        ("model.transforms = 1001", "In the recipe: Expected at most 1000 transforms; got 1001"),
        ("train.epochs = 1.1e9", r"Expected epochs of at most 1e\+09; got 1.1e\+09, which no training ends"),
        (f"model.latent_dim = {2**64}", "Expected a whole number for model.latent_dim; got 184.* Take one below 2⁶⁴"),
    ],
)
def test_reading_is_strict(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        recipes.from_toml(text)


values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = [
    field.name for cls in (Recipe, ModelRecipe, *OBJECTIVES.values(), Training) for field in dataclasses.fields(cls)
]
keys = st.sampled_from(names) | st.text(max_size=5)
tables = st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=4), max_size=4)


def reads_or_refuses(text: str) -> None:
    try:
        found: object = recipes.from_toml(text)
    except ValueError as error:
        found = error
    assert isinstance(found, Recipe) or "the recipe" in str(found)


@given(st.text() | st.text(st.sampled_from("[]{}=.\"'\n #-_0123456789aeinst")))
@example("\0")
@example("﻿seed = 1")
def test_any_text_is_read_or_refused(text: str) -> None:
    reads_or_refuses(text)


@given(tables)
def test_any_table_is_read_or_refused(table: dict[str, Any]) -> None:
    reads_or_refuses(tomli_w.dumps(table))


@given(name=st.sampled_from(recipes.shipped()), at=st.integers(0, 800), put=st.text(max_size=3), gone=st.integers(0, 9))
def test_any_damage_is_read_or_refused(name: str, at: int, put: str, gone: int) -> None:
    text = recipes.to_toml(recipes.load(name))
    reads_or_refuses(text[:at] + put + text[at + gone :])


def test_dashes_count_as_underscores() -> None:
    assert recipes.from_toml("[train]\nbatch-size = 3").train.batch_size == 3


def test_whole_numbers_serve_as_numbers() -> None:
    read = recipes.from_toml("[train]\nepochs = 3\n[model]\nscale = 2")
    assert (read.train.epochs, read.model.scale) == (3.0, 2.0)
    assert isinstance(read.train.epochs, float)


def test_updated_by_dotted_name() -> None:
    changed = Recipe().updated({"train.epochs": 3, "objective.beta": 2, "data.size": 28, "name": "mine"})
    assert changed == Recipe(
        name="mine", train=Training(epochs=3.0), objective=Elbo(beta=2.0), data=DataRecipe(size=28)
    )
    assert Recipe(data=DataRecipe(size=28)).updated({"data.size": None}).data.size is None


def test_another_objective_starts_from_its_own_defaults() -> None:
    before = Recipe(objective=Elbo(beta=4.0, samples=7, warmup_steps=9))
    assert before.updated({"objective.name": "iwae"}).objective == Iwae()
    assert before.updated({"objective.name": "capacity", "objective.gamma": 3}).objective == Capacity(gamma=3.0)
    assert before.updated({"objective.gamma": 3, "objective.name": "capacity"}).objective == Capacity(gamma=3.0)
    assert before.updated({"objective.name": "elbo", "objective.beta": 2}) == before.updated({"objective.beta": 2})
    with pytest.raises(ValueError, match=r"with the objective 'iwae'; got objective.beta"):
        before.updated({"objective.name": "iwae", "objective.beta": 2})


def test_the_objective_s_name_comes_first_and_an_objective_without_one_is_the_elbo() -> None:
    assert next(iter(to_table(Recipe(objective=Iwae()))["objective"].items())) == ("name", "iwae")
    assert recipes.from_toml("[objective]\nbeta = 4").objective == Elbo(beta=4.0)


@pytest.mark.parametrize(
    ("section", "field"),
    [("model", "prior"), ("model", "posterior"), ("objective", "gradient")],
)
def test_a_name_that_is_not_in_the_registry_is_refused_in_python_too(section: str, field: str) -> None:
    wrong = dataclasses.replace(getattr(Recipe(), section), **{field: "vam"})
    with pytest.raises(ValueError, match=f"Expected {section}.{field} among .*; got 'vam'"):
        Recipe(**{section: wrong})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.epoch": 3}, r"got 'train.epoch'. Did you mean 'train.epochs'\?"),
        ({"seed.value": 3}, "Expected a section in 'seed.value'; got the field 'seed'"),
        ({"train.epochs": "many"}, "Expected a number for train.epochs; got 'many'"),
        ({"train": 3}, r"Expected a section \[train\]; got 3"),
    ],
)
def test_updated_is_strict(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe().updated(changes)


def test_load_takes_a_path_and_names_it_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = 3", encoding="utf-8")
    assert recipes.load(str(path)) == Recipe(seed=3)
    path.write_text("sed = 3", encoding="utf-8")
    with pytest.raises(ValueError, match=r"In .*mine.toml: Expected a known field; got 'sed'. Did you mean 'seed'\?"):
        recipes.load(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"Expected TOML in .*mine.toml; got no text"):
        recipes.load(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", r"Expected a recipe \(.*digits, .*got 'digit'. Did you mean 'digits'\?"),
        (
            "missing.toml",
            r"^Expected the path of a \.toml file; got missing\.toml, where there is nothing \(seen from /",
        ),
        ("/nope/mine.toml", r"got /nope/mine\.toml, where there is nothing \(seen from .*\)\. Check the path\.$"),
        ("digits.toml", r"got digits\.toml, where there is nothing .*\. Check the path\. Did you mean 'digits'\?$"),
        ("x.npy", r"got x\.npy, where there is nothing .*\. Check the path\.$"),
        ("../digits", r"got \.\./digits, where there is nothing .* Did you mean 'digits'\?"),
        ("\0.toml", "Expected a path without a NUL byte; got one with it"),
    ],
)
def test_load_refuses_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipes.load(name)


@pytest.mark.parametrize("name", ["x.npy", "my images", "x.csv", "odd.toml"])
def test_data_in_the_place_of_a_recipe_are_told_to_be_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "." in name and not name.endswith("toml"):
        Path(name).write_bytes(b"")
    else:
        Path(name).mkdir()
    written = f"'{name}'" if " " in name else name
    with pytest.raises(ValueError, match=r"Expected a recipe") as refused:
        recipes.load(name)
    assert str(refused.value) == (
        f"Expected a recipe, or the path of a .toml file; got {name}, which may be data. Give them to the recipe auto: "
        f"tightbound train auto --data {written}, or tb.train('auto', data='{name}') in Python."
    )


@pytest.mark.parametrize("given", [[[1.0]], {"x": 1}, None])
def test_an_array_in_the_place_of_a_recipe_is_told_to_be_data(given: Any) -> None:
    message = (
        r"Expected a recipe, its name or the path of a \.toml file; got .*\. Give data by name: tb\.train\('auto', da"
    )
    with pytest.raises(TypeError, match=message):
        tb.train(given)


def test_as_many_codes_as_can_be_listed_may_be_summed_over() -> None:
    text = "[model]\nposterior = 'bernoulli'\nlatent_dim = 12\n[objective]\ngradient = 'enumerate'"
    assert recipes.from_toml(text).objective.gradient == "enumerate"
    text = "[model]\nposterior = 'categorical'\nclasses = 8\nlatent_dim = 4\n[objective]\ngradient = 'enumerate'"
    assert recipes.from_toml(text).model.latent_dim == 4


@pytest.mark.parametrize(
    ("model", "objective", "message"),
    [
        (
            "full-normal",
            "total-correlation",
            "Expected a factorised model.posterior, such as .* with",
        ),
        (
            "bernoulli",
            "dip",
            "Expected a model.posterior of real numbers with the objective .dip., whose",
        ),
        ("categorical", "factor-vae", "Expected a model.posterior of real numbers with the objective 'factor-vae'"),
        ("joint", "dip", "got 'joint', whose latents are real numbers and classes side by side"),
        ("joint", "elbo", "Expected objective.gradient score-function, .* or straight-through-gumbel with .* got"),
        ("categorical", "joint-vae", "Expected model.posterior 'joint' with the objective 'joint-vae', .* got 'categ"),
    ],
)
def test_objectives_of_batches_need_draws_that_they_can_compare(model: str, objective: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipes.Recipe().updated({"model.posterior": model, "objective.name": objective})


def test_objectives_of_batches_take_any_prior_of_their_latents() -> None:
    for objective in ("total-correlation", "factor-vae", "dip", "info-vae"):
        changes = {"model.prior": "mixture", "objective.name": objective}
        assert recipes.Recipe().updated(changes).objective.name == objective


def test_the_number_of_codes_is_that_of_the_library() -> None:
    from tightbound.distributions.discrete import MOST_CODES
    from tightbound.runs import fitting

    assert fitting.MOST_CODES == MOST_CODES


def test_bounds_leave_what_is_below_them() -> None:
    made = recipes.from_toml(f"model.hidden = {[1] * 1000}\nmodel.transforms = 1000\ntrain.epochs = 1e9")
    assert (len(made.model.hidden), made.model.transforms, made.train.epochs) == (1000, 1000, 1e9)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_recipe_that_is_no_file_or_a_huge_one_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ValueError, match=r"Expected a file; got .*pipe.toml, which is a pipe"):
        recipes.load(str(tmp_path / "pipe.toml"))
    with open(tmp_path / "sparse.toml", "wb") as file:
        file.truncate(3 * 10**9)
    with pytest.raises(ValueError, match=r"at most 1,000,000 bytes; got 3,000,000,000 in .*sparse"):
        recipes.load(str(tmp_path / "sparse.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[objective]\nbeta = inf", "Expected objective.beta of at most 1,000,000 in size; got inf"),
        ("[objective]\nbeta = 1e400", "Expected objective.beta of at most 1,000,000 in size; got inf"),
        ("[objective]\nbeta = nan", "Expected objective.beta of at most 1,000,000 in size; got nan"),
        ("[objective]\nbeta = 1e308", r"objective\.beta of at most 1,000,000 in size; got 1e\+308\. 1 is the default"),
        ('[objective]\nname = "dip"\ndiagonal = 1e7', r"objective\.diagonal of at most 1,000,000 in size; got 1e\+07"),
        ('[objective]\nname = "renyi"\nalpha = -1e9', r"objective\.alpha of at most 1,000,000 in size; got -1e\+09"),
        ("[model]\nscale = inf", r"a positive scale as model\.scale, from 1e-15 to 1e\+15 .*; got inf"),
        ("[model]\nscale = 1e-320", r"a positive scale as model\.scale, from 1e-15 to 1e\+15 .*; got 9\.99"),
        ("[model]\nscale = 1e308", r"a positive scale as model\.scale, from 1e-15 to 1e\+15.*'learned' finds one"),
    ],
)
def test_numbers_without_an_end_are_refused_by_the_field_that_has_them(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipes.from_toml(text)


@pytest.mark.parametrize("text", ["[objective]\nbeta = 1e6", "[model]\nscale = 1e-12", "[model]\nscale = 1e12"])
def test_numbers_that_are_merely_large_or_small_are_taken(text: str) -> None:
    recipes.from_toml(text)
