"""Queries and writes of workers on the real PostGIS: leases, claims, results and crashes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from db import ledger, planning
from db.copy import Value, stage
from db.engine import is_transient
from db.leases import ChunkLeasedElsewhere, Claim, Lease
from db.ledger import Content, Result
from db.planning import PlannedChunk
from geotag.context import Context
from tests.ledger_helpers import listed, located, new_archive, new_run, planned, sha
from tests.stack_helpers import scalar, until


@pytest.fixture
def engine(running: Context) -> Engine:
    return running.engine


def rows(engine: Engine, query: str, **values: object) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), values)]


def everything_of(engine: Engine, chunk_id: int) -> list[list[tuple[object, ...]]]:
    """Return every row that the results of a chunk have changed."""
    of_chunk = "SELECT object_version_id FROM geotag.run_object WHERE chunk_id = :chunk_id"
    outcomes = f"SELECT o.* FROM geotag.outcome o WHERE o.object_version_id IN ({of_chunk})"
    return [
        rows(engine, query, chunk_id=chunk_id)
        for query in (
            f"SELECT c.* FROM geotag.content c WHERE c.sha256 IN (SELECT o.sha256 FROM ({outcomes})"
            " o) ORDER BY 1",
            f"SELECT g.* FROM geotag.geotag g WHERE g.sha256 IN (SELECT o.sha256 FROM ({outcomes})"
            " o) ORDER BY 1",
            f"{outcomes} ORDER BY 1",
            f"SELECT v.* FROM geotag.object_version v WHERE v.id IN ({of_chunk}) ORDER BY 1",
            "SELECT a.* FROM geotag.attempt a WHERE a.chunk_id = :chunk_id ORDER BY 1",
        )
    ]


def kill_session_of(engine: Engine, chunk_id: int) -> None:
    """End the session that leases a chunk, as the death of its worker does."""
    with engine.begin() as connection:
        killed = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE locktype = 'advisory' AND granted AND"
                " (classid::bigint << 32) | objid::bigint"
                "   = hashtextextended('geotag.chunk:' || :id, 0)"
            ),
            {"id": str(chunk_id)},
        ).all()
    assert killed == [(True,)]


def test_writing_results_twice_changes_nothing(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg", "b.jpg", "c.jpg"])
    first, second, third = chunk.object_version_ids
    results = [
        located(engine, first, f"{chunk.chunk_id} a"),
        located(engine, second, f"{chunk.chunk_id} b", state="abstained", abstention="dark"),
        Result(third, "failed", "corrupt", "what\x00ever", Content(sha(f"{chunk.chunk_id} c"), 1)),
    ]
    ledger.open_attempts(engine, chunk.chunk_id, chunk.object_version_ids, "test")

    ledger.write_results(engine, chunk.chunk_id, results)
    before = everything_of(engine, chunk.chunk_id)
    ledger.write_results(engine, chunk.chunk_id, results)

    assert everything_of(engine, chunk.chunk_id) == before
    assert [len(table) for table in before] == [2, 2, 3, 3, 3]
    counted = "geotagged, abstained, failed, quarantined, finished_at IS NOT NULL"
    assert rows(
        engine, f"SELECT {counted} FROM geotag.chunk WHERE id = :id", id=chunk.chunk_id
    ) == [(1, 1, 1, 0, True)]


def test_first_outcome_stands(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg"])
    (object_id,) = chunk.object_version_ids
    ledger.write_results(engine, chunk.chunk_id, [located(engine, object_id, f"{chunk.chunk_id}")])

    ledger.write_results(engine, chunk.chunk_id, [Result(object_id, "failed", "corrupt", "no")])

    outcome = "SELECT state, code FROM geotag.outcome WHERE object_version_id = :id"
    assert rows(engine, outcome, id=object_id) == [("geotagged", None)]


def test_known_bytes_need_no_second_geotag(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg", "copy.jpg"])
    first, copy = chunk.object_version_ids
    name = f"{chunk.chunk_id}"
    ledger.write_results(
        engine, chunk.chunk_id, [located(engine, first, name, state="abstained", abstention="x")]
    )

    # The stored geotag decides the state, not this worker's result.
    ledger.write_results(
        engine, chunk.chunk_id, [Result(copy, "geotagged", content=Content(sha(name), 10))]
    )

    outcome = "SELECT state FROM geotag.outcome WHERE object_version_id = :id"
    assert rows(engine, outcome, id=copy) == [("abstained",)]


def test_facts_may_be_added_later_and_are_never_removed(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg", "b.jpg", "c.jpg"])
    ids = chunk.object_version_ids
    name = f"facts {chunk.chunk_id}"
    bare = Content(sha(name), 10)
    full = Content(sha(name), 10, format="JPEG", exif_longitude=-0.1, exif_latitude=51.5)
    query = (
        "SELECT format, ST_X(exif_position::geometry), ST_Y(exif_position::geometry)"
        " FROM geotag.content WHERE sha256 = :sha256"
    )
    for object_id, content, expected in zip(
        ids,
        (bare, full, bare),
        ((None, None, None), ("JPEG", -0.1, 51.5), ("JPEG", -0.1, 51.5)),
        strict=True,
    ):
        result = Result(object_id, "failed", "corrupt", "", content)
        ledger.write_results(engine, chunk.chunk_id, [result])
        assert rows(engine, query, sha256=sha(name)) == [expected]


def test_two_writers_of_the_same_contents_in_opposite_order(engine: Engine) -> None:
    keys = [f"{number:03}.jpg" for number in range(60)]
    chunks = [planned(engine, keys, chunk_size=len(keys))[1][0] for _ in range(2)]
    names = [f"shared {chunks[0].chunk_id} {key}" for key in keys]
    together = threading.Barrier(2)

    def write(chunk: PlannedChunk, order: list[str]) -> None:
        results = [
            located(engine, object_id, name)
            for object_id, name in zip(chunk.object_version_ids, order, strict=True)
        ]
        together.wait()
        ledger.write_results(engine, chunk.chunk_id, results)

    with ThreadPoolExecutor(2) as threads:
        jobs = [
            threads.submit(write, chunk, order)
            for chunk, order in zip(chunks, (names, names[::-1]), strict=True)
        ]
        for job in jobs:
            job.result()

    for chunk in chunks:
        assert rows(
            engine, "SELECT geotagged FROM geotag.chunk WHERE id = :id", id=chunk.chunk_id
        ) == [(len(keys),)]


def test_hostile_text_is_stored_as_it_is(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg"])
    message = "tab\t newline\n backslash\\ \\. quote'\" {braces} \\N é 漢 \x01\x7f"
    result = Result(chunk.object_version_ids[0], "failed", "corrupt", message)

    ledger.write_results(engine, chunk.chunk_id, [result])

    query = "SELECT message FROM geotag.outcome WHERE object_version_id = :id"
    assert rows(engine, query, id=chunk.object_version_ids[0]) == [(message,)]


def test_text_that_postgresql_cannot_hold_does_not_stop_the_chunk(engine: Engine) -> None:
    """NUL, and a lone surrogate, which `surrogateescape` makes of a Latin-1 file name."""
    _run_id, (chunk,) = planned(engine, ["a.jpg"])
    result = Result(chunk.object_version_ids[0], "failed", "corrupt", "nul\x00 half\udce9")

    ledger.write_results(engine, chunk.chunk_id, [result])

    query = "SELECT starts_with(message, 'nul') FROM geotag.outcome WHERE object_version_id = :id"
    assert rows(engine, query, id=chunk.object_version_ids[0]) == [(True,)]


def test_chunk_begins_with_its_objects_without_an_outcome(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg", "b.jpg"])
    first, second = chunk.object_version_ids
    ledger.write_results(engine, chunk.chunk_id, [Result(first, "failed", "corrupt", "")])

    begun = ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)

    assert begun is not None
    assert [(obj.object_version_id, obj.key, obj.kills) for obj in begun.objects] == [
        (second, "b.jpg", 0)
    ]
    assert begun.release == "untrained"


def test_stale_delivery_and_finished_chunk_are_dropped(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg"])
    assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery - 1) is None
    assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery + 1) is None
    (object_id,) = chunk.object_version_ids
    ledger.write_results(engine, chunk.chunk_id, [Result(object_id, "failed", "corrupt", "")])
    assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery) is None
    assert ledger.begin_chunk(engine, 2**62, 1) is None


def test_chunk_whose_objects_other_runs_finished_has_nothing_to_do(engine: Engine) -> None:
    archive = new_archive(engine)
    (first,), (second,) = (
        _chunks(engine, archive, ["shared.jpg"]),
        _chunks(engine, archive, ["shared.jpg"]),
    )
    assert first.object_version_ids == second.object_version_ids
    (object_id,) = first.object_version_ids
    ledger.write_results(engine, first.chunk_id, [Result(object_id, "failed", "corrupt", "")])

    begun = ledger.begin_chunk(engine, second.chunk_id, second.delivery)

    assert begun is not None
    assert begun.objects == ()
    ledger.finish_chunk(engine, second.chunk_id)
    query = "SELECT failed, finished_at IS NOT NULL FROM geotag.chunk WHERE id = :id"
    assert rows(engine, query, id=second.chunk_id) == [(1, True)]


def _chunks(engine: Engine, archive: int, keys: list[str]) -> tuple[PlannedChunk, ...]:
    page = planning.plan_page(
        engine, new_run(engine), planning.ListedPage(listed(archive, keys)), chunk_size=8
    )
    return page.chunks


def test_attempts_left_open_are_counted_as_crashes(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg", "b.jpg"])
    for died in range(1, 4):
        ledger.open_attempts(engine, chunk.chunk_id, chunk.object_version_ids, "test")
        begun = ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
        assert begun is not None
        assert {obj.kills for obj in begun.objects} == {died}


def test_object_handed_back_is_not_counted_as_a_crash(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg"])
    ledger.open_attempts(engine, chunk.chunk_id, chunk.object_version_ids, "test")
    (object_id,) = chunk.object_version_ids

    ledger.write_results(engine, chunk.chunk_id, [Result(object_id, None, "triton_unavailable")])

    begun = ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
    assert begun is not None
    assert [obj.kills for obj in begun.objects] == [0]
    query = "SELECT code FROM geotag.attempt WHERE object_version_id = :id"
    assert rows(engine, query, id=object_id) == [("triton_unavailable",)]


@pytest.fixture
def lease_and_chunk(engine: Engine) -> Iterator[tuple[Lease, int]]:
    _run_id, (chunk,) = planned(engine, ["a.jpg"])
    lease = Lease(engine, chunk.chunk_id)
    try:
        yield lease, chunk.chunk_id
    finally:
        lease.release()


def test_lease_is_exclusive_until_released(engine: Engine) -> None:
    _run_id, (chunk,) = planned(engine, ["a.jpg"])
    lease = Lease(engine, chunk.chunk_id)
    with pytest.raises(ChunkLeasedElsewhere):
        Lease(engine, chunk.chunk_id)
    lease.release()
    until(lambda: _can_lease(engine, chunk.chunk_id))


def test_lease_ends_with_its_session(engine: Engine, lease_and_chunk: tuple[Lease, int]) -> None:
    lease, chunk_id = lease_and_chunk
    kill_session_of(engine, chunk_id)
    until(lambda: _can_lease(engine, chunk_id))
    with pytest.raises(SQLAlchemyError) as caught:
        lease.claim(sha("whatever"), "untrained")
    assert is_transient(caught.value)
    with pytest.raises(SQLAlchemyError) as caught:  # it does not reconnect silently
        lease.claim(sha("whatever"), "untrained")
    assert is_transient(caught.value)


def _can_lease(engine: Engine, chunk_id: int) -> bool:
    try:
        Lease(engine, chunk_id).release()
    except ChunkLeasedElsewhere:
        return False
    return True


def test_refused_leases_leak_no_connection(
    engine: Engine, lease_and_chunk: tuple[Lease, int]
) -> None:
    _lease, chunk_id = lease_and_chunk
    for _ in range(50):  # more than the pool has connections
        with pytest.raises(ChunkLeasedElsewhere):
            Lease(engine, chunk_id)


def test_claim_of_new_bytes_then_busy_then_known(engine: Engine) -> None:
    _run_id, (one, other) = planned(engine, ["a.jpg", "b.jpg"], chunk_size=1)
    name = f"claimed {one.chunk_id}"
    first, second = Lease(engine, one.chunk_id), Lease(engine, other.chunk_id)
    try:
        assert first.claim(sha(name), "untrained") == Claim(leased=True, state=None)
        assert second.claim(sha(name), "untrained") == Claim(leased=False, state=None)
        # A claim is for one release.
        assert second.claim(sha(name), "other").leased

        result = located(engine, one.object_version_ids[0], name)
        ledger.write_results(engine, one.chunk_id, [result])
        assert second.claim(sha(name), "untrained").leased is False  # not released yet
        first.release_contents()

        claim = second.claim(sha(name), "untrained")
        assert claim == Claim(leased=True, state="geotagged")
    finally:
        first.release()
        second.release()


def test_bytes_claimed_twice_are_released_at_once(engine: Engine) -> None:
    """PostgreSQL counts a session's advisory locks: each must be released as often as taken."""
    _run_id, (one, other) = planned(engine, ["a.jpg", "b.jpg"], chunk_size=1)
    name = f"claimed {one.chunk_id}"
    first, second = Lease(engine, one.chunk_id), Lease(engine, other.chunk_id)
    try:
        assert first.claim(sha(name), "untrained").leased
        assert first.claim(sha(name), "untrained").leased
        first.release_contents()
        assert second.claim(sha(name), "untrained").leased
    finally:
        first.release()
        second.release()


def test_claim_ends_with_its_session(engine: Engine) -> None:
    _run_id, (one, other) = planned(engine, ["a.jpg", "b.jpg"], chunk_size=1)
    name = f"claimed {one.chunk_id}"
    first, second = Lease(engine, one.chunk_id), Lease(engine, other.chunk_id)
    try:
        assert first.claim(sha(name), "untrained").leased
        kill_session_of(engine, one.chunk_id)
        until(lambda: second.claim(sha(name), "untrained").leased)
    finally:
        first.release()
        second.release()


def test_threads_share_a_lease(engine: Engine, lease_and_chunk: tuple[Lease, int]) -> None:
    lease, chunk_id = lease_and_chunk
    with ThreadPoolExecutor(8) as threads:
        names = [f"{chunk_id} {number % 5}" for number in range(40)]
        claims = list(threads.map(lambda name: lease.claim(sha(name), "untrained"), names))
    assert all(claim.leased and claim.state is None for claim in claims)


@pytest.mark.parametrize("died", ["before", "while"])
def test_connection_lost_during_a_bulk_write_is_transient(engine: Engine, died: str) -> None:
    """`retry_ledger` waits for it to end; it is no internal error."""

    def rows_that_kill(pid: int) -> Iterator[tuple[Value, ...]]:
        yield (1,)
        with engine.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        until(lambda: not rows(engine, "SELECT FROM pg_stat_activity WHERE pid = :p", p=pid))

    def lose_the_connection() -> None:
        with engine.begin() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            if died == "before":
                list(rows_that_kill(pid))
                stage(connection, {"id": "int"}, [(1,)], name="staged")
            else:
                stage(connection, {"id": "int"}, rows_that_kill(pid), name="staged")

    with pytest.raises(SQLAlchemyError) as caught:
        lose_the_connection()
    assert is_transient(caught.value)


def test_value_refused_in_a_bulk_write_is_permanent(engine: Engine) -> None:
    """`_write` splits a refused batch, so COPY must raise the errors that statements raise."""
    with pytest.raises(SQLAlchemyError) as caught, engine.begin() as connection:
        stage(connection, {"id": "int"}, [("no number",)], name="staged")
    assert not is_transient(caught.value)


@pytest.mark.parametrize(
    ("code", "transient"),
    [
        ("08006", True),  # connection_failure
        ("40001", True),  # serialization_failure
        ("40P01", True),  # deadlock_detected
        ("53100", True),  # disk_full
        ("57P01", True),  # admin_shutdown
        ("22003", False),  # numeric_value_out_of_range
        ("42501", False),  # insufficient_privilege
        ("54000", False),  # program_limit_exceeded
    ],
)
def test_sqlstate_of_the_server_decides_whether_an_error_is_transient(
    engine: Engine, code: str, transient: bool
) -> None:
    raised = text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
    with pytest.raises(SQLAlchemyError) as caught, engine.begin() as connection:
        connection.execute(raised)
    assert is_transient(caught.value) is transient


def test_oversized_key_is_a_permanent_error(running: Context) -> None:
    """A key that is too long for an index is refused at each try."""
    with pytest.raises(SQLAlchemyError) as caught, running.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO geotag.archive (name, endpoint, bucket)"
                " SELECT string_agg(md5(i::text), ''), 'x', 'x' FROM generate_series(1, 400) i"
            )
        )
    assert not is_transient(caught.value)
    assert scalar(running, "SELECT count(*) FROM geotag.archive WHERE endpoint = 'x'") == 0
