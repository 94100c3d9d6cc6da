"""What the planning of a run left undone: objects not read, and vanished objects not marked."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column(
        "run",
        sa.Column(
            "unreadable",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="listed, but HEAD was refused",
        ),
        schema="geotag",
    )
    op.add_column(
        "run",
        sa.Column("plan_warning", sa.Text(), comment="what its planning left undone, and why"),
        schema="geotag",
    )


def downgrade() -> None:
    op.drop_column("run", "plan_warning", schema="geotag")
    op.drop_column("run", "unreadable", schema="geotag")
