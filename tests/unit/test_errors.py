"""The error tree: codes are stable and unique, and the drawn tree matches the classes."""

import re

import pytest

from workers import errors
from workers.errors import (
    GeotagError,
    InferenceRefused,
    InferenceTimeout,
    PermanentError,
    PhotoError,
    RetriesExhausted,
    TransientError,
    UsageError,
)

BRANCHES = {GeotagError, PermanentError, PhotoError, TransientError, UsageError}


def tree(root: type[GeotagError] = GeotagError) -> list[type[GeotagError]]:
    """Return a root and the classes of workers/errors.py below it."""
    below = [cls for sub in root.__subclasses__() for cls in tree(sub)]
    return [cls for cls in [root, *below] if cls.__module__ == errors.__name__]


LEAVES = [cls for cls in tree() if cls not in BRANCHES | {RetriesExhausted}]


def drawn() -> dict[str, tuple[int, str]]:
    """Return the depth and words of each class in the drawn tree, by its name."""
    lines = re.findall(r"^([│├└─ ]*)(\w+) {2,}(.*)$", errors.__doc__ or "", re.MULTILINE)
    return {name: (len(indent) // 4, words) for indent, name, words in lines}


def test_codes_are_unique_and_fit_for_scripts() -> None:
    codes = [cls.code for cls in LEAVES]
    assert len(codes) > 15
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", code)] == []
    assert not set(codes) & {cls.code for cls in BRANCHES}


def test_every_class_is_drawn_where_it_stands() -> None:
    found = drawn()
    assert set(found) == {cls.__name__ for cls in tree()}
    for cls in tree():
        depth = cls.__mro__.index(GeotagError)
        assert found[cls.__name__][0] == depth, cls


def test_drawn_order_is_below_the_parent() -> None:
    names = list(drawn())
    for cls in tree()[1:]:
        parent = cls.__mro__[1].__name__
        between = names[names.index(parent) + 1 : names.index(cls.__name__)]
        assert all(drawn()[name][0] > drawn()[parent][0] for name in between), cls


@pytest.mark.parametrize("cls", LEAVES)
def test_code_is_drawn_beside_its_class(cls: type[GeotagError]) -> None:
    assert re.match(rf"{cls.code}\b(?!_)", drawn()[cls.__name__][1])


def test_an_error_is_either_permanent_transient_or_usage() -> None:
    for cls in LEAVES:
        kinds = [
            kind for kind in (PermanentError, TransientError, UsageError) if issubclass(cls, kind)
        ]
        assert len(kinds) == 1, cls


def test_exhausted_retries_keep_the_code_of_the_last_error() -> None:
    error = RetriesExhausted(InferenceTimeout("no answer"), 6)
    assert error.code == InferenceTimeout.code
    assert isinstance(error, PermanentError)
    assert error.message == str(error) == "no answer (after 6 tries)"


def test_refusal_names_the_step_where_it_is_known() -> None:
    assert InferenceRefused("bad shape", "geodecode").message == "geodecode: bad shape"
    assert InferenceRefused("bad shape").message == "bad shape"
