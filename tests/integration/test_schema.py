"""The schema: migrations up and down, and rows that each constraint refuses."""

from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from geoalchemy2 import alembic_helpers
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from db import migrate, schema
from db.schema import SCHEMA, metadata
from geotag.context import Context
from tests.conftest import Geotag
from tests.images import good_files
from tests.ledger_helpers import listed, new_archive, new_run, sha
from tests.stack_helpers import upload


@pytest.fixture
def scratch(running: Context) -> Iterator[Engine]:
    """An empty second database, with PostGIS and without our schema."""
    url = running.settings.database.database_url
    assert url is not None
    server = create_engine(url.get_secret_value(), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS scratch WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE scratch"))
    engine = create_engine(make_url(url.get_secret_value()).set(database="scratch"))
    yield engine
    engine.dispose()
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE scratch WITH (FORCE)"))
    server.dispose()


def objects(engine: Engine) -> set[tuple[str, str]]:
    """Return all tables, views, indexes, sequences and functions of our schema."""
    query = (
        "SELECT relkind::text, relname FROM pg_class WHERE relnamespace = to_regnamespace('geotag')"
        " UNION ALL SELECT 'function', proname FROM pg_proc"
        "  WHERE pronamespace = to_regnamespace('geotag')"
    )
    with engine.connect() as connection:
        return {(row[0], row[1]) for row in connection.execute(text(query))}


def definitions(engine: Engine) -> set[tuple[str, ...]]:
    """Return columns, constraints and indexes of our tables, as PostgreSQL prints them."""
    queries = (
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,"
        " a.attidentity::text, coalesce(pg_get_expr(d.adbin, d.adrelid), ''),"
        " coalesce(col_description(c.oid, a.attnum), '')"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " AND NOT a.attisdropped"
        " LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)"
        " WHERE c.relnamespace = 'geotag'::regnamespace AND c.relkind = 'r'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'geotag'::regnamespace",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'geotag'",
    )
    with engine.connect() as connection:
        return {tuple(row) for query in queries for row in connection.execute(text(query))}


def test_up_down_and_up_again(scratch: Engine) -> None:
    migrate.upgrade(scratch)
    first = objects(scratch), definitions(scratch)
    assert ("r", "geotag") in first[0]
    assert ("v", "current_geotag") in first[0]

    migrate.downgrade(scratch)
    assert objects(scratch) == set()

    migrate.upgrade(scratch)
    assert (objects(scratch), definitions(scratch)) == first


def test_upgrading_again_changes_nothing(scratch: Engine) -> None:
    migrate.upgrade(scratch)
    before = objects(scratch)
    migrate.upgrade(scratch)
    assert objects(scratch) == before


def test_alembic_finds_no_difference_to_the_declared_tables(scratch: Engine) -> None:
    migrate.upgrade(scratch)
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        "include_object": alembic_helpers.include_object,
        "compare_type": True,
        "compare_server_default": True,
    }
    with scratch.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_migrations_make_exactly_the_declared_tables(scratch: Engine) -> None:
    """Compare check constraints and comments too, which Alembic ignores."""
    migrate.upgrade(scratch)
    migrated = definitions(scratch)
    migrate.downgrade(scratch)
    with scratch.begin() as connection:
        metadata.create_all(connection)
    assert migrated == definitions(scratch)


def rolled_back(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def connection(running: Context) -> Iterator[Connection]:
    """A transaction on the ledger that is rolled back."""
    yield from rolled_back(running.engine)


@pytest.fixture
def geotag_row(running: Context, connection: Connection) -> dict[str, Any]:
    """Return a valid row of the table `geotag`, for an existing content."""
    release = connection.execute(
        text(
            "SELECT r.id, min(p.token) AS token FROM geotag.release r"
            " JOIN geotag.partition_cell p ON p.partition_id = r.fine_partition_id"
            " WHERE r.active GROUP BY r.id"
        )
    ).one()
    content = {"sha256": sha("schema"), "bytes": 1}
    connection.execute(schema.content.insert().values(content))
    cells = ("candidate", "region_50", "region_80", "region_95")
    return {
        "sha256": sha("schema"),
        "release_id": release.id,
        "calibrated": False,
        "state": "geotagged",
        "position": "SRID=4326;POINT(10.4 43.7)",
        "scene": "urban",
        "run_id": new_run(running.engine).id,
        "code_version": "test",
        **{f"{name}_cell": release.token for name in ("coarse", "middle", "fine")},
        **{f"{name}_probability": 0.5 for name in ("coarse", "middle", "fine")},
        **{f"scene_{name}": 0.25 for name in ("indoor", "natural", "urban")},
        **{f"{name}_cells": [release.token] for name in cells},
        **{f"{name}_probabilities": [0.5] for name in cells},
    }


def refused(connection: Connection, statement: Any, constraint: str) -> None:
    """Assert that the statement fails with this message."""
    with pytest.raises(DBAPIError) as caught, connection.begin_nested():
        connection.execute(statement)
    diagnostics = caught.value.orig.diag  # type: ignore[union-attr]
    named = diagnostics.constraint_name or diagnostics.column_name or diagnostics.message_primary
    assert constraint in (named or ""), str(caught.value)


def test_valid_rows_are_accepted(connection: Connection, geotag_row: dict[str, Any]) -> None:
    connection.execute(schema.geotag.insert().values(geotag_row))


WRONG_GEOTAGS: list[tuple[dict[str, Any], str]] = [
    ({"sha256": sha("nobody's")}, "fk_geotag_sha256"),
    ({"calibrated": True}, "fk_geotag_release_id_calibrated"),
    ({"confidence": 0.5}, "only_calibrated_is_confidence"),
    ({"confidence_2500_km": 0.5}, "only_calibrated_is_confidence"),
    ({"state": "abstained", "position": None}, "state_says_whether_it_abstained"),
    ({"abstention": "dark"}, "state_says_whether_it_abstained"),
    ({"state": "abstained", "abstention": "dark"}, "position_unless_abstained"),
    ({"position": None}, "position_unless_abstained"),
    ({"state": "failed"}, "state_says_whether_it_abstained"),
    ({"scene": "moon"}, "scene_exists"),
    ({"fine_cell": "no such"}, "fk_geotag_fine_cell"),
    ({"coarse_cell": "no such"}, "fk_geotag_coarse_cell"),
    ({"candidate_probabilities": [0.5, 0.25]}, "candidate_is_paired"),
    ({"candidate_cells": ["x"] * 11, "candidate_probabilities": [0.1] * 11}, "candidate_is_paired"),
    ({"region_50_probabilities": []}, "region_50_is_paired"),
    ({"coarse_cell": None}, "coarse_is_paired"),
    ({"middle_probability": None}, "middle_is_paired"),
    ({"region_95_cells": ["x"] * 65, "region_95_probabilities": [0] * 65}, "region_95_is_paired"),
    ({"candidate_cells": None}, "candidate_cells"),
    ({"scene_urban": None}, "scene_urban"),
]


@pytest.mark.parametrize(("changes", "constraint"), WRONG_GEOTAGS)
def test_wrong_geotag_is_refused(
    connection: Connection,
    geotag_row: dict[str, Any],
    changes: dict[str, Any],
    constraint: str,
) -> None:
    refused(connection, schema.geotag.insert().values(geotag_row | changes), constraint)


def test_position_that_is_nan_is_refused(
    connection: Connection, geotag_row: dict[str, Any]
) -> None:
    """PostGIS accepts NaN as a coordinate. Maps and JSON readers do not."""
    wrong = geotag_row | {"position": "SRID=4326;POINT(nan nan)"}
    refused(connection, schema.geotag.insert().values(wrong), "ck_geotag_position_is_on_earth")
    wrong = {"sha256": sha("nowhere"), "bytes": 1, "exif_position": "SRID=4326;POINT(0 nan)"}
    refused(
        connection, schema.content.insert().values(wrong), "ck_content_exif_position_is_on_earth"
    )


@pytest.mark.parametrize("name", ["coarse_probability", "fine_probability", "scene_urban"])
@pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
def test_probability_out_of_range_is_refused(
    connection: Connection, geotag_row: dict[str, Any], name: str, value: float
) -> None:
    constraint = f"ck_geotag_{name}_is_probability"
    refused(connection, schema.geotag.insert().values(geotag_row | {name: value}), constraint)


@pytest.fixture
def calibrated(connection: Connection, geotag_row: dict[str, Any]) -> dict[str, Any]:
    """Return a valid row of a calibrated release."""
    release_id = connection.execute(
        text(
            "INSERT INTO geotag.release (name, digest, calibrated, coarse_partition_id,"
            " middle_partition_id, fine_partition_id, manifest)"
            " SELECT 'calibrated', 'digest', true, coarse_partition_id, middle_partition_id,"
            " fine_partition_id, manifest FROM geotag.release WHERE active RETURNING id"
        )
    ).scalar_one()
    return geotag_row | {"release_id": release_id, "calibrated": True}


@pytest.mark.parametrize("name", ["confidence", "confidence_1_km", "confidence_2500_km"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_confidence_out_of_range_is_refused(
    connection: Connection, calibrated: dict[str, Any], name: str, value: float
) -> None:
    constraint = f"ck_geotag_{name}_is_probability"
    refused(connection, schema.geotag.insert().values(calibrated | {name: value}), constraint)
    connection.execute(schema.geotag.insert().values(calibrated | {name: 1.0}))


def test_release_cannot_change_whether_it_is_calibrated(
    connection: Connection, geotag_row: dict[str, Any]
) -> None:
    connection.execute(schema.geotag.insert().values(geotag_row))
    claim = text("UPDATE geotag.release SET calibrated = true WHERE id = :id").bindparams(
        id=geotag_row["release_id"]
    )
    refused(connection, claim, "fk_geotag_release_id_calibrated")


@pytest.mark.parametrize("column", ["scene", "code_version"])
def test_geotag_cannot_be_updated(
    connection: Connection, geotag_row: dict[str, Any], column: str
) -> None:
    connection.execute(schema.geotag.insert().values(geotag_row))
    refused(connection, schema.geotag.update().values({column: "indoor"}), "append-only")


def test_there_is_one_active_release(connection: Connection, calibrated: dict[str, Any]) -> None:
    second = schema.release.update().values(active=True)
    refused(connection, second, "uq_release_active")


@pytest.fixture
def object_id(running: Context, connection: Connection) -> int:
    row = listed(new_archive(running.engine), ["a.jpg"])[0]
    values = {"archive_id": row.archive_id, "key": "a.jpg", "etag": "1", "size": 1}
    made = schema.object_version.insert().values(values).returning(schema.object_version.c.id)
    return int(connection.execute(made).scalar_one())


def test_key_has_one_current_version(connection: Connection, object_id: int) -> None:
    again = text(
        "INSERT INTO geotag.object_version (archive_id, key, etag, size)"
        " SELECT archive_id, key, :etag, size FROM geotag.object_version WHERE id = :id"
    )
    refused(connection, again.bindparams(id=object_id, etag="2"), "uq_object_version_current")
    same = again.bindparams(id=object_id, etag="1")
    connection.execute(text("UPDATE geotag.object_version SET superseded_at = now()"))
    refused(connection, same, "uq_object_version_archive_id_key_etag")
    connection.execute(again.bindparams(id=object_id, etag="2"))


GEOTAGGED = {"state": "geotagged", "sha256": sha("schema")}


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        # The geotag abstained (`abstained` below), and its outcome must say so.
        (GEOTAGGED, "fk_outcome_sha256_release_id_state"),
        ({"state": "geotagged", "sha256": sha("nobody's")}, "fk_outcome_sha256_release_id_state"),
        ({"state": "geotagged"}, "geotag_if_inferred"),
        ({"state": "abstained"}, "geotag_if_inferred"),
        ({"state": "failed"}, "code_if_failed"),
        ({"state": "quarantined"}, "code_if_failed"),
        ({"state": "abstained", "sha256": sha("schema"), "code": "corrupt"}, "code_if_failed"),
        ({"state": "failed", "sha256": sha("schema"), "code": "corrupt"}, "geotag_if_inferred"),
        ({"state": "pending"}, "state_exists"),
    ],
)
def test_wrong_outcome_is_refused(
    connection: Connection,
    geotag_row: dict[str, Any],
    object_id: int,
    changes: dict[str, Any],
    constraint: str,
) -> None:
    abstained = geotag_row | {"state": "abstained", "abstention": "dark", "position": None}
    connection.execute(schema.geotag.insert().values(abstained))
    outcome = {
        "object_version_id": object_id,
        "release_id": geotag_row["release_id"],
        "run_id": geotag_row["run_id"],
    }
    refused(connection, schema.outcome.insert().values(outcome | changes), constraint)
    right = outcome | {"state": "abstained", "sha256": sha("schema")}
    connection.execute(schema.outcome.insert().values(right))
    twice = outcome | {"state": "failed", "code": "corrupt"}
    refused(connection, schema.outcome.insert().values(twice), "pk_outcome")


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            schema.content.insert().values(sha256=b"short", bytes=1),
            "ck_content_sha256_has_32_bytes",
        ),
        (
            schema.content.insert().values(sha256=sha("x"), bytes=-1),
            "ck_content_bytes_not_negative",
        ),
        (
            schema.s2_cell.insert().values(
                token="z", level=31, parent=None, polygon="SRID=4326;MULTIPOLYGON EMPTY"
            ),
            "ck_s2_cell",
        ),
        (
            schema.s2_cell.insert().values(
                token="z", level=1, parent="nobody", polygon="SRID=4326;MULTIPOLYGON EMPTY"
            ),
            "fk_s2_cell_parent",
        ),
        (schema.run.insert().values(source="x", queue="urgent", release_id=1), "queue_exists"),
        (
            text(
                "INSERT INTO geotag.attempt (object_version_id, release_id, chunk_id, worker, code)"
                " VALUES (1, 1, 1, 'x', 'corrupt')"
            ),
            "code_when_finished",
        ),
    ],
)
def test_wrong_row_is_refused(connection: Connection, statement: Any, constraint: str) -> None:
    refused(connection, statement, constraint)


def test_regions_of_a_prediction_are_polygons(
    running: Context, bucket: str, geotag: Geotag
) -> None:
    upload(running, bucket, {"a.jpg": good_files()["plain.jpg"], "b.jpg": b"no picture"})
    assert geotag("run", f"s3://{bucket}").returncode == 3
    query = text(
        "SELECT level, probability, cells, area_km2, ST_IsValid(polygon) AS valid,"
        " ST_IsEmpty(polygon) AS empty, ST_SRID(polygon) AS srid, GeometryType(polygon) AS kind"
        " FROM geotag.candidate_region WHERE bucket = :bucket AND key = 'a.jpg' ORDER BY level"
    )
    with running.engine.connect() as connection:
        regions = connection.execute(query, {"bucket": bucket}).all()
        cells = connection.execute(
            text(
                "SELECT rank, probability, ST_IsValid(polygon), ST_IsEmpty(polygon)"
                " FROM geotag.candidate_cell WHERE bucket = :bucket ORDER BY rank"
            ),
            {"bucket": bucket},
        ).all()
    assert [region.level for region in regions] == [50, 80, 95]
    assert {(r.valid, r.empty, r.srid, r.kind) for r in regions} == {
        (True, False, 4326, "MULTIPOLYGON")
    }
    assert all(region.probability >= region.level / 100 - 1e-6 for region in regions)
    areas = [region.area_km2 for region in regions]
    assert 0 < areas[0] <= areas[1] <= areas[2] <= 510_072_000 * 1.001  # the Earth's surface
    assert [cell.rank for cell in cells] == list(range(1, len(cells) + 1))
    assert {tuple(cell)[2:] for cell in cells} == {(True, False)}
    probabilities = [cell.probability for cell in cells]
    assert probabilities == sorted(probabilities, reverse=True)


def test_current_geotag_has_one_row_for_each_current_object(
    running: Context, connection: Connection, geotag_row: dict[str, Any], object_id: int
) -> None:
    """Of the outcomes of several releases, the view shows that of the active one."""
    other = connection.execute(
        text(
            "INSERT INTO geotag.release (name, digest, calibrated, coarse_partition_id,"
            " middle_partition_id, fine_partition_id, manifest, registered_at)"
            " SELECT 'newer', 'digest', false, coarse_partition_id, middle_partition_id,"
            " fine_partition_id, manifest, now() + interval '1 day'"
            " FROM geotag.release WHERE active RETURNING id"
        )
    ).scalar_one()
    query = text(
        "SELECT state, code, release FROM geotag.current_geotag WHERE object_version_id = :i"
    )

    def shown() -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(query, {"i": object_id})]

    assert shown() == [("pending", None, None)]
    outcome = {"object_version_id": object_id, "state": "failed", "run_id": geotag_row["run_id"]}
    connection.execute(
        schema.outcome.insert().values(outcome | {"release_id": other, "code": "empty"})
    )
    assert shown() == [("failed", "empty", "newer")]
    active = outcome | {"release_id": geotag_row["release_id"], "code": "corrupt"}
    connection.execute(schema.outcome.insert().values(active))
    assert shown() == [("failed", "corrupt", "untrained")]
    connection.execute(text("UPDATE geotag.object_version SET superseded_at = now()"))
    assert shown() == []
