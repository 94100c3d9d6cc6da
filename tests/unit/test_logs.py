"""Content of log lines, and secrets that never reach them."""

import io
import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.telemetry.logs import Formatter, at_stage, bound, carried, redacted

SECRET = "h0rse-b@ttery/st4ple"


@pytest.fixture
def logger() -> logging.Logger:
    made = logging.Logger("test")
    made.stream = io.StringIO()  # type: ignore[attr-defined]
    handler = logging.StreamHandler(made.stream)  # type: ignore[attr-defined]
    handler.setFormatter(Formatter("json", secrets=[SECRET, "short"]))
    made.addHandler(handler)
    return made


def lines(logger: logging.Logger) -> list[dict[str, object]]:
    return [json.loads(line) for line in logger.stream.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg2://geotag:pw1@h:1/db", "postgresql+psycopg2://geotag:***@h:1/db"),
        ("amqp://u:p@ss@[::1]:5672/v", "amqp://u:***@[::1]:5672/v"),
        ("redis://:pw1@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
        ("'https://user:p%40w@h/x'", "'https://user:***@h/x'"),
        ("https://ghp_abc@h/x", "https://***@h/x"),
        ("no password: redis://127.0.0.1:6379/0", "no password: redis://127.0.0.1:6379/0"),
        ("GET https://b.s3.amazonaws.com/k.jpg?X-Amz-Signature=ab&X-Amz-Credential=AK%2F1 HTTP/1",
         "GET https://b.s3.amazonaws.com/k.jpg?*** HTTP/1"),
        ("https://storage.googleapis.com/b/k?X-Goog-Signature=ab",
         "https://storage.googleapis.com/b/k?***"),
        ("(https://a.blob.core.windows.net/c/k?sv=2&sig=ab%3D)",
         "(https://a.blob.core.windows.net/c/k?***"),
        ("http://127.0.0.1:8333/b/k?x=1", "http://127.0.0.1:8333/b/k?***"),
        ("HTTPS://H/K?Signature=ab", "HTTPS://H/K?***"),
        ("/b/k?Signature=ab&AWSAccessKeyId=AK&Expires=1",
         "/b/k?Signature=***&AWSAccessKeyId=***&Expires=1"),
        ("/b/k?X-Amz-Security-Token=ab%2B&x=1", "/b/k?X-Amz-Security-Token=***&x=1"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AK/eu, Signature=ab",
         "Authorization: AWS4-HMAC-SHA256 Credential=***, Signature=***"),
        ("x-amz-security-token: abcd", "x-amz-security-token: ***"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("{'password': 'p w', 'aws_secret_access_key': b'ab'}",
         "{'password': ***, 'aws_secret_access_key': ***}"),
        ("GEOTAG_S3_SECRET_KEY=ab", "GEOTAG_S3_SECRET_KEY=***"),
        ("host=h password='p w' dbname=d", "host=h password=*** dbname=d"),
        ("s3://photos/what?/a&b=c.jpg", "s3://photos/what?/a&b=c.jpg"),
        ("the archive refuses our credential: it does not know the access key",
         "the archive refuses our credential: it does not know the access key"),
    ],
)  # fmt: skip
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


WORDS = st.text("abcXYZ0189-_~!$*+,;%@", min_size=8, max_size=20)


@given(scheme=st.sampled_from(["redis", "amqp", "postgresql", "https"]), user=WORDS, password=WORDS)
def test_no_password_of_a_url_is_shown(scheme: str, user: str, password: str) -> None:
    secret = f"{password}SECRET"
    assert secret not in redacted(f"cannot reach {scheme}://{user}:{secret}@host:1/x (away)")


@given(st.text(st.characters(exclude_categories=("Cs",))), WORDS)
def test_no_query_of_a_web_address_is_shown(before: str, query: str) -> None:
    assert f"{query}SECRET" not in redacted(f"{before} https://host/k.jpg?x={query}SECRET")


def test_message_arguments_and_exception_are_redacted(logger: logging.Logger) -> None:
    url = "https://h/k?X-Amz-Signature=abcdef"
    try:
        raise ValueError(f"cannot read {url} with {SECRET}")
    except ValueError:
        logger.exception("fetching %s as %s failed, not %s", url, SECRET, "short")
    (line,) = lines(logger)
    assert line["event"] == "fetching https://h/k?*** as *** failed, not short"
    assert "ValueError: cannot read https://h/k?*** with ***" in str(line["exception"])
    assert "abcdef" not in json.dumps(line)


def test_lines_carry_bound_fields(logger: logging.Logger) -> None:
    with bound(run=7, chunk=3, archive=None):
        with bound(object=9, code=f"x {SECRET}"):
            at_stage("fetch")
            logger.warning("inner")
        logger.warning("outer")
    logger.warning("none")
    inner, outer, none = lines(logger)
    assert {"run": 7, "chunk": 3, "object": 9, "stage": "fetch", "code": "x ***"}.items() <= (
        inner.items()
    )
    assert {"run", "chunk"} <= set(outer)
    assert not {"object", "stage", "archive"} & set(outer)
    assert list(none) == ["time", "level", "event", "logger", "process"]
    assert none["level"] == "warning"
    assert str(none["time"]).endswith("+00:00")


def test_threads_carry_the_fields_bound_when_they_were_submitted(logger: logging.Logger) -> None:
    with ThreadPoolExecutor(1) as threads:
        for chunk in (1, 2):
            with bound(chunk=chunk):
                threads.submit(carried(logger.warning), "in a thread").result()
        threads.submit(logger.warning, "not carried").result()
    assert [line.get("chunk") for line in lines(logger)] == [1, 2, None]


def test_foreign_text_cannot_forge_a_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\n2026-01-01 INFO all is well", (), None)
    with bound(run=7):
        assert Formatter("text").format(record).count("\n") == 0
        assert Formatter("text").format(record).endswith(r"x a\n2026-01-01 INFO all is well run=7")


CELERY = """
import logging
from billiard.util import get_logger
from celery import Celery
from celery.utils.log import get_task_logger
from workers.telemetry.logs import configure
configure("INFO", {form!r})
app = Celery("x", set_as_current=False)
app.log.setup("INFO", redirect_stdouts=True)
url = "redis://:hidden@h/0"
logging.getLogger("celery.worker.consumer").error("cannot reach %s", url)
get_task_logger("x").warning("task at %s", url)
get_logger().error("pool at %s", url)
logging.getLogger("kombu").debug("not said")
import warnings; warnings.warn("warned of " + url)
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_celerys_loggers_use_our_format(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CELERY.format(form=form)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    said = done.stderr.splitlines()
    assert len(said) == 4
    assert "hidden" not in done.stderr
    if form == "json":
        assert [json.loads(line)["event"][:6] for line in said[:3]] == [
            "cannot",
            "task a",
            "pool a",
        ]
