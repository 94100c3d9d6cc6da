"""Listing and retrying failures, first with rows made directly, then with real workers."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Engine, create_engine, make_url, text

from db import ledger, migrate, schema
from db.failure_filter import Comparison, FailureFilter, Joined, Not, parse
from db.failures import Failure, failure_groups, list_failures, retry
from db.ledger import Result
from geotag.context import Context
from tests.conftest import Geotag
from tests.images import good_files
from tests.integration.test_poison import MARKER, WORKER
from tests.stack_helpers import only_backfill_worker, outcomes_of, parsed, results, upload
from tests.unit.test_failure_filter import FILTERS

YESTERDAY = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(running: Context) -> Iterator[Engine]:
    """A separate ledger with one active release."""
    url = running.settings.database.database_url
    assert url is not None
    server = create_engine(url.get_secret_value(), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS failures WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE failures"))
    engine = create_engine(make_url(url.get_secret_value()).set(database="failures"))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO geotag.partition (digest, name) VALUES ('p', 'fine');"
                "INSERT INTO geotag.release (name, digest, calibrated, coarse_partition_id,"
                " middle_partition_id, fine_partition_id, manifest, active)"
                " VALUES ('new', 'n', false, 1, 1, 1, '{}', true),"
                " ('old', 'o', false, 1, 1, 1, '{}', false)"
            )
        )
    yield engine
    engine.dispose()
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE failures WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def engine(database: Engine) -> Engine:
    """The separate ledger, with every table but the releases emptied."""
    with database.begin() as connection:
        connection.execute(text("TRUNCATE geotag.archive, geotag.content RESTART IDENTITY CASCADE"))
    return database


@pytest.fixture
def failed(engine: Engine) -> Engine:
    """Two archives: `a` with five objects of different outcomes, `b` with one."""
    for archive in ("a", "b"):
        new_archive(engine, archive)
    record(engine, "a", "1.jpg", "failed", "corrupt", "broken marker")
    record(engine, "a", "2.jpg", "failed", "s3_unavailable", "it's slow", at=YESTERDAY)
    record(engine, "a", "3.jpg", "failed", "s3_unavailable", "Slow down")
    record(engine, "a", "x/4.jpg", "quarantined", "worker_killed", "3 workers died with it")
    record(engine, "b", "1.jpg", "failed", "corrupt", None)
    return engine


def new_archive(engine: Engine, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            schema.archive.insert().values(
                name=name, endpoint="http://x.invalid", bucket=f"b{name}"
            )
        )


def record(
    engine: Engine,
    archive: str,
    key: str,
    state: str,
    code: str,
    message: str | None,
    *,
    at: datetime | None = None,
    release: str = "new",
) -> int:
    """Record an object with an outcome of its own finished run; return the object's id."""
    with engine.begin() as connection:
        return int(
            connection.execute(
                text(
                    "WITH v AS (INSERT INTO geotag.object_version (archive_id, key, etag, size)"
                    " SELECT id, :key, '1', 1 FROM geotag.archive WHERE name = :archive"
                    " ON CONFLICT (archive_id, key, etag) DO UPDATE SET size = 1 RETURNING id),"
                    " r AS (INSERT INTO geotag.run (source, queue, release_id, planned_at)"
                    " SELECT 'test', 'backfill', id, now() FROM geotag.release"
                    " WHERE name = :release RETURNING id, release_id)"
                    " INSERT INTO geotag.outcome (object_version_id, release_id, state, code,"
                    " message, run_id, at) SELECT v.id, r.release_id, :state, :code, :message,"
                    " r.id, coalesce(:at, now()) FROM v, r RETURNING object_version_id"
                ),
                {
                    "archive": archive, "key": key, "state": state, "code": code,
                    "message": message, "at": at, "release": release,
                },
            ).scalar_one()
        )  # fmt: skip


def keys(engine: Engine, where: str | None = None) -> list[str]:
    asked = parse(where) if where else None
    return [f"{row.archive}/{row.key}" for row in list_failures(engine, asked)]


def rows(engine: Engine, query: str) -> Sequence[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def again(engine: Engine, where: str, **options: bool) -> "tuple[int | None, dict[str, int], int]":
    done = retry(engine, parse(where), "retry: test", chunk_size=2, **options)
    return done.run_id, done.codes, done.busy


EVERYTHING = "state in ('failed', 'quarantined')"


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("code = 's3_unavailable'", ["a/2.jpg", "a/3.jpg"]),
        ("code != 's3_unavailable' and archive = 'a'", ["a/1.jpg", "a/x/4.jpg"]),
        ("message contains 'slow'", ["a/2.jpg", "a/3.jpg"]),
        ("not message contains 'slow'", ["a/1.jpg", "a/x/4.jpg", "b/1.jpg"]),
        ("message contains 'it''s'", ["a/2.jpg"]),
        ("message contains '%'", []),
        ("day <= 2026-11-01", ["a/2.jpg"]),
        ("day = 2026-11-01 or state = 'quarantined'", ["a/2.jpg", "a/x/4.jpg"]),
        ("key like 'x/%'", ["a/x/4.jpg"]),
        ("key = '1.jpg' and bucket in ('bb', 'none')", ["b/1.jpg"]),
        ("run < 3", ["a/1.jpg", "a/2.jpg"]),
        ("retries > 0", []),
        ("key = '''; DROP TABLE geotag.outcome; --'", []),
    ],
)
def test_filter_finds(failed: Engine, where: str, found: list[str]) -> None:
    assert keys(failed, where) == found


def matches(asked: FailureFilter, row: Failure) -> bool:
    """Evaluate a filter on a failure in Python."""
    if isinstance(asked, Not):
        return not matches(asked.part, row)
    if isinstance(asked, Joined):
        return (all if asked.operator == "and" else any)(matches(part, row) for part in asked.parts)
    mine = {
        "code": row.code, "archive": row.archive, "run": row.run_id, "bucket": row.bucket,
        "key": row.key, "state": row.state, "day": row.at.astimezone(UTC).date(),
        "message": row.message or "", "retries": row.retries,
    }[asked.field]  # fmt: skip
    value = asked.values[0]
    if asked.operator == "in":
        return mine in asked.values
    if asked.operator in ("=", "!="):
        return (mine == value) == (asked.operator == "=")
    if asked.operator == "like":
        return str(mine).startswith(str(value)[:-1])
    if asked.operator == "contains":
        return str(value).lower() in str(mine).lower()
    assert isinstance(mine, (int, date))
    less, equal = mine < value, mine == value  # type: ignore[operator]
    return {"<": less, "<=": less or equal, ">": not (less or equal), ">=": not less}[
        asked.operator
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=FILTERS)
def test_postgresql_evaluates_every_filter_as_python_does(
    failed: Engine, asked: FailureFilter
) -> None:
    """Hostile texts change nothing, and no filter is an error."""
    everything = list(list_failures(failed))
    assert len(everything) == 5
    # Python and PostgreSQL fold the case of non-ASCII letters differently.
    if str(asked).isascii():
        assert list(list_failures(failed, asked)) == [r for r in everything if matches(asked, r)]
    else:
        list(list_failures(failed, asked))


def test_counts_name_the_newest(failed: Engine) -> None:
    groups = failure_groups(failed, "code")
    assert [(g.part, g.code, g.objects, g.message) for g in groups] == [
        ("", "corrupt", 2, None),
        ("", "s3_unavailable", 2, "Slow down"),
        ("", "worker_killed", 1, "3 workers died with it"),
    ]
    assert groups[1].example == "s3://ba/3.jpg"
    by_archive = failure_groups(failed, "archive", parse("code = 'corrupt'"))
    assert [(g.part, g.objects) for g in by_archive] == [("a", 1), ("b", 1)]
    by_day = failure_groups(failed, "day", parse("code = 's3_unavailable'"))
    assert [g.part for g in by_day] == [str(datetime.now(UTC).date()), "2026-11-01"]


def test_vanished_objects_and_those_of_another_release_are_not_listed(failed: Engine) -> None:
    record(failed, "b", "old.jpg", "failed", "corrupt", None, release="old")
    with failed.begin() as connection:
        connection.execute(
            text(
                "UPDATE geotag.object_version SET superseded_at = now() WHERE key = '2.jpg';"
                "UPDATE geotag.object_version SET vanished_at = now() WHERE key = '3.jpg'"
            )
        )
    assert keys(failed) == ["a/1.jpg", "a/x/4.jpg", "b/1.jpg"]
    assert sum(group.objects for group in failure_groups(failed, "code", any_release=True)) == 4


def test_retry_makes_objects_pending_and_keeps_their_history(failed: Engine) -> None:
    before = rows(failed, "SELECT object_version_id, code, run_id FROM geotag.outcome ORDER BY 1")

    run_id, codes, busy = again(failed, EVERYTHING)

    assert codes == {"corrupt": 2, "s3_unavailable": 2, "worker_killed": 1}
    assert busy == 0
    assert keys(failed) == []
    kept = "SELECT object_version_id, code, run_id FROM geotag.retried_outcome ORDER BY 1"
    assert rows(failed, kept) == before
    run = "SELECT source, queue, listed, planned_at IS NOT NULL FROM geotag.run WHERE id = "
    assert rows(failed, f"{run}{run_id}") == [("retry: test", "backfill", 5, True)]
    # Chunks of at most two objects of one archive; the quarantined object alone.
    chunks = (
        "SELECT array_agg(a.name || '/' || v.key ORDER BY v.id) FROM geotag.run_object ro"
        " JOIN geotag.object_version v ON v.id = ro.object_version_id"
        " JOIN geotag.archive a ON a.id = v.archive_id JOIN geotag.chunk c ON c.id = ro.chunk_id"
        " WHERE c.published_at IS NULL AND c.archive_id = a.id GROUP BY ro.chunk_id ORDER BY 1"
    )
    assert [chunk[0] for chunk in rows(failed, chunks)] == [
        ["a/1.jpg", "a/2.jpg"], ["a/3.jpg"], ["a/x/4.jpg"], ["b/1.jpg"],
    ]  # fmt: skip


def test_second_retry_finds_nothing(failed: Engine) -> None:
    first = again(failed, "code = 'corrupt'")
    assert first[0] is not None
    assert again(failed, "code = 'corrupt'") == (None, {}, 0)
    assert rows(failed, "SELECT count(*) FROM geotag.retried_outcome") == [(2,)]


def test_concurrent_retries_retry_each_object_once(failed: Engine) -> None:
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: again(failed, EVERYTHING), range(4)))
    assert sorted(sum(codes.values()) for _run, codes, _busy in done) == [0, 0, 0, 5]
    assert rows(failed, "SELECT count(*) FROM geotag.retried_outcome") == [(5,)]


def test_dry_run_changes_nothing(failed: Engine) -> None:
    runs = "SELECT count(*) FROM geotag.run"
    before = rows(failed, runs)
    assert again(failed, EVERYTHING, dry_run=True) == (
        None, {"corrupt": 2, "s3_unavailable": 2, "worker_killed": 1}, 0,
    )  # fmt: skip
    assert rows(failed, runs) == before
    assert len(keys(failed)) == 5


def test_repeated_failures_can_be_retried_and_are_counted(failed: Engine) -> None:
    for times in range(1, 4):
        run_id, codes, _busy = again(failed, "code = 'worker_killed'")
        assert codes == {"worker_killed": 1}
        ((chunk_id, object_id),) = rows(
            failed,
            f"SELECT chunk_id, object_version_id FROM geotag.run_object WHERE run_id = {run_id}",
        )
        assert isinstance(chunk_id, int)
        assert isinstance(object_id, int)
        died = Result(object_id, "quarantined", "worker_killed", "again")
        ledger.write_results(failed, chunk_id, [died])
        assert keys(failed, f"retries = {times}") == ["a/x/4.jpg"]
    assert keys(failed, "retries < 3 and code = 'worker_killed'") == []


def test_a_retry_counts_crashes_anew(failed: Engine) -> None:
    """The crashes that led to a quarantine do not count after the retry."""
    crash = (
        "INSERT INTO geotag.attempt (object_version_id, release_id, chunk_id, worker, finished_at,"
        " code) SELECT ro.object_version_id, r.release_id, ro.chunk_id, 'w', now(), 'worker_killed'"
        " FROM geotag.run_object ro JOIN geotag.run r ON r.id = ro.run_id WHERE r.id = :run"
    )
    for kills_before in (0, 0):
        run_id, _codes, _busy = again(failed, "code = 'worker_killed'")
        chunk_id = rows(failed, f"SELECT id FROM geotag.chunk WHERE run_id = {run_id}")[0][0]
        assert isinstance(chunk_id, int)
        begun = ledger.begin_chunk(failed, chunk_id, 1)
        assert begun is not None
        assert [obj.kills for obj in begun.objects] == [kills_before]
        for _ in range(3):
            with failed.begin() as connection:
                connection.execute(text(crash), {"run": run_id})
        begun = ledger.begin_chunk(failed, chunk_id, 1)
        assert begun is not None
        assert [obj.kills for obj in begun.objects] == [3]
        died = Result(begun.objects[0].object_version_id, "quarantined", "worker_killed", "died")
        ledger.write_results(failed, chunk_id, [died])


def test_objects_of_unfinished_runs_are_not_retried(failed: Engine) -> None:
    with failed.begin() as connection:
        connection.execute(
            text(
                "WITH r AS (INSERT INTO geotag.run (source, queue, release_id)"
                " SELECT 'at it', 'backfill', id FROM geotag.release WHERE active RETURNING id),"
                " v AS (SELECT id, archive_id FROM geotag.object_version WHERE key = '2.jpg'),"
                " c AS (INSERT INTO geotag.chunk (run_id, archive_id)"
                " SELECT r.id, v.archive_id FROM r, v RETURNING id, run_id)"
                " INSERT INTO geotag.run_object (run_id, object_version_id, chunk_id)"
                " SELECT c.run_id, v.id, c.id FROM c, v"
            )
        )
    _run_id, codes, busy = again(failed, "code = 's3_unavailable'")
    assert (codes, busy) == ({"s3_unavailable": 1}, 1)
    assert keys(failed, "code = 's3_unavailable'") == ["a/2.jpg"]
    assert again(failed, "code = 's3_unavailable'") == (None, {}, 1)


def test_removed_archives_are_not_retried(failed: Engine) -> None:
    with failed.begin() as connection:
        connection.execute(text("UPDATE geotag.archive SET removed_at = now() WHERE name = 'b'"))
    _run_id, codes, _busy = again(failed, "code = 'corrupt'")
    assert codes == {"corrupt": 1}
    assert keys(failed, "code = 'corrupt'") == ["b/1.jpg"]


def test_since_includes_its_day(failed: Engine) -> None:
    yesterday = Comparison("day", ">=", ((YESTERDAY + timedelta(days=1)).date(),))
    assert "a/2.jpg" not in [f"{f.archive}/{f.key}" for f in list_failures(failed, yesterday)]
    assert len(list(list_failures(failed, yesterday))) == 4


def test_retry_after_the_cause_is_removed_ends_the_quarantine(
    running: Context, bucket: str, geotag: Geotag, tmp_path: Path
) -> None:
    picture = good_files()["plain.jpg"] + bucket.encode()
    files = {"good.jpg": picture, "poison.jpg": picture + MARKER, "bad.jpg": b"no picture"}
    upload(running, bucket, files)
    with only_backfill_worker(running, WORKER, tmp_path):
        assert geotag("run", f"s3://{bucket}").returncode == 3
    where = f"archive = '{bucket}' and state = 'quarantined'"

    counted = parsed(geotag("failures", "--archive", bucket, "--format", "json"))
    (listed,) = parsed(geotag("failures", "--keys", "--where", where, "--format", "json"))
    tried = geotag("retry", "--where", where, "--yes")
    run = re.search(r"run (\d+): retrying 1 objects", tried.stdout)
    assert run, tried.stdout + tried.stderr
    watched = geotag("status", "--watch", "--run", run[1])

    assert {(each["code"], each["objects"]) for each in counted} == {
        ("not_an_image", 1), ("worker_killed", 1),
    }  # fmt: skip
    assert (listed["key"], listed["code"]) == ("poison.jpg", "worker_killed")
    assert watched.returncode == 0, watched.stderr
    states = {key: row.state for key, row in results(running, bucket).items()}
    assert states == {"good.jpg": "geotagged", "poison.jpg": "geotagged", "bad.jpg": "failed"}
    assert set(outcomes_of(running, bucket).values()) == {1}
    assert "nothing to retry" in geotag("retry", "--where", where, "--yes").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retry",), "nothing selected"),
        (("retry", "--where", "code = corrupt"), "expected a text in single quotes"),
        (("retry", "--key", "photo.jpg"), "not an S3 URL"),
        (("failures", "--where", "x"), "expected one of code"),
        (("failures", "--since", "yesterday"), "yesterday"),
        (("failures", "--by", "colour"), "colour"),
    ],
)
def test_wrong_usage_is_explained(geotag: Geotag, arguments: tuple[str, ...], said: str) -> None:
    done = geotag(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
