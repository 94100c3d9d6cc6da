"""Releases: which one was active when, and who said so."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "release_activation",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column(
            "by",
            sa.Text(),
            nullable=False,
            comment="user@host; `geotag up` where nobody chose",
        ),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["geotag.release.id"], name=op.f("fk_release_activation_release_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_activation")),
        schema="geotag",
    )
    # Until now, only `geotag up` made a release active.
    op.execute(
        "INSERT INTO geotag.release_activation (release_id, by, at)"
        " SELECT id, 'geotag up', registered_at FROM geotag.release WHERE active"
    )


def downgrade() -> None:
    op.drop_table("release_activation", schema="geotag")
