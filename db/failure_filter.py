"""The filter of `geotag retry --where`: parse a small language into SQL with parameters.

```
filter     = both { "or" both }
both       = one { "and" one }
one        = "not" one | "(" filter ")" | comparison
comparison = FIELD ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) VALUE
           | FIELD "in" "(" VALUE { "," VALUE } ")"
           | FIELD "like" 'prefix%'
           | FIELD "contains" 'text'
```

A value is a text in single quotes ('' is one quote), a whole number, or a day (2026-11-01, UTC).
What the user types reaches SQL only as parameters: the SQL text consists of the table `FIELDS` and
the operators below.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

Value = str | int | date

_EQUAL = ("=", "!=", "in")
_ORDERED = (*_EQUAL, "<", "<=", ">", ">=")
_LONGEST = 4000
_DEEPEST = 50
_LARGEST = 2**63 - 1  # PostgreSQL's bigint

_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<text>'(?:[^']|'')*')|(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"|(?P<number>[0-9]+)|(?P<word>[A-Za-z_]+)|(?P<sign>!=|<>|<=|>=|[=<>(),])"
)
# PostgreSQL's text type holds neither NUL nor lone surrogates.
_UNHELD = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Field:
    """A field of the filter: a column of the view `current_failure`."""

    column: str
    kind: type[Value]
    operators: tuple[str, ...]


FIELDS = {
    "code": Field("code", str, _EQUAL),
    "archive": Field("archive", str, _EQUAL),
    "run": Field("run_id", int, _ORDERED),
    "bucket": Field("bucket", str, _EQUAL),
    "key": Field("key", str, (*_EQUAL, "like")),
    "state": Field("state", str, _EQUAL),
    "day": Field("day", date, _ORDERED),
    "message": Field("message", str, ("contains",)),
    "retries": Field("retries", int, _ORDERED),
}
_KINDS = {str: "a text in single quotes", int: "a whole number", date: "a day such as 2026-11-01"}


class FilterError(Exception):
    """A syntax error in a filter, at `column` (from 0)."""

    def __init__(self, problem: str, text: str, column: int) -> None:
        shown = "".join(c if c.isprintable() else " " for c in text)
        super().__init__(f"{problem}\n  {shown}\n  {' ' * column}^")
        self.column = column


@dataclass(frozen=True)
class Comparison:
    """A field compared with one value, or with several (`in`)."""

    field: str
    operator: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        written = ", ".join(map(_written, self.values))
        return (
            f"{self.field} {self.operator} {f'({written})' if self.operator == 'in' else written}"
        )


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: "FailureFilter"

    def __str__(self) -> str:
        return f"not ({self.part})"


@dataclass(frozen=True)
class Joined:
    """Filters joined by `and` or by `or`."""

    operator: str
    parts: tuple["FailureFilter", ...]

    def __str__(self) -> str:
        return f" {self.operator} ".join(
            f"({part})" if isinstance(part, Joined) else str(part) for part in self.parts
        )


FailureFilter = Comparison | Not | Joined


def to_sql(asked: FailureFilter) -> tuple[str, dict[str, object]]:
    """A condition over the view `current_failure`, and the parameters that it names."""
    parameters: dict[str, object] = {}
    return _condition(asked, parameters), parameters


def _condition(asked: FailureFilter, parameters: dict[str, object]) -> str:
    if isinstance(asked, Not):
        return f"(NOT {_condition(asked.part, parameters)})"
    if isinstance(asked, Joined):
        joint = " AND " if asked.operator == "and" else " OR "
        return f"({joint.join(_condition(part, parameters) for part in asked.parts)})"
    column = FIELDS[asked.field].column
    name = f"p{len(parameters)}"
    several = asked.operator == "in"
    parameters[name] = list(asked.values) if several else asked.values[0]
    if several:
        return f"({column} = ANY(:{name}))"
    if asked.operator == "like":
        parameters[name] = str(asked.values[0]).removesuffix("%")
        return f"starts_with({column}, :{name})"
    if asked.operator == "contains":
        return f"(strpos(lower(coalesce({column}, '')), lower(:{name})) > 0)"
    return f"({column} {asked.operator.replace('!=', '<>')} :{name})"


def _written(value: Value) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def parse(text: str) -> FailureFilter:
    """Read a filter.

    Raises:
        FilterError: it is none; the message shows where.
    """
    return _Parser(text).filter()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._next = 0
        self._depth = 0

    def filter(self) -> FailureFilter:
        asked = self._joined("or")
        if self._token.kind != "end":
            raise self._error("expected and, or, or the end")
        return asked

    def _split(self) -> Iterator[_Token]:
        if len(self._text) > _LONGEST:
            raise FilterError(f"longer than {_LONGEST} characters", self._text[:60], 60)
        if unheld := _UNHELD.search(self._text):
            problem = "a character that no key or message can contain"
            raise FilterError(problem, self._text, unheld.start())
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                open_quote = self._text[at] == "'"
                problem = "this quote is never closed" if open_quote else "unexpected character"
                raise FilterError(problem, self._text, at)
            if found.lastgroup != "space":
                yield _Token(str(found.lastgroup), found[0], at)
            at = found.end()
        yield _Token("end", "", at)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _took(self, *words: str) -> bool:
        """Whether one of these words or signs comes next; if so, it is passed."""
        there = self._token.text.lower() in words and self._token.kind in ("word", "sign")
        self._next += there
        return there

    def _error(self, problem: str, token: _Token | None = None) -> FilterError:
        return FilterError(problem, self._text, (token or self._token).column)

    def _joined(self, operator: str) -> FailureFilter:
        def part() -> FailureFilter:
            return self._joined("and") if operator == "or" else self._one()

        parts = [part()]
        while self._took(operator):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(operator, tuple(parts))

    def _one(self) -> FailureFilter:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"nested more than {_DEEPEST} deep")
        try:
            if self._took("not"):
                return Not(self._one())
            if self._took("("):
                asked = self._joined("or")
                if not self._took(")"):
                    raise self._error("expected and, or, or a closing parenthesis")
                return asked
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Comparison:
        name = self._take()
        field = FIELDS.get(name.text.lower()) if name.kind == "word" else None
        if field is None:
            raise self._error(f"expected one of {', '.join(FIELDS)}", name)
        sign = self._take()
        operator = sign.text.lower().replace("<>", "!=")
        if operator not in field.operators:
            allowed = ", ".join(field.operators)
            raise self._error(f"{name.text.lower()} can be compared by {allowed}", sign)
        values = self._values(field) if operator == "in" else (self._value(field),)
        if operator == "like" and not str(values[0]).endswith("%"):
            token = self._tokens[self._next - 1]
            raise self._error("like takes the beginning of a key: 'album/%'", token)
        return Comparison(name.text.lower(), operator, values)

    def _values(self, field: Field) -> tuple[Value, ...]:
        if not self._took("("):
            raise self._error("expected an opening parenthesis")
        values = [self._value(field)]
        while self._took(","):
            values.append(self._value(field))
        if not self._took(")"):
            raise self._error("expected a comma or a closing parenthesis")
        return tuple(values)

    def _value(self, field: Field) -> Value:
        token = self._take()
        value = self._literal(token)
        if field.kind is date and token.kind == "text":  # in quotes, as in SQL
            value = self._day(token, str(value))
        if type(value) is not field.kind:
            raise self._error(f"expected {_KINDS[field.kind]}", token)
        return value

    def _literal(self, token: _Token) -> Value | None:
        if token.kind == "text":
            return token.text[1:-1].replace("''", "'")
        if token.kind == "day":
            return self._day(token, token.text)
        if token.kind == "number":
            # Checked by length first: Python refuses to read thousands of digits.
            if len(token.text) > len(str(_LARGEST)) or int(token.text) > _LARGEST:
                raise self._error("a number that is too large", token)
            return int(token.text)
        return None

    def _day(self, token: _Token, text: str) -> date:
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise self._error("there is no such day", token) from None
