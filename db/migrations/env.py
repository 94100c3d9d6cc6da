"""Alembic's environment: it is always called through `db.migrate`, with a connection."""

from alembic import context
from geoalchemy2 import alembic_helpers

from db.schema import SCHEMA, metadata

connection = context.config.attributes["connection"]


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    """PostGIS keeps tables of its own in the database; they are none of our business."""
    return kind != "schema" or name == SCHEMA


context.configure(
    connection=connection,
    target_metadata=metadata,
    include_schemas=True,
    include_name=_ours,
    include_object=alembic_helpers.include_object,
    process_revision_directives=alembic_helpers.writer,
    render_item=alembic_helpers.render_item,
    version_table_schema="public",
    version_table="geotag_schema_version",
)
with context.begin_transaction():
    context.run_migrations()
