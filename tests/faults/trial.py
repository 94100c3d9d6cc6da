"""One run over an archive with faults during it, and the verdict on its results."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from db.engine import is_transient
from tests.conftest import register
from tests.faults.archive import contents, upload
from tests.faults.proxy import Trouble
from tests.faults.site import CHUNK, Site
from tests.stack_helpers import until

# Seconds after which a trial counts as stuck.
PATIENCE = 400
# Every version of every object of one bucket, with its outcomes.
_VERSIONS = text("""
    SELECT v.key, v.superseded_at IS NOT NULL AS superseded,
           count(o.*) AS outcomes, max(o.state) AS state, max(o.code) AS code
    FROM geotag.object_version v
    JOIN geotag.archive a ON a.id = v.archive_id
    LEFT JOIN geotag.outcome o ON o.object_version_id = v.id
    WHERE a.bucket = :bucket
    GROUP BY v.id
""")
_CONTENTS = text("""
    SELECT count(DISTINCT v.sha256) AS contents, count(DISTINCT (g.sha256, g.release_id)) AS pairs,
           (SELECT count(*) FROM geotag.geotag n
            WHERE n.sha256 IN (SELECT sha256 FROM geotag.object_version
                               WHERE archive_id = a.id)) AS geotags
    FROM geotag.archive a
    JOIN geotag.object_version v ON v.archive_id = a.id
    JOIN geotag.geotag g ON g.sha256 = v.sha256
    WHERE a.bucket = :bucket
    GROUP BY a.id
""")
_DONE = text("""
    SELECT count(*) FROM geotag.outcome o
    JOIN geotag.object_version v ON v.id = o.object_version_id
    JOIN geotag.archive a ON a.id = v.archive_id
    WHERE a.bucket = :bucket
""")
_IN_HAND = text("""
    SELECT t.object_version_id FROM geotag.attempt t
    JOIN geotag.object_version v ON v.id = t.object_version_id
    JOIN geotag.archive a ON a.id = v.archive_id
    WHERE a.bucket = :bucket AND t.finished_at IS NULL
""")
_LAST_OUTCOME = text("""
    SELECT extract(epoch FROM max(o.at)) FROM geotag.outcome o
    JOIN geotag.object_version v ON v.id = o.object_version_id
    JOIN geotag.archive a ON a.id = v.archive_id
    WHERE a.bucket = :bucket AND (CAST(:ids AS bigint[]) IS NULL OR v.id = ANY(:ids))
""")
_RUNS = text("SELECT count(*) FROM geotag.run r WHERE r.source LIKE '%' || :bucket || '%'")
_UNFINISHED = text("""
    SELECT count(*) FROM geotag.run r
    WHERE r.source LIKE '%' || :bucket || '%'
      AND (r.planned_at IS NULL OR EXISTS (SELECT FROM geotag.chunk c
           WHERE c.run_id = r.id AND c.finished_at IS NULL))
""")


@dataclass(frozen=True)
class Verdict:
    """Result of a trial; `problems` is empty if nothing was lost or doubled."""

    fault: str
    broker: str
    times: int
    objects: int
    lost: int
    doubled: int
    extra: int
    allowed: int
    recovery: float
    seconds: float
    problems: tuple[str, ...]


@dataclass
class Strike:
    """One fault: the objects in work at its beginning, and the time of its end."""

    in_hand: list[int]
    over_at: float


@dataclass
class Trial:
    """A new bucket, the run over it, and the faults during the run.

    `loses` counts the processes whose chunk in work a fault may interrupt.
    """

    site: Site
    rng: Random
    objects: int
    poison: int = 0
    loses: int = 0
    strikes: list[Strike] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bucket = f"faults-{uuid.uuid4().hex[:12]}"
        self.contents = contents(self.rng, self.bucket, self.objects, self.poison)
        upload(self.site.s3, self.bucket, self.contents.files)
        register(self.site.context, self.bucket)
        self.interrupted = False
        self.before = self.site.inferences()

    def start(self) -> None:
        """Start `geotag run` over the bucket."""
        self.started = time.time()
        self.run = subprocess.Popen(
            [str(Path(sys.executable).with_name("geotag")), "run", f"s3://{self.bucket}"],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def kill_command(self) -> None:
        """Kill the command with SIGKILL: from then on the supervised processes plan and publish."""
        self.run.kill()
        self.interrupted = True

    def until_planning(self) -> None:
        """Wait until the run is in the ledger."""
        until(lambda: self.ask(_RUNS), seconds=PATIENCE)

    def until_done(self, share: float) -> None:
        """Wait until that share of the objects has an outcome."""
        until(lambda: (self.ask(_DONE) or 0) >= share * self.objects, seconds=PATIENCE)

    def struck_by(self, inject: "Callable[[Trial], None]") -> None:
        """Inject a fault; record the objects in work at its beginning, and its end."""
        in_hand = self.ask_all(_IN_HAND)
        inject(self)
        self.strikes.append(Strike(in_hand, time.time()))

    def finish(self) -> None:
        """Wait for the run to end by itself."""
        try:
            self.printed, _none = self.run.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.run.kill()
            self.printed, _none = self.run.communicate()
        until(lambda: self.ask(_UNFINISHED) == 0, seconds=PATIENCE)

    @contextmanager
    def going(self) -> Iterator[None]:
        """Start the run, and clean up for the next trial, also after an error."""
        self.start()
        try:
            yield
        finally:
            self.site.proxy.trouble = Trouble()
            for service in ("postgres", "broker", "triton"):
                self.site.start(service)
            self.finish()

    def replace(self, key: str) -> None:
        """Upload other bytes under a key."""
        self.site.s3.upload(self.bucket, key, self.contents.files[key] + b"replaced")

    def done_keys(self) -> set[str]:
        """The objects that have an outcome."""
        with self.site.context.engine.connect() as connection:
            rows = connection.execute(_VERSIONS, {"bucket": self.bucket}).all()
        return {row.key for row in rows if row.outcomes}

    def ask(self, query: object, **values: object) -> object:
        """Return one value from the ledger; None while it is unavailable."""
        try:
            with self.site.context.engine.connect() as connection:
                return connection.execute(query, {"bucket": self.bucket, **values}).scalar()  # type: ignore[call-overload]
        except SQLAlchemyError as error:
            if is_transient(error):
                return None
            raise

    def ask_all(self, query: object) -> list[int]:
        """Return one column from the ledger."""
        with self.site.context.engine.connect() as connection:
            return list(connection.execute(query, {"bucket": self.bucket}).scalars())  # type: ignore[call-overload]

    def judge(self, fault: str) -> Verdict:
        """Check that every object version has the expected outcome once; return the verdict."""
        with self.site.context.engine.connect() as connection:
            versions = connection.execute(_VERSIONS, {"bucket": self.bucket}).all()
            found = connection.execute(_CONTENTS, {"bucket": self.bucket}).one()
        problems = []
        current = {row.key: row for row in versions if not row.superseded}
        lost = [
            key
            for key, end in self.contents.expected.items()
            if key not in current or (current[key].state, current[key].code) != end
        ]
        for key in lost[:5]:
            row = current.get(key)
            ended = (row.state, row.code) if row else "not in the ledger"
            problems.append(f"{key} ended as {ended}")
        lost += [
            row.key
            for row in versions
            if row.superseded and (row.outcomes != 1 or row.code not in (None, "object_changed"))
        ]
        doubled = sum(row.outcomes > 1 for row in versions) + found.geotags - found.pairs
        extra = self.site.inferences() - self.before - found.contents
        allowed = self.loses * CHUNK
        if lost:
            problems.append(f"{len(lost)} lost")
        if doubled:
            problems.append(f"{doubled} doubled")
        if extra > allowed:
            problems.append(f"{extra} inferences too many, {allowed} may be")
        if not self.interrupted and self.run.returncode != 3:  # the bad files have failed
            problems.append(f"exit code {self.run.returncode}: {self.printed[-500:]}")
        return Verdict(
            fault,
            self.site.broker,
            len(self.strikes) or self.poison,
            len(versions),
            len(lost),
            doubled,
            extra,
            allowed,
            max((self._recovery(strike) for strike in self.strikes), default=0.0),
            float(self.ask(_LAST_OUTCOME, ids=None) or 0) - self.started,  # type: ignore[arg-type]
            tuple(problems),
        )

    def _recovery(self, strike: Strike) -> float:
        """Return the seconds from a fault's end until all objects then in work had an outcome.

        If none was in work, return the seconds until the run's last outcome.
        """
        last = self.ask(_LAST_OUTCOME, ids=strike.in_hand or None)
        return max(0.0, float(last or 0) - strike.over_at)  # type: ignore[arg-type]
