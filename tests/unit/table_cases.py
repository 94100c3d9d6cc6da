"""Every table that a command prints, with long keys, wide characters and long codes in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db.archives import Counts, RegisteredArchive
from db.failures import Failure, FailureGroup
from db.reads import Candidate, ResultFilter, ResultRow, RunProgress, Shown
from db.releases import Registered
from db.schedules import Night, Schedule
from deploy.local.doctor import Check
from geotag import tables
from geotag.archives import registry
from geotag.evaluation import tables as evaluation
from geotag.failures import failed_objects
from geotag.formats import Format, ListFormat
from geotag.machine import demo, doctor
from geotag.partitions import partition
from geotag.releases import tables as releases
from geotag.results import show
from geotag.results.table import print_results
from geotag.runs import status
from geotag.schedules import schedule
from tests.unit.test_output import GOOD, PENDING, near
from triton_models.cells.partitioning import BuildReport
from triton_models.evaluation.document import Document, evaluate
from triton_models.evaluation.matching import known_truths, match
from triton_models.evaluation.predictions import read_predictions
from triton_models.evaluation.published_results import benchmark_named
from triton_models.release.release import RELEASES, Release

LONG = "located/724e74d1b2/" + "x" * 300 + "/IMG_0001.jpg"
CJK = "写真/" + "東京都" * 60 + "/桜.jpg"
CODE = "unsupported_format_of_somebody"
PROSE = "cannot be read: " + "the service refuses the connection again and again, " * 6
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOLDEN = Path(__file__).parents[1] / "golden"

Print = Callable[[pytest.MonkeyPatch, bool], None]


@dataclass(frozen=True)
class Case:
    """A table: the module that prints it, how it is printed, and the texts that it must show."""

    module: str
    print: Print
    full: tuple[str, ...] = ()
    has_wide: bool = True
    blocks: bool = False
    """Whether its columns continue below where they do not fit beside each other."""


CONTEXT: Any = SimpleNamespace(engine=None, settings=SimpleNamespace(worker=SimpleNamespace()))


def returns(value: Any) -> Callable[..., Any]:
    return lambda *_given, **_named: value


def _status(patch: pytest.MonkeyPatch, wide: bool) -> None:
    run = RunProgress(
        id=123456, source=f"s3://{LONG}", queue="backfill", release="r" * 40, created_at=AT,
        planned_at=AT, listed=123456789, skipped=1, done_before=12345678, failed_before=1,
        planned=99999999, geotagged=12345678, abstained=1234567, failed=123456, quarantined=12345,
        finished=False, last_finished_at=AT, heartbeat_at=AT, state="unknown_time_zone",
    )  # fmt: skip
    runs = [run, replace(run, id=1, source=f"s3://{CJK}", state="working")]
    patch.setattr(status, "run_progress", returns(runs))
    status.print_status(CONTEXT, 1, Format.TABLE, wide=wide)


def _rows() -> Iterator[ResultRow]:
    yield replace(GOOD, key=LONG)
    yield replace(PENDING, key=CJK, state="quarantined", code=CODE)


def _results(patch: pytest.MonkeyPatch, wide: bool) -> None:
    print_results(_rows(), near, wide=wide)


def _demo(patch: pytest.MonkeyPatch, wide: bool) -> None:
    patch.setattr(demo, "stream_results", returns(_rows()))
    demo._print_table(CONTEXT, ResultFilter(bucket="photos", release="r"))


def _failures(by: str) -> Print:
    def print_(patch: pytest.MonkeyPatch, wide: bool) -> None:
        groups = [
            FailureGroup(part, code, 1234567, f"s3://{key}", PROSE, AT)
            for part, code, key in (("photos", CODE, LONG), ("2026-01-02", "corrupt", CJK))
        ]
        patch.setattr(failed_objects, "failure_groups", returns(groups))
        failed_objects.print_counts(
            CONTEXT, by, None, ListFormat.TABLE, any_release=False, wide=wide
        )

    return print_


def _failed_keys(patch: pytest.MonkeyPatch, wide: bool) -> None:
    found = [
        Failure("a", "photos", key, "quarantined", CODE, PROSE, 1234567, "r", AT, 12)
        for key in (LONG, CJK)
    ]
    patch.setattr(failed_objects, "list_failures", returns(found))
    failed_objects.print_keys(CONTEXT, None, ListFormat.TABLE, any_release=False, wide=wide)


ARCHIVE = RegisteredArchive("photos", "http://localhost:8333", "photos", LONG, include=(f"{CJK}*",))


def _archives(patch: pytest.MonkeyPatch, wide: bool) -> None:
    patch.setattr(registry.archives, "counts", returns(Counts(123456789, 12345678, 1234567, 1, AT)))
    found = [ARCHIVE, replace(ARCHIVE, name="b", prefix=CJK)]
    patch.setattr(registry.archives, "registered", returns(found))
    registry.print_list(CONTEXT, ListFormat.TABLE, removed=False, wide=wide)


def _archive(patch: pytest.MonkeyPatch, wide: bool) -> None:
    patch.setattr(registry.archives, "counts", returns(Counts(123456789, 12345678, 1234567, 1, AT)))
    registry.print_one(CONTEXT, ARCHIVE, ListFormat.TABLE, wide=wide)


NIGHTS = Schedule(
    cron="30 22 * * mon-fri", timezone="America/Argentina/ComodRivadavia", opens=time(22),
    closes=time(6), most=1234567, archive="photos-of-the-city-archive", next_at=AT, last_run_id=123,
)  # fmt: skip


def _schedules(patch: pytest.MonkeyPatch, wide: bool) -> None:
    patch.setattr(schedule.schedules, "schedules", returns([NIGHTS, replace(NIGHTS, archive="b")]))
    schedule.print_schedules(CONTEXT, ListFormat.TABLE, wide=wide)


def _schedule(patch: pytest.MonkeyPatch, wide: bool) -> None:
    patch.setattr(schedule.schedules, "schedules", returns([NIGHTS]))
    patch.setattr(schedule.schedules, "last_nights", returns([Night(AT, 1234567, 12345678, 1, 0)]))
    schedule.print_schedule(CONTEXT, NIGHTS.archive, ListFormat.TABLE)


def _releases(patch: pytest.MonkeyPatch, wide: bool) -> None:
    here = returns({"untrained": RELEASES / "untrained"})
    patch.setattr(releases, "directories", here)
    known = [Registered("release-" + "x" * 300, "ab" * 32, True, True, 1234567, True, AT)]
    patch.setattr(releases, "registered_releases", returns(known))
    patch.setattr(releases.model_control, "ready", returns({"geotag_untrained"}))
    context: Any = SimpleNamespace(
        engine=None, settings=SimpleNamespace(worker=SimpleNamespace(triton_url=""))
    )
    releases.print_releases(context, wide=wide)


def _release(patch: pytest.MonkeyPatch, wide: bool) -> None:
    release = Release.load(RELEASES / "landmarks")
    provenance = {"a key of somebody that is not short": PROSE, "photographs": f"s3://{LONG}"}
    manifest = replace(release.manifest, provenance=provenance)
    patch.setattr(releases, "Markdown", returns(""))
    releases.print_release(replace(release, manifest=manifest), wide=wide)


def _document() -> Document:
    file = GOLDEN / "evaluation_theirs.csv"
    systems = [read_predictions(file, LONG), read_predictions(file, CJK)]
    known = known_truths(None, systems)
    return evaluate(match(known, systems), benchmark_named("im2gps"))


def _evaluation(patch: pytest.MonkeyPatch, wide: bool) -> None:
    evaluation.print_tables(_document(), tables.console, wide=wide)


def _doctor(patch: pytest.MonkeyPatch, wide: bool) -> None:
    checks = [
        Check(f"archive {LONG}", True, f"http://localhost:8333/{CJK}", ""),
        Check("s3", False, PROSE, "geotag up starts it"),
    ]
    doctor.print_checks(checks, wide=wide)


def _training(patch: pytest.MonkeyPatch, wide: bool) -> None:
    import numpy as np

    from geotag.training import train

    class Photographs:
        labels = np.ones((4_700_000, 4), np.int8)

        def __len__(self) -> int:
            return len(self.labels)

    planned: Any = SimpleNamespace(
        config=SimpleNamespace(
            network=SimpleNamespace(preset="translocator-base-with-a-long-name"),
            training=SimpleNamespace(batch=1024),
            out=Path(f"/{LONG}"),
        ),
        schedule=SimpleNamespace(steps=1234567, accumulate=16, micro_batch=64),
        network=SimpleNamespace(branches="rgb and segmentation", crop_size=224, image_size=256),
        segmenter=SimpleNamespace(classes=[""] * 150, sha256="ab" * 32),
        training=Photographs(),
        validation=Photographs(),
        hierarchy=SimpleNamespace(partitions=[[0] * 3298, [0] * 7202, [0] * 12893]),
    )
    takes = SimpleNamespace(
        parameters=10**9, learning=10**9, state_bytes=1e11, activation_bytes=1e9
    )
    patch.setattr(train, "cost", returns(takes))
    tables.print_facts(train.facts_of(planned), wide=wide)


def _partitions(patch: pytest.MonkeyPatch, wide: bool) -> None:
    report = BuildReport("coarse", 4_700_000_000, 1, 32980, 123456, 123456789, 1234567)
    partition.print_reports([report, replace(report, name="middle")], "merge")


def _page(patch: pytest.MonkeyPatch, wide: bool) -> None:
    cells = [
        {"partition": name, "token": "89c25a31" + "0" * 8, "probability": 0.1234}
        for name in ("coarse", "middle", "fine")
    ]
    prediction = {
        "calibrated": False,
        "scene": {"indoor": 0.2, "natural": 0.3, "urban": 0.5},
        "release_digest": "ab" * 32,
        "cells": cells,
    }
    shown = Shown(
        result=replace(GOOD, key=LONG, code=CODE, release="r" * 120),
        object_version_id=1,
        message=PROSE,
        etag="e",
        size=1,
        content={"camera_make": CJK, "camera_model": PROSE},
        prediction=prediction,
        candidates=tuple(Candidate("89c25a31" + "0" * 8, 0.12, x, 48.8584) for x in (2.3, -120.1)),
    )
    patch.setattr(show, "near", returns("1,234 km from " + "Llanfairpwllgwyngyll " * 6))
    show.print_page(shown, wide=wide)


KEYS = (LONG, CJK)
CASES = {
    "status": Case("geotag.runs.status", _status, KEYS, blocks=True),
    "results": Case("geotag.results.table", _results, KEYS),
    "demo": Case("geotag.results.table", _demo, KEYS, has_wide=False),
    "failures": Case("geotag.failures.failed_objects", _failures("code"), KEYS),
    "failures --by archive": Case("geotag.failures.failed_objects", _failures("archive"), KEYS),
    "failures --keys": Case("geotag.failures.failed_objects", _failed_keys, KEYS),
    "archive list": Case("geotag.archives.registry", _archives, KEYS),
    "archive show": Case("geotag.archives.registry", _archive, KEYS),
    "schedule list": Case("geotag.schedules.schedule", _schedules),
    "schedule show": Case("geotag.schedules.schedule", _schedule, has_wide=False),
    "releases list": Case(
        "geotag.releases.tables", _releases, ("release-" + "x" * 300,), blocks=True
    ),
    "releases show": Case("geotag.releases.tables", _release, (LONG, PROSE.strip())),
    "evaluate": Case("geotag.evaluation.tables", _evaluation, KEYS, blocks=True),
    "doctor": Case("geotag.machine.doctor", _doctor, (*KEYS, PROSE.strip())),
    "train --dry-run": Case("geotag.training.train", _training, (LONG,), has_wide=False),
    "partition build": Case("geotag.partitions.partition", _partitions, has_wide=False),
    "show and locate": Case("geotag.results.show", _page, (CJK, PROSE.strip())),
}
