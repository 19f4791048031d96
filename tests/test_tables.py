"""Tables: what columns are by the look of their values, and rows as a model sees them, there and back."""

from __future__ import annotations

import datetime
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tightbound.columns import Column
from tightbound.data.schemas import Schema
from tightbound.data.tables import MOST_LEVELS, MOST_RANKS, describe, read_table

pd = pytest.importorskip("pandas")
N = 200
RNG = np.random.default_rng(0)


def people() -> Any:
    """A table with a column of each kind, and some that no model should see."""
    rng, index = np.random.default_rng(0), np.arange(N)
    made = pd.DataFrame(
        {
            "id": [f"c{i:04d}" for i in index],
            "number": index + 1000,
            "age": rng.normal(45, 12, N).round(1),
            "visits": rng.poisson(20, N) + rng.poisson(5, N) ** 2,
            "children": rng.integers(0, 5, N),
            "income": np.exp(rng.normal(10, 1.2, N)),
            "debt": np.exp(rng.normal(5, 2, N)) * (rng.random(N) < 0.7),
            "plan": rng.choice(["basic", "plus", "pro"], N),
            "active": rng.random(N) < 0.3,
            "sex": rng.choice(["f", "m"], N),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, N), unit="D"),
            "seen": [str(datetime.date(2021, 1, 1) + datetime.timedelta(days=int(i))) for i in rng.integers(0, 300, N)],
            "price": [f"{i:.2f}" for i in rng.normal(50, 5, N)],
            "year": rng.integers(1950, 2020, N),
            "country": "FR",
            "nothing": np.nan,
            "comment": [f"text {i % (MOST_LEVELS + 1)}" for i in index],
            "score": rng.normal(size=N),
        }
    )
    made.loc[5:14, "age"] = np.nan
    made.loc[3:5, "plan"] = None
    made.loc[7, "children"] = np.nan
    return made


def kinds(schema: Schema) -> dict[str, str]:
    return {column.name: column.kind for column in schema.columns}


def test_each_column_is_taken_for_what_it_is() -> None:
    schema = describe(people(), target="score")
    assert kinds(schema) == {
        "age": "real", "visits": "count", "children": "ordinal", "income": "positive", "debt": "real",
        "plan": "category", "active": "flag", "sex": "flag", "since": "date", "seen": "date", "price": "real",
        "year": "real",
    }  # fmt: skip
    assert dict(schema.dropped) == {
        "id": "has another word in each of 200 rows, as identifiers have",
        "number": "has rising numbers, another one in each of 200 rows, as identifiers have",
        "country": "has one value, FR",
        "nothing": "has no values",
        "comment": f"has {MOST_LEVELS + 1} different words, more than {MOST_LEVELS}",
    }
    by_name = {column.name: column for column in schema.columns}
    assert schema.target == "score"
    assert by_name["debt"].transform == "log1p"
    assert by_name["age"].missing == pytest.approx(0.05)
    assert by_name["plan"].levels == ("basic", "plus", "pro")
    assert sum(by_name["plan"].shares) == pytest.approx(1, abs=1e-5)
    assert by_name["children"].levels == ("0", "1", "2", "3", "4")
    assert by_name["active"].levels == ("False", "True")
    assert by_name["year"].step == 1
    assert by_name["since"].step == 1
    assert by_name["price"].why == "numbers, written as words"
    table = people()
    assert by_name["age"].centre == pytest.approx(table["age"].mean())
    assert by_name["income"].unit == pytest.approx(np.log(table["income"]).std(ddof=0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(MOST_RANKS).tolist() * 3, "ordinal"),
        (np.arange(MOST_RANKS + 1).tolist() * 3, "count"),
        ([-1, *range(5)] * 5, "real"),  # below 0 are no ranks
        ([1000 + i % 40 for i in range(400)], "real"),  # far from 0
        ([*range(100), 2_000_000] * 2, "real"),  # too large for counts
        ([0.5, 1.5, 0.5, 1.5], "flag"),
        ([3.0, 3.5, 4.1] * 9, "real"),
        ([*np.exp(np.linspace(-4, 6, 60)), 1e4], "positive"),
        ([0, *np.exp(np.linspace(-4, 6, 60)), 1e4], "real"),
        (["2020-01-05", "2021-12-31", "2020-01-05"], "date"),
        (["05.01.2020", "31.12.2021", "07.03.2020"], "date"),
        (["12", "7", "900.5"], "real"),
        (["12-7", "x", "y"], "category"),
        ([True, False, True], "flag"),
        ([datetime.datetime(2020, 1, 1), datetime.datetime(2020, 5, 1, 12)], "date"),
        ([f"w{i % MOST_LEVELS}" for i in range(200)], "category"),
        ([[1], [2], [3], [3]], "category"),
    ],
)
def test_kinds_on_both_sides_of_their_bounds(values: list[Any], expected: str) -> None:
    assert kinds(describe(pd.DataFrame({"x": values}))) == {"x": expected}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.arange(30) * 1j, "has complex numbers"),
        ([1.5, np.inf, 2.0], "has infinite values"),
        ([1e300, -1e300, 2e300], "has numbers of a size below 1e-150 or above 1e\\+150: take another unit"),
        ([1e-300, 2e-300, 3e-300], "has numbers of a size below 1e-150"),
        (np.array([2**63 + i for i in range(30)], dtype=np.uint64), "has numbers that float64 does not tell apart"),
        ([2.0, 2.0], "has one value, 2.0"),
        ([None, None], "has no values"),
    ],
)
def test_columns_that_no_model_can_see_are_dropped_with_the_reason(values: Any, why: str) -> None:
    found = describe(pd.DataFrame({"x": values, "y": np.arange(len(values)) ** 2 + 0.5}))
    assert re.match(why, found.dropped["x"])


def test_durations_are_days_and_periods_are_dates() -> None:
    index = np.arange(1, 31)
    table = pd.DataFrame({
        "lasted": pd.to_timedelta(36 * index, unit="h"), "month": pd.period_range("2020-01", periods=30, freq="M"),
        3: index + 0.5,
    })  # fmt: skip
    schema = describe(table)
    assert kinds(schema) == {"lasted": "real", "month": "date", "3": "real"}
    rows = schema.frame(schema.observations(table).stored)
    np.testing.assert_allclose(rows["lasted"], 1.5 * index)
    assert (rows["month"] == table["month"].dt.to_timestamp()).all()
    np.testing.assert_allclose(rows["3"], index + 0.5)


def test_a_frames_own_categories_keep_their_order() -> None:
    sizes = pd.Categorical(["s", "l", "m", "s"], categories=["s", "m", "l", "xl"], ordered=True)
    schema = describe(pd.DataFrame({"size": sizes, "hue": pd.Categorical(["r", "g", "b", "b"])}))
    assert [(column.kind, column.levels) for column in schema.columns] == [
        ("ordinal", ("s", "m", "l")), ("category", ("b", "g", "r")),
    ]  # fmt: skip


def test_statistics_are_of_the_rows_asked_for_and_levels_of_all() -> None:
    table = pd.DataFrame({"x": [1.5, 2.5, 3.25, 1000.0], "k": ["a", "b", "b", "c"]})
    x, k = describe(table, rows=np.array([0, 1, 2])).columns
    assert x.centre == pytest.approx(np.mean([1.5, 2.5, 3.25]))
    assert (x.low, x.high) == (1.5, 1000.0)
    assert k.levels == ("a", "b", "c")
    assert k.shares == pytest.approx((1 / 3, 2 / 3, 0), abs=1e-5)


# Rows


def test_rows_come_back_as_they_were() -> None:
    table = people()
    schema = describe(table, target="score")
    seen = schema.observations(table)
    assert seen.column_names == schema.names
    assert seen.stored.dtype == torch.float64
    assert seen.mask is not None
    assert int((~seen.mask).sum()) == 14
    back = schema.frame(seen.stored.masked_fill(~seen.mask, math.nan))
    for name in schema.names:
        mine, theirs = back[name], table[name]
        assert (mine.isna() == theirs.isna()).all(), name
        if name in ("plan", "children", "active", "sex"):
            known = theirs.dropna().map(lambda value: str(int(value)) if isinstance(value, float) else str(value))
            assert (mine.dropna() == known).all(), name
        elif name in ("since", "seen"):
            assert (mine == pd.to_datetime(theirs)).all(), name
        else:
            np.testing.assert_allclose(mine.dropna().astype(float), theirs.dropna().astype(float), rtol=1e-9, atol=1e-9)
    assert back["year"].dtype == np.int64


def test_the_order_of_columns_and_others_beside_them_do_not_matter() -> None:
    table = people()
    schema = describe(table)
    turned = table[[*table.columns[::-1]]].assign(more=1)
    first, second = schema.observations(table), schema.observations(turned)
    torch.testing.assert_close(first.stored, second.stored, rtol=0, atol=0)


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_frames_of_other_libraries_are_the_same_table(library: str) -> None:
    other = pytest.importorskip(library)
    table = people().drop(columns="nothing").dropna()
    turned = other.Table.from_pandas(table) if library == "pyarrow" else other.from_pandas(table)
    found, expected = describe(turned), describe(table)
    assert kinds(found) == kinds(expected)
    torch.testing.assert_close(found.observations(turned).stored, expected.observations(table).stored)


def test_a_model_learns_a_table_in_its_own_units() -> None:
    import tightbound as tb
    from tightbound.likelihoods import Columns

    n = 600
    z = RNG.normal(size=n)
    table = pd.DataFrame(
        {
            "height": 1.7e6 + 100 * z + RNG.normal(size=n),
            "plan": np.where(z > 0.5, "pro", np.where(z > -0.5, "plus", "basic")),
            "visits": RNG.poisson(np.exp(2 + 0.5 * z)),
        }
    )
    schema = describe(table)
    x = schema.observations(table)
    torch.manual_seed(0)
    likelihood = Columns(tb.networks.MLP((2,), (Columns.outputs_for(schema.columns),), hidden=(32,)), schema.columns)
    tb.networks.start_at(likelihood.network, likelihood.initial_output(torch.zeros(3)))
    model = tb.VAE(
        tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(tb.networks.MLP((3,), (4,), hidden=(32,))), likelihood
    )
    before = tb.evaluate.evidence(model, x, samples=20)
    tb.fit(model, x, objective=tb.objectives.ELBO(), epochs=60, learning_rate=5e-3, progress=False, validation=0)
    after = tb.evaluate.evidence(model, x, samples=20)
    assert after.elbo.value > before.elbo.value + 2
    rows = schema.frame(model.sample(50))
    assert set(rows["plan"]) <= {"basic", "plus", "pro"}
    assert (rows["visits"] >= 0).all()
    assert rows["visits"].dtype == np.int64
    assert rows["height"].between(table["height"].min(), table["height"].max()).all()


# Files


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".parquet", ".feather"])
def test_files_of_all_kinds_give_the_same_schema(ending: str, tmp_path: Path) -> None:
    table = people()
    path = tmp_path / f"people{ending}"
    if ending == ".parquet":
        table.to_parquet(path)
    elif ending == ".feather":
        table.to_feather(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    found, expected = describe(read_table(path)), describe(table)
    assert kinds(found) == kinds(expected)
    assert dict(found.dropped) == dict(expected.dropped)
    torch.testing.assert_close(
        found.observations(read_table(path)).stored, expected.observations(table).stored, rtol=1e-9, atol=1e-9
    )


def test_a_question_mark_is_a_missing_value(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a, b\n1.5, x\n?, y\n2.5, ?\n3.25, z\n", encoding="utf-8")
    schema = describe(read_table(tmp_path / "x.csv"))
    assert [column.missing for column in schema.columns] == [0.25, 0.25]
    assert schema.columns[1].levels == ("x", "y", "z")


def test_what_is_not_installed_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path) -> None:
        raise ImportError("Missing optional dependency 'openpyxl'.")

    monkeypatch.setattr(pd, "read_excel", read)
    with pytest.raises(ModuleNotFoundError, match=r"'openpyxl'\. Install what reads tables: pip install"):
        read_table(tmp_path / "x.xlsx")
    monkeypatch.setitem(sys.modules, "pandas", None)
    for ask in (lambda: read_table(tmp_path / "x.csv"), lambda: describe(None)):
        with pytest.raises(ModuleNotFoundError, match=r"Expected pandas, which reads tables; got none\. Install"):
            ask()


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    for name, text, message in (
        ("x.txt", "1 2", "Expected a table, a file that ends in .csv, .tsv, .*; got .*x.txt"),
        ("x.csv", "", "Expected a table in .*x.csv; got what pandas cannot read as .csv: No columns"),
        ("x.parquet", "nonsense", "Expected a table in .*x.parquet; got what pandas cannot read as .parquet"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_table(tmp_path / name)


# TOML


def test_a_schema_is_the_same_after_it_was_written() -> None:
    schema = describe(people(), target="score", drop=["year"])
    again = Schema.from_toml(schema.to_toml())
    assert again == schema
    assert again.dropped["year"] == "is not wanted"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns = ", "Expected TOML in mine.toml; got something else: Invalid value"),
        ("", r"a table \[columns.NAME\] for each column.* in mine.toml; got another form"),
        ("[columns]\na = 1", "in mine.toml; got another form"),
        ('title = "x"\n[columns.a]\nkind = "real"', "in mine.toml; got the field 'title'"),
        ('[columns.a]\nkind = "real"\n[dropped]\nb = 1', "in mine.toml; got another form"),
        ("target = 3\n[columns.a]\nkind = 'real'", "in mine.toml; got another form"),
        ("[columns.a]\nwhy = 'x'", "Expected a kind for the column 'a' in mine.toml; got none"),
        ("[columns.a]\nkind = 'real'\nscale = 2", "Expected fields among kind, .* of the column 'a'.*; got 'scale'"),
        ("[columns.a]\nkind = 'real'\ncentre = 'x'", "Expected a number as centre of the column 'a'.*; got 'x'"),
        ("[columns.a]\nkind = 'real'\ncentre = true", "Expected a number as centre of the column 'a'.*; got True"),
        ("[columns.a]\nkind = 3", "Expected text as kind of the column 'a'.*; got 3"),
        ("[columns.a]\nkind = 'flag'\nlevels = [1, 2]", r"Expected a list as levels of the column 'a'.*; got \[1, 2\]"),
        ("[columns.a]\nkind = 'number'", "Expected a kind among .*; got 'number' .* It stands in mine.toml"),
        ("target = 'a'\n[columns.a]\nkind = 'real'", "Expected a target that the model does not see; got 'a'"),
    ],
)
def test_schemas_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schema.from_toml(text, origin="mine.toml")


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"plan": "gold"},
            "a level among 'basic', 'plus' and 'pro' in the column 'plan' of new; got 'gold' in row 0, and 9",
        ),
        ({"age": "old"}, "Expected a finite number in the column 'age' of new; got 'old' in row 0, and 9 more"),
        ({"age": math.inf}, "Expected a finite number in the column 'age' of new; got inf in row 0"),
        ({"since": "soon"}, "Expected a date in the column 'since' of new; got 'soon' in row 0"),
        ({"visits": 1.5}, "Expected whole numbers from 0 in the column 'visits'; got 1.5"),
        ({"income": -3.0}, "Expected numbers above 0 in the column 'income'"),
        ({"age": pd.Timestamp("2020-01-01")}, "Expected a finite number in the column 'age'"),
    ],
)
def test_new_rows_of_another_kind_are_refused_with_the_columns_name(change: dict[str, Any], message: str) -> None:
    schema = describe(people())
    with pytest.raises(ValueError, match=message):
        schema.observations(people().head(10).assign(**change), name="new")


def test_tables_that_no_model_can_see_are_refused() -> None:
    schema = describe(people())
    with pytest.raises(ValueError, match=r"Expected the columns of the schema; got new without 'age'\. It has 'id'"):
        schema.observations(people().drop(columns="age"), name="new")
    with pytest.raises(ValueError, match="Expected at least one row; got none in new"):
        schema.observations(people().head(0), name="new")
    with pytest.raises(ValueError, match=r"column that a model can see; got none\. 'a' has one value, 1"):
        describe(pd.DataFrame({"a": [1, 1]}))
    with pytest.raises(ValueError, match="Expected columns of different names; got 'a' twice in the table"):
        describe(pd.DataFrame([[1.5, 2]], columns=["a", "a"]))
    with pytest.raises(ValueError, match="Expected target among the columns 'a'; got 'b'"):
        describe(pd.DataFrame({"a": [1.5, 2, 3.25]}), target="b")
    with pytest.raises(ValueError, match="Expected drop among the columns 'a'; got 'b'"):
        describe(pd.DataFrame({"a": [1.5, 2, 3.25]}), drop=["b"])
    with pytest.raises(TypeError, match="Expected a data frame; got ndarray"):
        describe(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="Expected columns of different names; got 'a' twice"):
        Schema(columns=(Column(name="a", kind="real"), Column(name="a", kind="real")))
