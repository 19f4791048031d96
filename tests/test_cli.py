"""The command line: help that teaches, requests read strictly, one line for what is wrong."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App
from tiny import refused, said, trained

from tightbound._version import __version__
from tightbound.cli.errors import MEANT, exit_code
from tightbound.cli.flags import SECTIONS, Changes
from tightbound.cli.verbs import HELP, app, main
from tightbound.runs import recipe as recipes

ROOT = Path(__file__).parents[1]
VERBS = [verb for verb in app if not verb.startswith("-")]


def alone(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["recipes"],
        ["--version"],
        ["train", "nonsense"],
        ["lab"],
        ["lab", "nonsense"],
        ["data"],
        ["version", "--json"],
        ["recipes", "--json"],
        ["digits"],
    ],
)
def test_nothing_heavy_is_loaded_before_there_is_something_to_do(words):
    done = alone(
        f"import sys; from tightbound.cli.verbs import main; main({words!r})\n"
        "print(*sorted({'torch', 'numpy', 'matplotlib', 'sklearn', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == ""


def test_the_verbs_come_in_the_order_they_are_needed(capsys):
    _, out, _ = said(capsys, "--help")
    assert [verb for verb in re.findall(r"^│ (\w+) ", out, flags=re.M) if verb in VERBS] == VERBS
    assert VERBS[:5] == ["demo", "recipes", "data", "train", "evaluate"]
    assert {*VERBS[5:]} == {
        "certify", "gaps", "information", "check", "disentangle", "compare", "sample", "reconstruct", "traverse",
        "interpolate", "embed", "sweep", "report", "lab", "version",
    }  # fmt: skip


def test_the_overview_says_how_to_begin_and_what_exit_codes_mean(capsys):
    code, out, error = said(capsys, "--help")
    assert (code, error) == (0, "")
    for words in (
        "tightbound demo",
        "tightbound train auto --data",
        "0 good, 1 the run failed, 2 the request was wrong",
    ):
        assert words in " ".join(out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_has_an_example_that_it_understands(verb, capsys):
    code, out, error = said(capsys, verb, "--help")
    assert (code, error) == (0, "")
    assert "For example: tightbound" in " ".join(out.split())
    example = re.search(r"`tightbound ([^`>]+)", app[verb].default_command.__doc__)[1]
    command, bound, _ = app.parse_args(example.split(), exit_on_error=False, print_error=False)
    assert command.__name__.endswith(verb)
    assert bound.arguments or verb == "demo"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_what_stands_in_angle_brackets_reaches_the_reader(verb, capsys):
    """Markdown takes <time> for a tag and leaves it out; in backticks it stays."""
    written = HELP if not verb else inspect.getdoc(app[verb].default_command)
    if verb in ("train", "sweep"):
        written += "".join(inspect.getdoc(cls) for classes in SECTIONS.values() for cls in classes)
    _, out, _ = said(capsys, *filter(None, [verb]), "--help")
    flat = re.sub(r"[│\s]+", "", out)
    for tag in re.findall(r"\S*<[a-z][^>]*>\S*", written):
        assert re.sub(r"[`.;,]", "", tag) in re.sub(r"[.;,]", "", flat), tag


def test_every_verb_can_give_json(capsys):
    for verb in VERBS:
        assert " --json " in said(capsys, verb, "--help")[1]


def test_the_version(capsys):
    assert said(capsys, "version") == said(capsys, "--version") == (0, f"{__version__}\n", "")


def test_a_run_where_a_recipe_is_expected(capsys, tmp_path):
    for verb in (["train"], ["sweep", "--over", "objective.beta=1,2"]):
        error = refused(capsys, *verb, trained())
        assert f"got the run in {trained()}. To go on with it: tightbound train --resume {trained()}." in error
        assert error.rstrip().endswith(f"To train its recipe anew: tightbound train {trained() / 'recipe.toml'}")
    (tmp_path / "training.json").touch()  # as of tb.fit
    assert refused(capsys, "train", tmp_path).rstrip().endswith(f"tightbound train --resume {tmp_path}.")


def test_a_wrong_first_word_is_told_what_was_meant(capsys, tmp_path):
    assert f"Did you mean 'tightbound report {trained()}', or another verb" in refused(capsys, trained())
    assert f"Did you mean 'tightbound train auto --data {tmp_path}'?" in refused(capsys, tmp_path)
    (tmp_path / "mine.toml").touch()
    assert f"Did you mean 'tightbound train {tmp_path / 'mine.toml'}'?" in refused(capsys, tmp_path / "mine.toml")


def test_the_words_that_stand_for_verbs_lead_to_verbs():
    for word, meant in MEANT.items():
        assert word not in VERBS or word == "version"
        assert meant.split()[0] in (*VERBS, "--help")


def test_help_fits_eighty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for verb in VERBS:
        _, out, _ = said(capsys, verb, "--help")
        assert max(map(len, out.splitlines())) <= 80


def test_every_field_of_a_recipe_is_an_option_described_in_its_own_words(capsys):
    _, out, _ = said(capsys, "train", "--help")
    flat = re.sub(r"[│\s]+", " ", out)
    for section, cls in ((section, cls) for section, classes in SECTIONS.items() for cls in classes):
        for name in (field.name for field in dataclasses.fields(cls)):
            flag = "--data" if (section, name) == ("data", "source") else f"--{section}.{name.replace('_', '-')}"
            assert f" {flag} " in flat
            docs = [inspect.cleandoc(base.__doc__ or "") for base in cls.__mro__]
            described = any(re.search(rf"^    {name}: ", doc, flags=re.M) for doc in docs)
            assert described or (section, name) == ("objective", "name")
    for words in (
        "Weight of the rate. Used by elbo, known-factors. Weight of the total correlation. Used by total-correlation.",
        "Steps over which beta rises from zero. Used by elbo. Steps over which the capacity rises from zero.",
        "K of an importance-weighted bound. Used by elbo, iwae, renyi, free-bits, capacity, joint-vae.",
        "discretized-logistic: grey levels.",
        "How many components the prior has. Used by mixture.",
    ):
        assert words in flat
    assert "Largest norm of the gradient; none where it is 0." in flat


def test_changes_reach_the_recipe():
    words = (
        "train digits --objective.beta 4 --train.betas 0.8 0.99 --model.hidden 7 8 --seed 3 --data x.npy --data.size 5"
    )
    _, bound, _ = app.parse_args(words.split())
    made = bound.arguments["changes"].apply(recipes.load("digits"))
    assert (made.objective.beta, made.train.betas, made.model.hidden) == (4.0, (0.8, 0.99), (7, 8))
    assert (made.seed, made.data.source, made.data.size) == (3, "x.npy", 5)
    assert made.train.batch_size == recipes.load("digits").train.batch_size


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--seed 3 --seed 4", "seed", 4),
        ("--seed=3 --train.epochs 2 --seed=4", "seed", 4),
        ("--train.epochs 3 --train.epochs 4", "train.epochs", 4.0),
        ("--model.hidden 7 8 --model.hidden 9", "model.hidden", (9,)),
        ("--model.hidden 7 --model.hidden=8 --model.hidden 9 9", "model.hidden", (9, 9)),
        ("--train.betas 0.1 0.2 --train.betas 0.3 0.4", "train.betas", (0.3, 0.4)),
        ("--data x.npy --data y.npy", "data.source", "y.npy"),
        ("--objective.name iwae --objective.name elbo", "objective.name", "elbo"),
        ("--model.learned-prior --model.learned-prior", "model.learned_prior", True),
    ],
)
def test_a_flag_given_twice_takes_the_last(words, field, value):
    _, bound, _ = app.parse_args(f"train digits {words} --quiet --quiet --out a --out b".split())
    assert (str(bound.arguments["out"]), bound.arguments["quiet"]) == ("b", True)
    made = bound.arguments["changes"].apply(recipes.load("digits"))
    for part in field.split("."):
        made = getattr(made, part)
    assert made == value


def test_no_change_leaves_the_recipe():
    assert Changes().apply(recipes.load("mnist")) == recipes.load("mnist")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("trian", "Expected a verb; got 'trian'. Did you mean \"train\"?"),
        ("--nonsense", "Expected a verb; got '--nonsense'. 'tightbound --help' says more."),
        ("digits", "Expected a verb; got 'digits'. Did you mean 'tightbound train digits'?"),
        ("digitz", "Expected a verb; got 'digitz'. Did you mean 'tightbound train digits'?"),
        ("fit digits", "Expected a verb; got 'fit'. Did you mean 'tightbound train'?"),
        ("help", "Expected a verb; got 'help'. Did you mean 'tightbound --help'?"),
        ("VERSION", "Expected a verb; got 'VERSION'. Did you mean 'tightbound version'?"),
        ("-V", "Expected a verb; got '-V'. Did you mean 'tightbound version'?"),
        ("train", "Expected a recipe or --resume RUN; got neither. For example: tightbound train digits"),
        ("train digits --resume x", "Expected a recipe or --resume RUN; got both."),
        ("train --resume x --seed 3", "Expected a run folder with a recipe.toml; got x."),
        ("train --resume x --out y", "Expected --resume RUN without --out, as it goes on in its own folder; got both."),
        ("train digitz", "got 'digitz'. Did you mean 'digits'?"),
        ("train digits --run x", "Expected an option of 'tightbound train'; got '--run'. 'tightbound train --help'"),
        ("sample x --n 5", "Expected an option of 'tightbound sample'; got '--n'. Did you mean --count?"),
        ("check x -n 5", "got '-n'. Did you mean --observations?"),
        ("train digits --epoch=3", "got '--epoch'. Did you mean --train.epochs?"),
        ("train digits --samples 3", "got '--samples'. Did you mean --objective.samples or --evaluate.samples?"),
        ("train digits --train.epoch 3", "got '--train.epoch'. Did you mean --train.epochs?"),
        ("train digits --lr 3", "got '--lr'. Did you mean --objective.learning-rate or --train.learning-rate?"),
        ("train digits --gpu", "got '--gpu'. Did you mean --train.device cuda?"),
        ("sample run --n 5", "got '--n'. Did you mean --count?"),
        ("sample run -n 5", "got '-n'. Did you mean --count?"),
        ("sample run --num-samples=5", "got '--num-samples'. Did you mean --count?"),
        ("reconstruct run --number 5", "got '--number'. Did you mean --count?"),
        ("sample run --output z.npy", "got '--output'. Did you mean --out?"),
        ("train auto --dataset x.npy", "got '--dataset'. Did you mean --data?"),
        ("train /nope/mine.toml", "got /nope/mine.toml, where there is nothing (seen from"),
        ("train digits --cpu", "got '--cpu'. Did you mean --train.device cpu?"),
        ("version --gpu", "got '--gpu'. 'tightbound version --help' says more."),
        ("train digits --zzz 3", "got '--zzz'. 'tightbound train --help' says more."),
        ("train digits --train.epochs abc", "Expected a number for --train.epochs; got 'abc'."),
        ("train digits --train.epochs", "Expected 1 value after --train.epochs; got none."),
        ("train digits --train.betas 0.9", "Expected 2 values after --train.betas; got 0.9."),
        ("train digits --train.epochs -1", "Expected a finite epochs > 0; got -1.0."),
        ("train digits --objective.beta nan", "Expected a finite number for --objective.beta; got nan."),
        ("train digits --model.network cnn", "Expected auto, mlp, conv or resnet for --model.network; got 'cnn'."),
        (
            "train digits --objective.gradient stl",
            "straight-through-gumbel for --objective.gradient; got 'stl'. Did you mean sticking-the-landing?",
        ),
        (
            "train digits --objective.name iwae --objective.beta 4",
            "Expected only the fields samples, gradient, temperature and anneal_steps with the objective 'iwae'; got "
            "objective.beta, a field of 'elbo', 'total-correlation', 'info-vae' and 'known-factors'.",
        ),
        ("train digits more", "Expected nothing more; got 'more'. 'tightbound train --help' says more."),
        ("train auto", "Expected --data with the recipe 'auto', which is for data of your own; got none. For example:"),
        ("evaluate", "Expected RUN with 'tightbound evaluate'; got none. For example: tightbound evaluate runs/digits"),
        ("evaluate run --split val", "Expected train, validation or test for --split; got 'val'."),
        ("evaluate run --samples x", "Expected a whole number for --samples; got 'x'."),
        ("evaluate run --samples 2.5", "Expected a whole number for --samples; got '2.5'."),
        ("train auto --model.latent_dim 2.7", "Expected a whole number for --model.latent-dim; got '2.7'."),
        ("train auto --model.hidden 8 8.5", "Expected a whole number for --model.hidden; got '8.5'."),
        ("train auto --data.size 8.9", "Expected a whole number for --data.size; got '8.9'."),
        ("train auto --seed 0.5", "Expected a whole number for --seed; got '0.5'."),
        ("embed run", "Expected --out with 'tightbound embed'; got none. For example: tightbound embed runs/digits"),
        (
            "sweep digits",
            "Expected --over with 'tightbound sweep'; got none. For example: tightbound sweep",
        ),
        ("lab bonds", "trade-off, rate-distortion, decomposition); got 'bonds'. Did you mean 'bounds'?"),
        ("recipes nonsense", "Expected a recipe (auto, digits, digits-"),
    ],
)
def test_a_wrong_request_is_answered_with_one_line_that_says_what_to_do(words, error, capsys):
    assert error in refused(capsys, *words.split())


@pytest.mark.parametrize("verb", ["evaluate", "sample", "reconstruct", "traverse", "interpolate", "embed", "report"])
def test_a_folder_that_is_no_run_is_refused_by_every_verb(verb, capsys, tmp_path):
    out = ["--out", tmp_path / "z.npy"] if verb == "embed" else []
    assert "Expected a run folder with a recipe.toml; got" in refused(capsys, verb, tmp_path, *out)


def test_debug_shows_the_traceback_and_the_line(capsys, tmp_path):
    code, _, error = said(capsys, "evaluate", tmp_path, "--debug")
    assert code == 2
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("tightbound: Expected a run folder")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("Expected a; got\n  b."), 2, "tightbound: Expected a; got b.\n"),
        (FileNotFoundError("x"), 2, "tightbound: x\n"),
        (ArithmeticError("The loss became nan."), 1, "tightbound: The loss became nan.\n"),
        (ZeroDivisionError("division by zero"), 1, "tightbound: ZeroDivisionError: division by zero\n"),
        (KeyError("x"), 1, "tightbound: KeyError: 'x'\n"),
        (KeyboardInterrupt(), 1, "tightbound: Stopped.\n"),
    ],
)
def test_exit_codes(error, code, line, capsys):
    broken = App()

    @broken.default
    def fail() -> None:
        raise error

    assert exit_code(broken, []) == code
    assert capsys.readouterr() == ("", line)


def test_recipes_are_listed_with_what_they_are_for(capsys):
    code, out, _ = said(capsys, "recipes")
    assert code == 0
    for name in recipes.shipped():
        assert re.search(rf"^{name} +\S", out, flags=re.M)


def test_a_printed_recipe_is_a_recipe(capsys):
    _, out, _ = said(capsys, "recipes", "mnist")
    assert recipes.from_toml(out) == recipes.load("mnist")


def test_no_word_at_all_is_a_call_for_help(capsys):
    code, out, error = said(capsys)
    assert (code, error) == (0, "")
    assert "Usage: tightbound COMMAND" in out


@pytest.mark.parametrize("words", [["recipes"], ["--help"], ["evaluate", "RUN", "--json", "--split", "validation"]])
def test_a_reader_who_leaves_early_is_no_error(words):
    words = [str(trained()) if word == "RUN" else word for word in words]
    code = f"import sys; from tightbound.cli.verbs import main; sys.exit(main({words!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "Error" not in error
    assert "Broken" not in error


def test_json_alone_goes_to_standard_output(capsys):
    code, out, error = said(capsys, "evaluate", trained(), "--json", "--split", "validation")
    assert code == 0
    assert json.loads(out)["samples"] == 20
    assert error == ""


def test_main_reads_the_command_line_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tightbound", "--version"])
    assert main() == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_every_whole_number_of_the_command_line_refuses_fractions(capsys):
    """No flag is read by cyclopts itself, which rounds."""
    for verb in VERBS:
        for argument in app[verb].assemble_argument_collection(parse_docstring=False):
            if argument.hint in (int, int | None, tuple[int, ...] | None) and not argument.children:
                assert argument.parameter.converter, f"{verb} {argument.name}"


def test_whole_numbers_can_be_written_with_a_point():
    words = "train digits --model.latent_dim 3.0 --model.hidden 8.0 4 --seed 5.0 --train.epochs 0.5"
    _, bound, _ = app.parse_args(words.split())
    made = bound.arguments["changes"].apply(recipes.load("digits"))
    assert (made.model.latent_dim, made.model.hidden, made.seed) == (3, (8, 4), 5)
    assert made.train.epochs == 0.5


@pytest.mark.parametrize(
    "words",
    [
        ["train", "auto", "--data", "b\udcff.npy"],
        ["train", "auto", "--data", "digits", "--out", "o\udcff"],
        ["evaluate", "r\udcff"],
        ["recipes", "x\udcff.toml"],
    ],
)
def test_a_name_that_is_not_utf8_is_refused_at_the_start(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert r"\xff" in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_what_is_said_of_a_name_that_is_not_utf8(capsys):
    expected = r"Expected names in UTF-8; got 'b\xff.npy'. Rename the file or the folder, or link to it: ln -s"
    assert expected in refused(capsys, "train", "auto", "--data", "b\udcff.npy")


@pytest.mark.parametrize(
    "words", [["train", "auto", "--data", "{}.npy"], ["train", "digits", "--out", "{}"], ["evaluate", "{}"]]
)
def test_a_path_that_is_too_long_is_refused_in_a_sentence(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *(word.format("a" * 300) for word in words))
    assert "Expected a path that the system takes; got one whose name is too long: aaaaaaaa" in said
    assert said.rstrip().endswith("Take a shorter one.")
    assert not list(tmp_path.iterdir())


def test_what_is_not_compiled_never_loads_the_compiler(tmp_path: Path) -> None:
    """Which takes a second or two of every command."""
    run = str(tmp_path / "run")
    small = ["--train.epochs", "0.2", "--model.hidden", "[8]", "--evaluate.samples", "2", "--quiet", "--out", run]
    done = alone(
        "import sys; from tightbound.cli.verbs import main\n"
        f"print(main({['train', 'digits', *small]!r}), main(['evaluate', {run!r}]), 'torch._dynamo' in sys.modules)"
    )
    assert done.stdout.splitlines()[-1] == "0 0 False", done.stderr
