"""Tables of the ledger: archives and objects, contents, releases, geotags, outcomes and runs.

| table | one row is |
|---|---|
| `archive` | a prefix of a bucket at an S3 endpoint, and how it is read |
| `object_version` | a version of a key: (archive, key, ETag) |
| `content` | distinct bytes, by SHA-256, with the facts read from them |
| `s2_cell` | an S2 cell of some release, with its polygon |
| `partition`, `partition_cell` | a division of the Earth into classes of photographs |
| `release` | a set of weights, cells and calibration, by digest |
| `release_activation` | the activation of a release; append-only |
| `geotag` | the prediction of a release for a content; append-only |
| `outcome` | the state of an object version under a release |
| `retried_outcome` | an outcome that a retry has replaced; append-only |
| `run`, `chunk`, `run_object` | a source to process, its messages, and the objects in them |
| `schedule` | when an archive's nightly runs begin |
| `run_seen` | an object that a run's listing has named; deleted when the listing is complete |
| `attempt` | a try at an object, written before the object is read |

Positions are geography points (longitude, latitude; WGS 84). Constraints protect the data from
faults of the code: an outcome agrees with its geotag, only calibrated releases have confidence.
"""

from geoalchemy2 import Geography
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Time,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TIMESTAMP

from db.columns import id_column, on_earth, position_column, probability, time_column

SCHEMA = "geotag"
"""Our own schema, so that a database can be shared with other applications."""

STATES = ("geotagged", "abstained", "failed", "quarantined")
"""States of an outcome; an object version without an outcome is `pending`."""

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)


archive = Table(
    "archive",
    metadata,
    id_column(Integer),
    Column("name", Text, nullable=False, unique=True),
    Column("endpoint", Text, nullable=False, comment="URL of the S3 service; '' is AWS itself"),
    Column("bucket", Text, nullable=False),
    time_column("registered_at"),
    Column("prefix", Text, nullable=False, server_default="", comment="of its keys"),
    Column("region", Text, comment="NULL: the settings' one"),
    Column(
        "credentials",
        Text,
        nullable=False,
        server_default="settings",
        comment="a reference, never a secret: settings, chain, profile:…, role:… or env:…",
    ),
    Column("include", ARRAY(Text), nullable=False, server_default="{}", comment="globs"),
    Column("exclude", ARRAY(Text), nullable=False, server_default="{}", comment="globs"),
    Column("allow_private", Boolean, nullable=False, server_default=text("false")),
    Column("paused_at", DateTime(timezone=True)),
    Column("removed_at", DateTime(timezone=True), comment="its results stay"),
    UniqueConstraint("endpoint", "bucket", "prefix"),
    CheckConstraint(
        "credentials IN ('settings', 'chain') OR credentials ~ '^(profile|role|env):.'",
        name="credentials_are_a_reference",
    ),
)

content = Table(
    "content",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("format", Text, comment="NULL where the bytes could not be decoded"),
    Column("width", Integer, comment="pixels, as displayed"),
    Column("height", Integer, comment="pixels, as displayed"),
    Column("captured_at", TIMESTAMP, comment="the camera's own clock, without time zone"),
    Column("camera_make", Text),
    Column("camera_model", Text),
    position_column("exif_position", nullable=True),
    Column("exif_altitude_m", REAL, comment="metres above sea level, as the camera wrote it"),
    time_column("at"),
    CheckConstraint("octet_length(sha256) = 32", name="sha256_has_32_bytes"),
    CheckConstraint("bytes >= 0", name="bytes_not_negative"),
    on_earth("exif_position"),
)

object_version = Table(
    "object_version",
    metadata,
    id_column(),
    Column("archive_id", Integer, ForeignKey(archive.c.id), nullable=False),
    Column("key", Text, nullable=False),
    Column("etag", Text, nullable=False, comment="without quotes"),
    Column("version_id", Text, comment="of a bucket that keeps versions"),
    Column("size", BigInteger, nullable=False),
    Column("last_modified", DateTime(timezone=True)),
    Column("sha256", LargeBinary, ForeignKey(content.c.sha256)),
    time_column("first_listed_at"),
    Column("superseded_at", DateTime(timezone=True), comment="when another version was listed"),
    Column("vanished_at", DateTime(timezone=True), comment="when a listing lacked it"),
    time_column("current_since"),
    UniqueConstraint("archive_id", "key", "etag"),
    Index(
        "uq_object_version_current",
        "archive_id",
        "key",
        unique=True,
        postgresql_where=text("superseded_at IS NULL"),
    ),
    Index("ix_object_version_sha256", "sha256", postgresql_where=text("sha256 IS NOT NULL")),
)

s2_cell = Table(
    "s2_cell",
    metadata,
    Column("token", Text, primary_key=True),
    Column("level", SmallInteger, nullable=False),
    Column("parent", Text, ForeignKey("geotag.s2_cell.token"), comment="NULL for the six faces"),
    Column("polygon", Geography("MULTIPOLYGON", 4326, spatial_index=False), nullable=False),
    CheckConstraint("level BETWEEN 0 AND 30", name="level_exists"),
    CheckConstraint("(level = 0) = (parent IS NULL)", name="only_faces_have_no_parent"),
    Index("ix_s2_cell_polygon", "polygon", postgresql_using="gist"),
)

partition = Table(
    "partition",
    metadata,
    id_column(Integer),
    Column("digest", Text, nullable=False, unique=True, comment="SHA-256 of its rows"),
    Column("name", Text, nullable=False, comment="coarse, middle or fine"),
)

partition_cell = Table(
    "partition_cell",
    metadata,
    Column("partition_id", Integer, ForeignKey(partition.c.id), primary_key=True),
    Column("class_index", Integer, primary_key=True, autoincrement=False),
    Column("token", Text, ForeignKey(s2_cell.c.token), nullable=False),
    position_column("position", nullable=False),
    Column("photographs", BigInteger, nullable=False),
    Column("spread_km", REAL, comment="root mean square distance of its photographs"),
    UniqueConstraint("partition_id", "token"),
    on_earth("position"),
)

release = Table(
    "release",
    metadata,
    id_column(Integer),
    Column("name", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False, unique=True, comment="see docs/architecture.md"),
    Column("calibrated", Boolean, nullable=False),
    Column("coarse_partition_id", Integer, ForeignKey(partition.c.id), nullable=False),
    Column("middle_partition_id", Integer, ForeignKey(partition.c.id), nullable=False),
    Column("fine_partition_id", Integer, ForeignKey(partition.c.id), nullable=False),
    Column("manifest", JSONB, nullable=False, comment="release.json: networks, digests, input"),
    Column("active", Boolean, nullable=False, server_default=text("false")),
    time_column("registered_at"),
    UniqueConstraint("id", "calibrated", name="uq_release_id_calibrated"),
    Index("uq_release_active", "active", unique=True, postgresql_where=text("active")),
)

release_activation = Table(
    "release_activation",
    metadata,
    id_column(Integer),
    Column("release_id", Integer, ForeignKey(release.c.id), nullable=False),
    Column("by", Text, nullable=False, comment="user@host; `geotag up` where nobody chose"),
    time_column("at"),
)

run = Table(
    "run",
    metadata,
    id_column(),
    Column("source", Text, nullable=False, comment="what was asked for, as it was written"),
    Column("queue", Text, nullable=False),
    Column("release_id", Integer, ForeignKey(release.c.id), nullable=False),
    Column("listed", BigInteger, nullable=False, server_default="0"),
    Column("skipped", BigInteger, nullable=False, server_default="0", comment="not photographs"),
    Column("done_before", BigInteger, nullable=False, server_default="0"),
    Column("failed_before", BigInteger, nullable=False, server_default="0", comment="of those"),
    time_column("created_at"),
    Column("planned_at", DateTime(timezone=True), comment="when its last chunk was planned"),
    Column("archive_id", Integer, ForeignKey(archive.c.id), comment="NULL: of a manifest file"),
    Column("pages", Integer, nullable=False, server_default="0", comment="of its listing, so far"),
    Column("cursor", JSONB, comment="where its listing goes on; NULL is the beginning"),
    Column("appeared", BigInteger, nullable=False, server_default="0", comment="objects new to us"),
    Column("changed", BigInteger, nullable=False, server_default="0", comment="with another ETag"),
    Column("vanished", BigInteger, nullable=False, server_default="0", comment="no longer listed"),
    Column("scheduled_for", DateTime(timezone=True), comment="its night"),
    Column("most", BigInteger, comment="objects that it may hold"),
    Column("opens", Time, comment="its window, in local time"),
    Column("closes", Time, comment="before opens: the day after"),
    Column("timezone", Text, comment="of its window, by IANA name"),
    Column("paused_at", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("plan_tries", Integer, nullable=False, server_default="0"),
    Column("plan_after", DateTime(timezone=True), comment="when to try again"),
    Column("plan_error", Text, comment="why its last planning ended"),
    Column(
        "plan_faults",
        Integer,
        nullable=False,
        server_default="0",
        comment="of plan_tries: those that no unavailable service ended",
    ),
    Column(
        "plan_began_at", DateTime(timezone=True), comment="when the try began that has not ended"
    ),
    Column(
        "parked_at",
        DateTime(timezone=True),
        comment="when planning was given up, until it is resumed",
    ),
    Column(
        "unreadable",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="listed, but HEAD was refused",
    ),
    Column("plan_warning", Text, comment="what its planning left undone, and why"),
    UniqueConstraint("archive_id", "scheduled_for"),
    CheckConstraint("queue IN ('backfill', 'interactive')", name="queue_exists"),
    CheckConstraint(
        "(opens IS NULL) = (closes IS NULL) AND (opens IS NULL OR timezone IS NOT NULL)",
        name="window_has_two_ends_and_a_clock",
    ),
    Index("ix_run_unplanned", "id", postgresql_where=text("planned_at IS NULL")),
    Index("ix_run_cancelled", "id", postgresql_where=text("cancelled_at IS NOT NULL")),
)

schedule = Table(
    "schedule",
    metadata,
    Column("archive_id", Integer, ForeignKey(archive.c.id), primary_key=True, autoincrement=False),
    Column("cron", Text, nullable=False, comment="five fields, see docs/schedules.md"),
    Column("timezone", Text, nullable=False, comment="of cron and window, by IANA name"),
    Column("opens", Time, comment="the window, in local time"),
    Column("closes", Time, comment="before opens: the day after"),
    Column("most", BigInteger, comment="objects a night"),
    Column("release_id", Integer, ForeignKey(release.c.id), comment="NULL: the active one"),
    Column("next_at", DateTime(timezone=True), nullable=False, comment="due from then on"),
    Column("paused_at", DateTime(timezone=True)),
    Column("error", Text, comment="why its due night cannot be started"),
    CheckConstraint(
        "(opens IS NULL) = (closes IS NULL) AND opens <> closes", name="window_has_two_ends"
    ),
    CheckConstraint("most > 0", name="most_is_some"),
)

chunk = Table(
    "chunk",
    metadata,
    id_column(),
    Column("run_id", BigInteger, ForeignKey(run.c.id), nullable=False),
    Column(
        "archive_id", Integer, ForeignKey(archive.c.id), nullable=False, comment="of its objects"
    ),
    Column(
        "delivery",
        Integer,
        nullable=False,
        server_default="1",
        comment="a message of an older delivery is stale and is dropped",
    ),
    Column("published_at", DateTime(timezone=True)),
    Column("heartbeat_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    *(
        Column(state, Integer, nullable=False, server_default="0", comment="objects that ended so")
        for state in STATES
    ),
    UniqueConstraint("id", "run_id"),
    Index("ix_chunk_run_id", "run_id"),
    Index("ix_chunk_unfinished", "run_id", "id", postgresql_where=text("finished_at IS NULL")),
    Index(
        "ix_chunk_published",
        "published_at",
        postgresql_where=text("published_at IS NOT NULL AND finished_at IS NULL"),
    ),
)

run_object = Table(
    "run_object",
    metadata,
    Column("run_id", BigInteger, ForeignKey(run.c.id), primary_key=True),
    Column("object_version_id", BigInteger, ForeignKey(object_version.c.id), primary_key=True),
    Column("chunk_id", BigInteger, nullable=False),
    ForeignKeyConstraint(["chunk_id", "run_id"], [chunk.c.id, chunk.c.run_id]),
    Index("ix_run_object_chunk_id", "chunk_id"),
)

run_seen = Table(
    "run_seen",
    metadata,
    # Without foreign keys, which would double the cost of these short-lived rows.
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("object_version_id", BigInteger, primary_key=True, autoincrement=False),
)

REGION_LEVELS = (50, 80, 95)
"""Credible regions: the fewest cells of mixed level whose probability reaches so many per cent."""

RADII_KM = (1, 25, 200, 750, 2500)
"""Radii of the calibrated probabilities; the column `confidence` is the one at 200 km."""

SCENES = ("indoor", "natural", "urban")

_REGIONS = tuple(f"region_{level}" for level in REGION_LEVELS)
_PARTITIONS = ("coarse", "middle", "fine")
_RADII = tuple(f"confidence_{radius}_km" for radius in RADII_KM if radius != 200)

geotag = Table(
    "geotag",
    metadata,
    Column("sha256", LargeBinary, ForeignKey(content.c.sha256), primary_key=True),
    Column("release_id", Integer, primary_key=True, autoincrement=False),
    Column("calibrated", Boolean, nullable=False, comment="of its release"),
    Column("state", Text, nullable=False),
    Column("abstention", Text, comment="why no position is stated"),
    position_column("position", nullable=True),
    Column("confidence", REAL, comment="probability that the place is within 200 km"),
    *(Column(name, REAL) for name in _RADII),
    # A fine cell may lie in no coarser cell of its partitions, if those were built apart.
    *(
        Column(f"{name}_cell", Text, ForeignKey(s2_cell.c.token), nullable=name != "fine")
        for name in _PARTITIONS
    ),
    *(Column(f"{name}_probability", REAL, nullable=name != "fine") for name in _PARTITIONS),
    Column("candidate_cells", ARRAY(Text), nullable=False, comment="most probable first"),
    Column("candidate_probabilities", ARRAY(REAL), nullable=False),
    *(Column(f"{name}_cells", ARRAY(Text), nullable=False) for name in _REGIONS),
    *(Column(f"{name}_probabilities", ARRAY(REAL), nullable=False) for name in _REGIONS),
    Column("scene", Text, nullable=False),
    *(Column(f"scene_{name}", REAL, nullable=False) for name in SCENES),
    Column("run_id", BigInteger, ForeignKey(run.c.id), nullable=False),
    Column("code_version", Text, nullable=False),
    time_column("at"),
    ForeignKeyConstraint(["release_id", "calibrated"], [release.c.id, release.c.calibrated]),
    UniqueConstraint("sha256", "release_id", "state", name="uq_geotag_state"),
    CheckConstraint(
        "state = CASE WHEN abstention IS NULL THEN 'geotagged' ELSE 'abstained' END",
        name="state_says_whether_it_abstained",
    ),
    CheckConstraint("(position IS NULL) = (state = 'abstained')", name="position_unless_abstained"),
    on_earth("position"),
    CheckConstraint(
        f"calibrated OR coalesce(confidence, {', '.join(_RADII)}) IS NULL",
        name="only_calibrated_is_confidence",
    ),
    *(probability(name) for name in ("confidence", *_RADII)),
    *(probability(f"{name}_probability") for name in _PARTITIONS),
    *(probability(f"scene_{name}") for name in SCENES),
    *(
        CheckConstraint(
            f"({name}_cell IS NULL) = ({name}_probability IS NULL)", name=f"{name}_is_paired"
        )
        for name in ("coarse", "middle")
    ),
    CheckConstraint(f"scene IN {SCENES}", name="scene_exists"),
    *(
        CheckConstraint(
            f"cardinality({name}_cells) = cardinality({name}_probabilities)"
            f" AND cardinality({name}_cells) <= {most}",
            name=f"{name}_is_paired",
        )
        for name, most in (("candidate", 10), *((region, 64) for region in _REGIONS))
    ),
    Index("ix_geotag_position", "position", postgresql_using="gist"),
)

outcome = Table(
    "outcome",
    metadata,
    Column("object_version_id", BigInteger, ForeignKey(object_version.c.id), primary_key=True),
    Column("release_id", Integer, ForeignKey(release.c.id), primary_key=True),
    Column("state", Text, nullable=False),
    Column("code", Text, comment="of the error, see workers/errors.py"),
    Column("message", Text),
    Column("sha256", LargeBinary, comment="of the geotag, where there is one"),
    Column("run_id", BigInteger, ForeignKey(run.c.id), nullable=False),
    time_column("at"),
    # The state is part of the key: an outcome cannot say 'geotagged' of a geotag that abstained.
    ForeignKeyConstraint(
        ["sha256", "release_id", "state"],
        [geotag.c.sha256, geotag.c.release_id, geotag.c.state],
    ),
    CheckConstraint(
        "state IN ('geotagged', 'abstained', 'failed', 'quarantined')", name="state_exists"
    ),
    CheckConstraint(
        "(state IN ('geotagged', 'abstained')) = (sha256 IS NOT NULL)", name="geotag_if_inferred"
    ),
    CheckConstraint(
        "(state IN ('failed', 'quarantined')) = (code IS NOT NULL)", name="code_if_failed"
    ),
    Index(
        "ix_outcome_code",
        "release_id",
        "code",
        postgresql_where=text("code IS NOT NULL"),
    ),
    Index("ix_outcome_failed_at", "at", postgresql_where=text("code IS NOT NULL")),
)

retried_outcome = Table(
    "retried_outcome",
    metadata,
    id_column(),
    Column("object_version_id", BigInteger, ForeignKey(object_version.c.id), nullable=False),
    Column("release_id", Integer, ForeignKey(release.c.id), nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text),
    Column(
        "run_id",
        BigInteger,
        ForeignKey(run.c.id),
        nullable=False,
        comment="that it was the outcome of",
    ),
    Column("at", DateTime(timezone=True), nullable=False, comment="when it was recorded"),
    Column(
        "retry_run_id",
        BigInteger,
        ForeignKey(run.c.id),
        nullable=False,
        comment="that tries again",
    ),
    # Not now(), which is when the transaction began: an attempt could seem to be newer.
    Column(
        "retried_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("clock_timestamp()"),
    ),
    Index("ix_retried_outcome_object_version_id_release_id", "object_version_id", "release_id"),
)

attempt = Table(
    "attempt",
    metadata,
    id_column(),
    Column("object_version_id", BigInteger, ForeignKey(object_version.c.id), nullable=False),
    Column("release_id", Integer, ForeignKey(release.c.id), nullable=False),
    Column("chunk_id", BigInteger, ForeignKey(chunk.c.id), nullable=False),
    Column("worker", Text, nullable=False),
    time_column("started_at"),
    Column("finished_at", DateTime(timezone=True)),
    Column("code", Text, comment="of the error it ended with; NULL where it succeeded"),
    CheckConstraint("code IS NULL OR finished_at IS NOT NULL", name="code_when_finished"),
    Index("ix_attempt_object_version_id_release_id", "object_version_id", "release_id"),
    Index("ix_attempt_open", "chunk_id", postgresql_where=text("finished_at IS NULL")),
)
