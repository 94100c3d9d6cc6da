"""Schedules, nights, runs that can be paused and cancelled."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# One definition of what may lie at the broker, for publishing and for taking back.
_IS_OPEN = """
CREATE FUNCTION geotag.is_open(run geotag.run, archive geotag.archive, at timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT run.paused_at IS NULL
       AND run.cancelled_at IS NULL
       AND archive.paused_at IS NULL
       AND archive.removed_at IS NULL
       AND CASE
               WHEN run.opens IS NULL THEN true
               WHEN run.opens < run.closes
                   THEN (at AT TIME ZONE run.timezone)::time >= run.opens
                    AND (at AT TIME ZONE run.timezone)::time < run.closes
               ELSE (at AT TIME ZONE run.timezone)::time >= run.opens
                 OR (at AT TIME ZONE run.timezone)::time < run.closes
           END
$$
"""


def upgrade() -> None:
    op.create_table(
        "schedule",
        sa.Column("archive_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cron", sa.Text(), nullable=False, comment="five fields, see docs/schedules.md"),
        sa.Column(
            "timezone", sa.Text(), nullable=False, comment="of cron and window, by IANA name"
        ),
        sa.Column("opens", sa.Time(), nullable=True, comment="the window, in local time"),
        sa.Column("closes", sa.Time(), nullable=True, comment="before opens: the day after"),
        sa.Column("most", sa.BigInteger(), nullable=True, comment="objects a night"),
        sa.Column("release_id", sa.Integer(), nullable=True, comment="NULL: the active one"),
        sa.Column(
            "next_at", sa.DateTime(timezone=True), nullable=False, comment="due from then on"
        ),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(opens IS NULL) = (closes IS NULL) AND opens <> closes",
            name=op.f("ck_schedule_window_has_two_ends"),
        ),
        sa.CheckConstraint("most > 0", name=op.f("ck_schedule_most_is_some")),
        sa.ForeignKeyConstraint(
            ["archive_id"], ["geotag.archive.id"], name=op.f("fk_schedule_archive_id")
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["geotag.release.id"], name=op.f("fk_schedule_release_id")
        ),
        sa.PrimaryKeyConstraint("archive_id", name=op.f("pk_schedule")),
        schema="geotag",
    )
    for column in (
        sa.Column("scheduled_for", sa.DateTime(timezone=True), comment="its night"),
        sa.Column("most", sa.BigInteger(), comment="objects that it may hold"),
        sa.Column("opens", sa.Time(), comment="its window, in local time"),
        sa.Column("closes", sa.Time(), comment="before opens: the day after"),
        sa.Column("timezone", sa.Text(), comment="of its window, by IANA name"),
        sa.Column("paused_at", sa.DateTime(timezone=True)),
        sa.Column("cancelled_at", sa.DateTime(timezone=True)),
        sa.Column("plan_tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("plan_after", sa.DateTime(timezone=True), comment="when to try again"),
        sa.Column("plan_error", sa.Text(), comment="why its last planning ended"),
    ):
        op.add_column("run", column, schema="geotag")
    op.create_unique_constraint(
        op.f("uq_run_archive_id_scheduled_for"),
        "run",
        ["archive_id", "scheduled_for"],
        schema="geotag",
    )
    op.create_check_constraint(
        op.f("ck_run_window_has_two_ends_and_a_clock"),
        "run",
        "(opens IS NULL) = (closes IS NULL) AND (opens IS NULL OR timezone IS NOT NULL)",
        schema="geotag",
    )
    op.create_index(
        "ix_run_unplanned",
        "run",
        ["id"],
        schema="geotag",
        postgresql_where=sa.text("planned_at IS NULL"),
    )
    op.create_index(
        "ix_run_cancelled",
        "run",
        ["id"],
        schema="geotag",
        postgresql_where=sa.text("cancelled_at IS NOT NULL"),
    )
    op.create_index(
        "ix_chunk_published",
        "chunk",
        ["published_at"],
        schema="geotag",
        postgresql_where=sa.text("published_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.execute(_IS_OPEN)


def downgrade() -> None:
    op.execute("DROP FUNCTION geotag.is_open")
    op.drop_index("ix_chunk_published", table_name="chunk", schema="geotag")
    op.drop_index("ix_run_cancelled", table_name="run", schema="geotag")
    op.drop_index("ix_run_unplanned", table_name="run", schema="geotag")
    op.drop_constraint("ck_run_window_has_two_ends_and_a_clock", "run", schema="geotag")
    op.drop_constraint("uq_run_archive_id_scheduled_for", "run", schema="geotag")
    for name in (
        *("plan_error", "plan_after", "plan_tries", "cancelled_at", "paused_at"),
        *("timezone", "closes", "opens", "most", "scheduled_for"),
    ):
        op.drop_column("run", name, schema="geotag")
    op.drop_table("schedule", schema="geotag")
