"""The ledger: tables from db/schema.py as of this revision, views from 0001_views.sql."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geography
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_VIEWS = Path(__file__).parent.parent / "0001_views.sql"


def upgrade() -> None:
    op.create_table(
        "archive",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "endpoint", sa.Text(), nullable=False, comment="URL of the S3 service; '' is AWS itself"
        ),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column(
            "registered_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive")),
        sa.UniqueConstraint("endpoint", "bucket", name=op.f("uq_archive_endpoint_bucket")),
        sa.UniqueConstraint("name", name=op.f("uq_archive_name")),
        schema="geotag",
    )
    op.create_geospatial_table(
        "content",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "format", sa.Text(), nullable=True, comment="NULL where the bytes could not be decoded"
        ),
        sa.Column("width", sa.Integer(), nullable=True, comment="pixels, as displayed"),
        sa.Column("height", sa.Integer(), nullable=True, comment="pixels, as displayed"),
        sa.Column(
            "captured_at",
            postgresql.TIMESTAMP(),
            nullable=True,
            comment="the camera's own clock, without time zone",
        ),
        sa.Column("camera_make", sa.Text(), nullable=True),
        sa.Column("camera_model", sa.Text(), nullable=True),
        sa.Column(
            "exif_position",
            Geography(
                geometry_type="POINT",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeogFromText",
                name="geography",
            ),
            nullable=True,
        ),
        sa.Column(
            "exif_altitude_m",
            sa.REAL(),
            nullable=True,
            comment="metres above sea level, as the camera wrote it",
        ),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_content_bytes_not_negative")),
        sa.CheckConstraint(
            "octet_length(sha256) = 32", name=op.f("ck_content_sha256_has_32_bytes")
        ),
        sa.CheckConstraint(
            "ST_X(exif_position::geometry) BETWEEN -180 AND 180 AND ST_Y(exif_position::geometry) BETWEEN -90 AND 90",
            name=op.f("ck_content_exif_position_is_on_earth"),
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_content")),
        schema="geotag",
    )
    op.create_table(
        "partition",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of its rows"),
        sa.Column("name", sa.Text(), nullable=False, comment="coarse, middle or fine"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partition")),
        sa.UniqueConstraint("digest", name=op.f("uq_partition_digest")),
        schema="geotag",
    )
    op.create_geospatial_table(
        "s2_cell",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True, comment="NULL for the six faces"),
        sa.Column(
            "polygon",
            Geography(
                geometry_type="MULTIPOLYGON",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeogFromText",
                name="geography",
                nullable=False,
            ),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(level = 0) = (parent IS NULL)", name=op.f("ck_s2_cell_only_faces_have_no_parent")
        ),
        sa.CheckConstraint("level BETWEEN 0 AND 30", name=op.f("ck_s2_cell_level_exists")),
        sa.ForeignKeyConstraint(
            ["parent"], ["geotag.s2_cell.token"], name=op.f("fk_s2_cell_parent")
        ),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_s2_cell")),
        schema="geotag",
    )
    op.create_geospatial_index(
        "ix_s2_cell_polygon",
        "s2_cell",
        ["polygon"],
        unique=False,
        schema="geotag",
        postgresql_using="gist",
        postgresql_ops={},
    )
    op.create_table(
        "object_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False, comment="without quotes"),
        sa.Column(
            "version_id", sa.Text(), nullable=True, comment="of a bucket that keeps versions"
        ),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("last_modified", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column(
            "first_listed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "superseded_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when another version was listed",
        ),
        sa.ForeignKeyConstraint(
            ["archive_id"], ["geotag.archive.id"], name=op.f("fk_object_version_archive_id")
        ),
        sa.ForeignKeyConstraint(
            ["sha256"], ["geotag.content.sha256"], name=op.f("fk_object_version_sha256")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_object_version")),
        sa.UniqueConstraint(
            "archive_id", "key", "etag", name=op.f("uq_object_version_archive_id_key_etag")
        ),
        schema="geotag",
    )
    op.create_index(
        "ix_object_version_sha256",
        "object_version",
        ["sha256"],
        unique=False,
        schema="geotag",
        postgresql_where=sa.text("sha256 IS NOT NULL"),
    )
    op.create_index(
        "uq_object_version_current",
        "object_version",
        ["archive_id", "key"],
        unique=True,
        schema="geotag",
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.create_geospatial_table(
        "partition_cell",
        sa.Column("partition_id", sa.Integer(), nullable=False),
        sa.Column("class_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column(
            "position",
            Geography(
                geometry_type="POINT",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeogFromText",
                name="geography",
                nullable=False,
            ),
            nullable=False,
        ),
        sa.Column("photographs", sa.BigInteger(), nullable=False),
        sa.Column(
            "spread_km",
            sa.REAL(),
            nullable=True,
            comment="root mean square distance of its photographs",
        ),
        sa.ForeignKeyConstraint(
            ["partition_id"], ["geotag.partition.id"], name=op.f("fk_partition_cell_partition_id")
        ),
        sa.ForeignKeyConstraint(
            ["token"], ["geotag.s2_cell.token"], name=op.f("fk_partition_cell_token")
        ),
        sa.CheckConstraint(
            "ST_X(position::geometry) BETWEEN -180 AND 180 AND ST_Y(position::geometry) BETWEEN -90 AND 90",
            name=op.f("ck_partition_cell_position_is_on_earth"),
        ),
        sa.PrimaryKeyConstraint("partition_id", "class_index", name=op.f("pk_partition_cell")),
        sa.UniqueConstraint(
            "partition_id", "token", name=op.f("uq_partition_cell_partition_id_token")
        ),
        schema="geotag",
    )
    op.create_table(
        "release",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="see docs/architecture.md"),
        sa.Column("calibrated", sa.Boolean(), nullable=False),
        sa.Column("coarse_partition_id", sa.Integer(), nullable=False),
        sa.Column("middle_partition_id", sa.Integer(), nullable=False),
        sa.Column("fine_partition_id", sa.Integer(), nullable=False),
        sa.Column(
            "manifest",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="release.json: networks, digests, input",
        ),
        sa.Column("active", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "registered_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["coarse_partition_id"],
            ["geotag.partition.id"],
            name=op.f("fk_release_coarse_partition_id"),
        ),
        sa.ForeignKeyConstraint(
            ["fine_partition_id"],
            ["geotag.partition.id"],
            name=op.f("fk_release_fine_partition_id"),
        ),
        sa.ForeignKeyConstraint(
            ["middle_partition_id"],
            ["geotag.partition.id"],
            name=op.f("fk_release_middle_partition_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release")),
        sa.UniqueConstraint("digest", name=op.f("uq_release_digest")),
        sa.UniqueConstraint("id", "calibrated", name="uq_release_id_calibrated"),
        sa.UniqueConstraint("name", name=op.f("uq_release_name")),
        schema="geotag",
    )
    op.create_index(
        "uq_release_active",
        "release",
        ["active"],
        unique=True,
        schema="geotag",
        postgresql_where=sa.text("active"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "source", sa.Text(), nullable=False, comment="what was asked for, as it was written"
        ),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("listed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "skipped",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="not photographs",
        ),
        sa.Column("done_before", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "failed_before",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="of those",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "planned_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when its last chunk was planned",
        ),
        sa.CheckConstraint(
            "queue IN ('backfill', 'interactive')", name=op.f("ck_run_queue_exists")
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["geotag.release.id"], name=op.f("fk_run_release_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        schema="geotag",
    )
    op.create_table(
        "chunk",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "delivery",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="a message of an older delivery is stale and is dropped",
        ),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "geotagged",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="objects that ended so",
        ),
        sa.Column(
            "abstained",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="objects that ended so",
        ),
        sa.Column(
            "failed",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="objects that ended so",
        ),
        sa.Column(
            "quarantined",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="objects that ended so",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["geotag.run.id"], name=op.f("fk_chunk_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunk")),
        sa.UniqueConstraint("id", "run_id", name=op.f("uq_chunk_id_run_id")),
        schema="geotag",
    )
    op.create_index("ix_chunk_run_id", "chunk", ["run_id"], unique=False, schema="geotag")
    op.create_index(
        "ix_chunk_unfinished",
        "chunk",
        ["run_id", "id"],
        unique=False,
        schema="geotag",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_geospatial_table(
        "geotag",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("release_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("calibrated", sa.Boolean(), nullable=False, comment="of its release"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("abstention", sa.Text(), nullable=True, comment="why no position is stated"),
        sa.Column(
            "position",
            Geography(
                geometry_type="POINT",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeogFromText",
                name="geography",
            ),
            nullable=True,
        ),
        sa.Column(
            "confidence",
            sa.REAL(),
            nullable=True,
            comment="probability that the place is within 200 km",
        ),
        sa.Column("confidence_1_km", sa.REAL(), nullable=True),
        sa.Column("confidence_25_km", sa.REAL(), nullable=True),
        sa.Column("confidence_750_km", sa.REAL(), nullable=True),
        sa.Column("confidence_2500_km", sa.REAL(), nullable=True),
        sa.Column("coarse_cell", sa.Text(), nullable=True),
        sa.Column("middle_cell", sa.Text(), nullable=True),
        sa.Column("fine_cell", sa.Text(), nullable=False),
        sa.Column("coarse_probability", sa.REAL(), nullable=True),
        sa.Column("middle_probability", sa.REAL(), nullable=True),
        sa.Column("fine_probability", sa.REAL(), nullable=False),
        sa.Column(
            "candidate_cells",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="most probable first",
        ),
        sa.Column("candidate_probabilities", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("region_50_cells", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("region_80_cells", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("region_95_cells", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("region_50_probabilities", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("region_80_probabilities", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("region_95_probabilities", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("scene", sa.Text(), nullable=False),
        sa.Column("scene_indoor", sa.REAL(), nullable=False),
        sa.Column("scene_natural", sa.REAL(), nullable=False),
        sa.Column("scene_urban", sa.REAL(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "(position IS NULL) = (state = 'abstained')",
            name=op.f("ck_geotag_position_unless_abstained"),
        ),
        sa.CheckConstraint(
            "scene IN ('indoor', 'natural', 'urban')", name=op.f("ck_geotag_scene_exists")
        ),
        sa.CheckConstraint(
            "state = CASE WHEN abstention IS NULL THEN 'geotagged' ELSE 'abstained' END",
            name=op.f("ck_geotag_state_says_whether_it_abstained"),
        ),
        sa.CheckConstraint(
            "calibrated OR coalesce(confidence, confidence_1_km, confidence_25_km, confidence_750_km, confidence_2500_km) IS NULL",
            name=op.f("ck_geotag_only_calibrated_is_confidence"),
        ),
        sa.CheckConstraint(
            "cardinality(candidate_cells) = cardinality(candidate_probabilities) AND cardinality(candidate_cells) <= 10",
            name=op.f("ck_geotag_candidate_is_paired"),
        ),
        sa.CheckConstraint(
            "cardinality(region_50_cells) = cardinality(region_50_probabilities) AND cardinality(region_50_cells) <= 64",
            name=op.f("ck_geotag_region_50_is_paired"),
        ),
        sa.CheckConstraint(
            "cardinality(region_80_cells) = cardinality(region_80_probabilities) AND cardinality(region_80_cells) <= 64",
            name=op.f("ck_geotag_region_80_is_paired"),
        ),
        sa.CheckConstraint(
            "cardinality(region_95_cells) = cardinality(region_95_probabilities) AND cardinality(region_95_cells) <= 64",
            name=op.f("ck_geotag_region_95_is_paired"),
        ),
        sa.CheckConstraint(
            "confidence BETWEEN 0 AND 1", name=op.f("ck_geotag_confidence_is_probability")
        ),
        sa.CheckConstraint(
            "confidence_1_km BETWEEN 0 AND 1", name=op.f("ck_geotag_confidence_1_km_is_probability")
        ),
        sa.CheckConstraint(
            "confidence_2500_km BETWEEN 0 AND 1",
            name=op.f("ck_geotag_confidence_2500_km_is_probability"),
        ),
        sa.CheckConstraint(
            "confidence_25_km BETWEEN 0 AND 1",
            name=op.f("ck_geotag_confidence_25_km_is_probability"),
        ),
        sa.CheckConstraint(
            "confidence_750_km BETWEEN 0 AND 1",
            name=op.f("ck_geotag_confidence_750_km_is_probability"),
        ),
        sa.CheckConstraint(
            "ST_X(position::geometry) BETWEEN -180 AND 180 AND ST_Y(position::geometry) BETWEEN -90 AND 90",
            name=op.f("ck_geotag_position_is_on_earth"),
        ),
        sa.CheckConstraint(
            "coarse_probability BETWEEN 0 AND 1",
            name=op.f("ck_geotag_coarse_probability_is_probability"),
        ),
        sa.CheckConstraint(
            "middle_probability BETWEEN 0 AND 1",
            name=op.f("ck_geotag_middle_probability_is_probability"),
        ),
        sa.CheckConstraint(
            "fine_probability BETWEEN 0 AND 1",
            name=op.f("ck_geotag_fine_probability_is_probability"),
        ),
        sa.CheckConstraint(
            "scene_indoor BETWEEN 0 AND 1", name=op.f("ck_geotag_scene_indoor_is_probability")
        ),
        sa.CheckConstraint(
            "scene_natural BETWEEN 0 AND 1", name=op.f("ck_geotag_scene_natural_is_probability")
        ),
        sa.CheckConstraint(
            "scene_urban BETWEEN 0 AND 1", name=op.f("ck_geotag_scene_urban_is_probability")
        ),
        sa.CheckConstraint(
            "(coarse_cell IS NULL) = (coarse_probability IS NULL)",
            name=op.f("ck_geotag_coarse_is_paired"),
        ),
        sa.CheckConstraint(
            "(middle_cell IS NULL) = (middle_probability IS NULL)",
            name=op.f("ck_geotag_middle_is_paired"),
        ),
        sa.ForeignKeyConstraint(
            ["coarse_cell"], ["geotag.s2_cell.token"], name=op.f("fk_geotag_coarse_cell")
        ),
        sa.ForeignKeyConstraint(
            ["fine_cell"], ["geotag.s2_cell.token"], name=op.f("fk_geotag_fine_cell")
        ),
        sa.ForeignKeyConstraint(
            ["middle_cell"], ["geotag.s2_cell.token"], name=op.f("fk_geotag_middle_cell")
        ),
        sa.ForeignKeyConstraint(
            ["release_id", "calibrated"],
            ["geotag.release.id", "geotag.release.calibrated"],
            name=op.f("fk_geotag_release_id_calibrated"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["geotag.run.id"], name=op.f("fk_geotag_run_id")),
        sa.ForeignKeyConstraint(
            ["sha256"], ["geotag.content.sha256"], name=op.f("fk_geotag_sha256")
        ),
        sa.PrimaryKeyConstraint("sha256", "release_id", name=op.f("pk_geotag")),
        sa.UniqueConstraint("sha256", "release_id", "state", name="uq_geotag_state"),
        schema="geotag",
    )
    op.create_geospatial_index(
        "ix_geotag_position",
        "geotag",
        ["position"],
        unique=False,
        schema="geotag",
        postgresql_using="gist",
        postgresql_ops={},
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("object_version_id", sa.BigInteger(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("chunk_id", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "code",
            sa.Text(),
            nullable=True,
            comment="of the error it ended with; NULL where it succeeded",
        ),
        sa.CheckConstraint(
            "code IS NULL OR finished_at IS NOT NULL", name=op.f("ck_attempt_code_when_finished")
        ),
        sa.ForeignKeyConstraint(
            ["chunk_id"], ["geotag.chunk.id"], name=op.f("fk_attempt_chunk_id")
        ),
        sa.ForeignKeyConstraint(
            ["object_version_id"],
            ["geotag.object_version.id"],
            name=op.f("fk_attempt_object_version_id"),
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["geotag.release.id"], name=op.f("fk_attempt_release_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        schema="geotag",
    )
    op.create_index(
        "ix_attempt_object_version_id_release_id",
        "attempt",
        ["object_version_id", "release_id"],
        unique=False,
        schema="geotag",
    )
    op.create_index(
        "ix_attempt_open",
        "attempt",
        ["chunk_id"],
        unique=False,
        schema="geotag",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "outcome",
        sa.Column("object_version_id", sa.BigInteger(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True, comment="of the error, see workers/errors.py"),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column(
            "sha256", sa.LargeBinary(), nullable=True, comment="of the geotag, where there is one"
        ),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "(state IN ('failed', 'quarantined')) = (code IS NOT NULL)",
            name=op.f("ck_outcome_code_if_failed"),
        ),
        sa.CheckConstraint(
            "(state IN ('geotagged', 'abstained')) = (sha256 IS NOT NULL)",
            name=op.f("ck_outcome_geotag_if_inferred"),
        ),
        sa.CheckConstraint(
            "state IN ('geotagged', 'abstained', 'failed', 'quarantined')",
            name=op.f("ck_outcome_state_exists"),
        ),
        sa.ForeignKeyConstraint(
            ["object_version_id"],
            ["geotag.object_version.id"],
            name=op.f("fk_outcome_object_version_id"),
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["geotag.release.id"], name=op.f("fk_outcome_release_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["geotag.run.id"], name=op.f("fk_outcome_run_id")),
        sa.ForeignKeyConstraint(
            ["sha256", "release_id", "state"],
            ["geotag.geotag.sha256", "geotag.geotag.release_id", "geotag.geotag.state"],
            name=op.f("fk_outcome_sha256_release_id_state"),
        ),
        sa.PrimaryKeyConstraint("object_version_id", "release_id", name=op.f("pk_outcome")),
        schema="geotag",
    )
    op.create_index(
        "ix_outcome_code",
        "outcome",
        ["release_id", "code"],
        unique=False,
        schema="geotag",
        postgresql_where=sa.text("code IS NOT NULL"),
    )
    op.create_table(
        "run_object",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("object_version_id", sa.BigInteger(), nullable=False),
        sa.Column("chunk_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chunk_id", "run_id"],
            ["geotag.chunk.id", "geotag.chunk.run_id"],
            name=op.f("fk_run_object_chunk_id_run_id"),
        ),
        sa.ForeignKeyConstraint(
            ["object_version_id"],
            ["geotag.object_version.id"],
            name=op.f("fk_run_object_object_version_id"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["geotag.run.id"], name=op.f("fk_run_object_run_id")),
        sa.PrimaryKeyConstraint("run_id", "object_version_id", name=op.f("pk_run_object")),
        schema="geotag",
    )
    op.create_index(
        "ix_run_object_chunk_id", "run_object", ["chunk_id"], unique=False, schema="geotag"
    )
    # exec_driver_sql: a colon in this file is PostgreSQL's, not a parameter's.
    op.get_bind().exec_driver_sql(_VIEWS.read_text("utf-8").replace("%", "%%"))


def downgrade() -> None:
    for view in ("candidate_region", "candidate_cell", "current_geotag"):
        op.execute(f"DROP VIEW geotag.{view}")
    op.drop_index("ix_run_object_chunk_id", table_name="run_object", schema="geotag")
    op.drop_table("run_object", schema="geotag")
    op.drop_index(
        "ix_outcome_code",
        table_name="outcome",
        schema="geotag",
        postgresql_where=sa.text("code IS NOT NULL"),
    )
    op.drop_table("outcome", schema="geotag")
    op.drop_index(
        "ix_attempt_open",
        table_name="attempt",
        schema="geotag",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.drop_index("ix_attempt_object_version_id_release_id", table_name="attempt", schema="geotag")
    op.drop_table("attempt", schema="geotag")
    op.drop_geospatial_index(
        "ix_geotag_position",
        table_name="geotag",
        schema="geotag",
        postgresql_using="gist",
        column_name="position",
    )
    op.drop_geospatial_table("geotag", schema="geotag")
    op.drop_index(
        "ix_chunk_unfinished",
        table_name="chunk",
        schema="geotag",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.drop_index("ix_chunk_run_id", table_name="chunk", schema="geotag")
    op.drop_table("chunk", schema="geotag")
    op.drop_table("run", schema="geotag")
    op.drop_index(
        "uq_release_active",
        table_name="release",
        schema="geotag",
        postgresql_where=sa.text("active"),
    )
    op.drop_table("release", schema="geotag")
    op.drop_geospatial_table("partition_cell", schema="geotag")
    op.drop_index(
        "uq_object_version_current",
        table_name="object_version",
        schema="geotag",
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.drop_index(
        "ix_object_version_sha256",
        table_name="object_version",
        schema="geotag",
        postgresql_where=sa.text("sha256 IS NOT NULL"),
    )
    op.drop_table("object_version", schema="geotag")
    op.drop_geospatial_index(
        "ix_s2_cell_polygon",
        table_name="s2_cell",
        schema="geotag",
        postgresql_using="gist",
        column_name="polygon",
    )
    op.drop_geospatial_table("s2_cell", schema="geotag")
    op.drop_table("partition", schema="geotag")
    op.drop_geospatial_table("content", schema="geotag")
    op.drop_table("archive", schema="geotag")
    op.execute("DROP FUNCTION geotag.refuse_update()")
