-- A run whose listing is not complete and that no planner has a lease on: a new night, or what a dead
-- planner left behind. A run that is not yet a minute old may be about to be planned by its maker.
-- Leases are read, not tried: a planner that begins at this moment must not find one taken by us.
WITH leased AS MATERIALIZED (
    SELECT (l.classid::bigint << 32) | l.objid::bigint AS name
    FROM pg_locks l
    WHERE l.locktype = 'advisory'
      AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT r.id
FROM geotag.run r
JOIN geotag.archive a ON a.id = r.archive_id
WHERE r.planned_at IS NULL
  AND r.queue = 'backfill'
  AND r.paused_at IS NULL
  AND r.parked_at IS NULL
  AND r.cancelled_at IS NULL
  AND a.paused_at IS NULL
  AND a.removed_at IS NULL
  AND (r.scheduled_for IS NOT NULL OR r.created_at < :now - interval '1 minute')
  AND (r.plan_after IS NULL OR r.plan_after <= :now)
  AND NOT EXISTS (SELECT FROM leased
                  WHERE leased.name = hashtextextended('geotag.plan:' || r.id, 0))
ORDER BY r.plan_after NULLS FIRST, r.id
LIMIT 1
