-- Records the death of planners: of runs whose try has begun and not ended, and that no planner has a
-- lease on any more. A run is parked when that was its last try. Otherwise it waits from the beginning
-- of that try, and then comes after the runs that have not failed, even if pages were recorded before
-- the death. A locked row is left to the next call.
WITH leased AS MATERIALIZED (
    SELECT (l.classid::bigint << 32) | l.objid::bigint AS name
    FROM pg_locks l
    WHERE l.locktype = 'advisory'
      AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
UPDATE geotag.run r
SET plan_began_at = NULL,
    plan_error = format('planner_died: the planner died (killed or out of memory) in try %s of %s',
                        r.plan_faults, CAST(:most AS int)),
    plan_after = r.plan_began_at + least(interval '15 minutes',
                                         interval '1 minute' * power(2, least(r.plan_tries - 1, 10))),
    parked_at = CASE WHEN r.plan_faults >= :most THEN CAST(:now AS timestamptz) END
WHERE r.id IN (SELECT d.id
               FROM geotag.run d
               WHERE d.plan_began_at IS NOT NULL
                 AND d.planned_at IS NULL
                 AND NOT EXISTS (SELECT FROM leased
                                 WHERE leased.name = hashtextextended('geotag.plan:' || d.id, 0))
               FOR NO KEY UPDATE SKIP LOCKED)
