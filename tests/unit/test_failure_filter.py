"""The language of `geotag retry --where`: what it accepts and refuses, and its SQL."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.failure_filter import (
    FIELDS,
    Comparison,
    FailureFilter,
    FilterError,
    Joined,
    Not,
    parse,
    to_sql,
)

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
VALUES = {
    str: TEXTS,
    int: st.integers(0, 2**63 - 1),
    date: st.dates(),
}


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    name = draw(st.sampled_from(sorted(FIELDS)))
    operator = draw(st.sampled_from(FIELDS[name].operators))
    values = VALUES[FIELDS[name].kind]
    if operator == "in":
        return Comparison(name, operator, tuple(draw(st.lists(values, min_size=1, max_size=4))))
    value = draw(values)
    return Comparison(name, operator, (f"{value}%" if operator == "like" else value,))


def joined(parts: st.SearchStrategy[FailureFilter]) -> st.SearchStrategy[FailureFilter]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.builds(Joined, st.sampled_from(["and", "or"]), several) | st.builds(Not, parts)


FILTERS: st.SearchStrategy[FailureFilter] = st.recursive(comparisons(), joined, max_leaves=6)

# Every token of a generated condition; typed text is never among them.
OURS = re.compile(
    r"(?:\(|\)|,| |''|=|<>|<=|>=|<|>|AND|OR|NOT|ANY|starts_with|strpos|lower|coalesce|0"
    rf"|:p[0-9]+|{'|'.join(field.column for field in FIELDS.values())})*"
)


@given(FILTERS)
def test_filter_survives_writing_and_reading(asked: FailureFilter) -> None:
    assert to_sql(parse(str(asked))) == to_sql(asked)


@given(FILTERS)
def test_nothing_but_parameters_reaches_sql(asked: FailureFilter) -> None:
    sql, parameters = to_sql(asked)
    assert OURS.fullmatch(sql)
    assert set(re.findall(r":(p[0-9]+)", sql)) == set(parameters)
    allowed = (str, int, date)
    for value in parameters.values():
        assert all(type(v) in allowed for v in (value if isinstance(value, list) else [value]))


@given(TEXTS, TEXTS)
def test_sql_does_not_depend_on_the_compared_values(one: str, other: str) -> None:
    first, second = (
        to_sql(Joined("or", (Comparison("key", "=", (text,)), Comparison("key", "like", (text,)))))
        for text in (one, other)
    )
    assert first[0] == second[0]


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                *FIELDS,
                "and",
                "or",
                "not",
                "in",
                "like",
                "contains",
                "(",
                ")",
                ",",
                "=",
                "!=",
                ">=",
                "'a%'",
                "7",
                "2026-11-01",
                "; DROP TABLE geotag.outcome",
                "--",
                "/*",
                "'",
                '"',
                ":p0",
                "%(p0)s",
                "\\",
            ]
        ),
        max_size=12,
    ).map(" ".join)
)
def test_any_input_is_refused_or_harmless(text: str) -> None:
    try:
        sql, _parameters = to_sql(parse(text))
    except FilterError:
        return
    assert OURS.fullmatch(sql)


@pytest.mark.parametrize(
    ("text", "sql", "parameters"),
    [
        (
            "code = 'fetch_timeout' and archive = 'x' and day >= 2026-11-01",
            "((code = :p0) AND (archive = :p1) AND (day >= :p2))",
            {"p0": "fetch_timeout", "p1": "x", "p2": date(2026, 11, 1)},
        ),
        ("RUN IN (1, 2)", "(run_id = ANY(:p0))", {"p0": [1, 2]}),
        ("key like 'al%bum_/%'", "starts_with(key, :p0)", {"p0": "al%bum_/"}),
        (
            "message contains 'it''s'",
            "(strpos(lower(coalesce(message, '')), lower(:p0)) > 0)",
            {"p0": "it's"},
        ),
        (
            "not state = 'failed' or retries < 3 and run <> 7",
            "((NOT (state = :p0)) OR ((retries < :p1) AND (run_id <> :p2)))",
            {"p0": "failed", "p1": 3, "p2": 7},
        ),
        ("day = '2026-11-01'", "(day = :p0)", {"p0": date(2026, 11, 1)}),
        ("((code = 'x'))", "(code = :p0)", {"p0": "x"}),
    ],
)
def test_condition_and_parameters(text: str, sql: str, parameters: dict[str, object]) -> None:
    assert to_sql(parse(text)) == (sql, parameters)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", 0, "expected one of code, archive"),
        ("colour = 'red'", 0, "expected one of code, archive"),
        ("code = fetch_timeout", 7, "a text in single quotes"),
        ('code = "x"', 7, "unexpected character"),
        ("code = 'x", 7, "this quote is never closed"),
        ("code < 'x'", 5, "code can be compared by =, !=, in"),
        ("run = '7'", 6, "a whole number"),
        ("run = 99999999999999999999", 6, "too large"),
        ("run = 9223372036854775808", 6, "too large"),
        ("day = 2026-02-30", 6, "there is no such day"),
        ("day = 'yesterday'", 6, "there is no such day"),
        ("day = 7", 6, "a day such as"),
        ("key like 'album'", 9, "the beginning of a key"),
        ("(code = 'x'", 11, "a closing parenthesis"),
        ("code in 'x'", 8, "an opening parenthesis"),
        ("code in ('x' 'y')", 13, "a comma or a closing parenthesis"),
        ("code = 'x' archive = 'y'", 11, "expected and, or"),
        ("code = 'x'; DROP TABLE t", 10, "unexpected character"),
        ("code = 'x' and", 14, "expected one of code"),
        ("key = 'a\0b'", 8, "a character that no key"),
        ("key = '\udce9'", 7, "a character that no key"),
        ("(" * 60, 50, "nested more than 50 deep"),
        ("not " * 60, 200, "nested more than 50 deep"),
        ("code = '" + "x" * 5000, 60, "longer than 4000"),
    ],
)
def test_syntax_errors_point_at_their_position(text: str, column: int, problem: str) -> None:
    with pytest.raises(FilterError, match=problem) as caught:
        parse(text)
    assert caught.value.column == column
    assert str(caught.value).splitlines()[-1] == "  " + " " * column + "^"
