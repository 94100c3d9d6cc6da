"""Runs whose planning fails are parked; an error of one schedule is recorded on it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_LOCAL_TIME = """
-- The time of day in a time zone; NULL if PostgreSQL does not know the zone.
CREATE FUNCTION geotag.local_time(at timestamptz, zone text)
RETURNS time LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (at AT TIME ZONE zone)::time;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN NULL;
END
$$
"""

# The window of a run whose time zone is unknown is closed: chunks must not go out by day.
_IS_OPEN = """
CREATE OR REPLACE FUNCTION geotag.is_open(
    run geotag.run, archive geotag.archive, at timestamptz
)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT run.paused_at IS NULL
       AND run.cancelled_at IS NULL
       AND archive.paused_at IS NULL
       AND archive.removed_at IS NULL
       AND CASE
               WHEN run.opens IS NULL THEN true
               WHEN run.opens < run.closes
                   THEN coalesce({local_time} >= run.opens AND {local_time} < run.closes, false)
               ELSE coalesce({local_time} >= run.opens OR {local_time} < run.closes, false)
           END
$$
"""


def upgrade() -> None:
    for column in (
        sa.Column(
            "plan_faults",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="of plan_tries: those that no unavailable service ended",
        ),
        sa.Column(
            "plan_began_at",
            sa.DateTime(timezone=True),
            comment="when the try began that has not ended",
        ),
        sa.Column(
            "parked_at",
            sa.DateTime(timezone=True),
            comment="when planning was given up, until it is resumed",
        ),
    ):
        op.add_column("run", column, schema="geotag")
    op.add_column(
        "schedule",
        sa.Column("error", sa.Text(), comment="why its due night cannot be started"),
        schema="geotag",
    )
    op.execute(_LOCAL_TIME)
    op.execute(_IS_OPEN.format(local_time="geotag.local_time(at, run.timezone)"))


def downgrade() -> None:
    op.execute(_IS_OPEN.format(local_time="(at AT TIME ZONE run.timezone)::time"))
    op.execute("DROP FUNCTION geotag.local_time")
    op.drop_column("schedule", "error", schema="geotag")
    for name in ("parked_at", "plan_began_at", "plan_faults"):
        op.drop_column("run", name, schema="geotag")
