"""Failures: a view of what failed, and the outcomes that retries have set aside."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_VIEW = """
-- One row for every object that is there and failed, or is in quarantine, under a release.
CREATE VIEW geotag.current_failure AS
SELECT v.id AS object_version_id,
       r.id AS release_id,
       r.name AS release,
       r.active,
       a.name AS archive,
       a.bucket,
       v.key,
       o.state,
       o.code,
       o.message,
       o.run_id,
       o.at,
       (o.at AT TIME ZONE 'UTC')::date AS day,
       (SELECT count(*)
        FROM geotag.retried_outcome h
        WHERE h.object_version_id = v.id AND h.release_id = r.id) AS retries
FROM geotag.outcome o
JOIN geotag.release r ON r.id = o.release_id
JOIN geotag.object_version v ON v.id = o.object_version_id
JOIN geotag.archive a ON a.id = v.archive_id
WHERE o.code IS NOT NULL
  AND v.superseded_at IS NULL
  AND v.vanished_at IS NULL
"""


def upgrade() -> None:
    op.create_table(
        "retried_outcome",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("object_version_id", sa.BigInteger(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="that it was the outcome of"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="when it was recorded"),
        sa.Column("retry_run_id", sa.BigInteger(), nullable=False, comment="that tries again"),
        sa.Column(
            "retried_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["object_version_id"],
            ["geotag.object_version.id"],
            name=op.f("fk_retried_outcome_object_version_id"),
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["geotag.release.id"], name=op.f("fk_retried_outcome_release_id")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["geotag.run.id"], name=op.f("fk_retried_outcome_run_id")
        ),
        sa.ForeignKeyConstraint(
            ["retry_run_id"], ["geotag.run.id"], name=op.f("fk_retried_outcome_retry_run_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retried_outcome")),
        schema="geotag",
    )
    op.create_index(
        "ix_retried_outcome_object_version_id_release_id",
        "retried_outcome",
        ["object_version_id", "release_id"],
        schema="geotag",
    )
    op.create_index(
        "ix_outcome_failed_at",
        "outcome",
        ["at"],
        schema="geotag",
        postgresql_where=sa.text("code IS NOT NULL"),
    )
    op.execute(_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW geotag.current_failure")
    op.drop_index("ix_outcome_failed_at", table_name="outcome", schema="geotag")
    op.drop_table("retried_outcome", schema="geotag")
