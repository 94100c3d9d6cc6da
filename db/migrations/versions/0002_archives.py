"""Archives are registered: where they are, how they are read, and what a listing noticed."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_FIRST = Path(__file__).parent.parent / "0001_views.sql"


def _archive() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("prefix", sa.Text(), server_default="", nullable=False, comment="of its keys"),
        sa.Column("region", sa.Text(), comment="NULL: the settings' one"),
        sa.Column(
            "credentials",
            sa.Text(),
            server_default="settings",
            nullable=False,
            comment="a reference, never a secret: settings, chain, profile:…, role:… or env:…",
        ),
        sa.Column(
            "include",
            postgresql.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="globs",
        ),
        sa.Column(
            "exclude",
            postgresql.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="globs",
        ),
        sa.Column("allow_private", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True)),
        sa.Column("removed_at", sa.DateTime(timezone=True), comment="its results stay"),
    )


def _object_version() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("vanished_at", sa.DateTime(timezone=True), comment="when a listing lacked it"),
        sa.Column(
            "current_since",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
    )


def _run() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("archive_id", sa.Integer(), comment="NULL: of a manifest file"),
        sa.Column(
            "pages",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="of its listing, so far",
        ),
        sa.Column(
            "cursor", postgresql.JSONB(), comment="where its listing goes on; NULL is the beginning"
        ),
        sa.Column(
            "appeared",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="objects new to us",
        ),
        sa.Column(
            "changed",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="with another ETag",
        ),
        sa.Column(
            "vanished",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="no longer listed",
        ),
    )


# What a chunk holds, or what its run holds where a dead worker's successor has emptied it.
_ARCHIVE_OF_CHUNK = """
UPDATE geotag.chunk c
SET archive_id = coalesce(
    (SELECT min(v.archive_id)
     FROM geotag.run_object ro JOIN geotag.object_version v ON v.id = ro.object_version_id
     WHERE ro.chunk_id = c.id),
    (SELECT min(v.archive_id)
     FROM geotag.run_object ro JOIN geotag.object_version v ON v.id = ro.object_version_id
     WHERE ro.run_id = c.run_id))
"""

_VIEW = """
-- One row for every object that is there: its newest outcome, the active release's first.
CREATE OR REPLACE VIEW geotag.current_geotag AS
SELECT v.id AS object_version_id,
       a.bucket,
       v.key,
       coalesce(o.state, 'pending') AS state,
       coalesce(o.code, g.abstention) AS code,
       o.message,
       ST_X(g.position::geometry) AS longitude,
       ST_Y(g.position::geometry) AS latitude,
       g.confidence,
       g.scene,
       r.name AS release,
       encode(v.sha256, 'hex') AS sha256,
       o.at,
       g.position::geometry(Point, 4326) AS position,
       a.name AS archive
FROM geotag.object_version v
JOIN geotag.archive a ON a.id = v.archive_id
LEFT JOIN LATERAL (
    SELECT o.*
    FROM geotag.outcome o
    JOIN geotag.release r ON r.id = o.release_id
    WHERE o.object_version_id = v.id
    ORDER BY r.active DESC, r.registered_at DESC
    LIMIT 1
) o ON true
LEFT JOIN geotag.release r ON r.id = o.release_id
LEFT JOIN geotag.geotag g ON g.sha256 = o.sha256 AND g.release_id = o.release_id
WHERE v.superseded_at IS NULL
  AND v.vanished_at IS NULL
"""


def upgrade() -> None:
    for column in _archive():
        op.add_column("archive", column, schema="geotag")
    # Until now, every archive was at the settings' own endpoint, wherever that is.
    op.execute("UPDATE geotag.archive SET allow_private = true")
    op.drop_constraint("uq_archive_endpoint_bucket", "archive", schema="geotag")
    op.create_unique_constraint(
        "uq_archive_endpoint_bucket_prefix",
        "archive",
        ["endpoint", "bucket", "prefix"],
        schema="geotag",
    )
    op.create_check_constraint(
        op.f("ck_archive_credentials_are_a_reference"),
        "archive",
        "credentials IN ('settings', 'chain') OR credentials ~ '^(profile|role|env):.'",
        schema="geotag",
    )
    for column in _object_version():
        op.add_column("object_version", column, schema="geotag")
    op.execute("UPDATE geotag.object_version SET current_since = first_listed_at")
    for column in _run():
        op.add_column("run", column, schema="geotag")
    op.create_foreign_key(
        "fk_run_archive_id", "run", "archive", ["archive_id"], ["id"],
        source_schema="geotag", referent_schema="geotag",
    )  # fmt: skip
    op.add_column(
        "chunk", sa.Column("archive_id", sa.Integer(), comment="of its objects"), schema="geotag"
    )
    op.execute(_ARCHIVE_OF_CHUNK)
    op.execute("DELETE FROM geotag.chunk WHERE archive_id IS NULL")  # of a run without objects
    op.alter_column("chunk", "archive_id", nullable=False, schema="geotag")
    op.create_foreign_key(
        "fk_chunk_archive_id", "chunk", "archive", ["archive_id"], ["id"],
        source_schema="geotag", referent_schema="geotag",
    )  # fmt: skip
    op.create_table(
        "run_seen",
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("object_version_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "object_version_id", name=op.f("pk_run_seen")),
        schema="geotag",
    )
    op.execute(_VIEW)


def downgrade() -> None:
    # Views cannot lose a column: those that use this one are made again, as 0001 made them.
    views = _FIRST.read_text("utf-8").split("-- A prediction is never rewritten")[0]
    for name in ("candidate_region", "candidate_cell", "current_geotag"):
        op.execute(f"DROP VIEW geotag.{name}")
    op.drop_table("run_seen", schema="geotag")
    op.drop_column("chunk", "archive_id", schema="geotag")
    for column in _run():
        op.drop_column("run", column.name, schema="geotag")
    for column in _object_version():
        op.drop_column("object_version", column.name, schema="geotag")
    # Several archives of one bucket become one again only by hand.
    op.drop_constraint("uq_archive_endpoint_bucket_prefix", "archive", schema="geotag")
    op.drop_constraint("ck_archive_credentials_are_a_reference", "archive", schema="geotag")
    for column in _archive():
        op.drop_column("archive", column.name, schema="geotag")
    op.create_unique_constraint(
        "uq_archive_endpoint_bucket", "archive", ["endpoint", "bucket"], schema="geotag"
    )
    op.execute(views)
