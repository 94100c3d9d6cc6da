-- A run whose listing is not complete and that no planner holds: a new night, or what a planner that
-- died left behind. One that is not yet a minute old may be about to be planned by who made it.
-- Holds are looked at, not tried: a planner that begins at this moment must not take us for another.
WITH held AS MATERIALIZED (
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
  AND r.cancelled_at IS NULL
  AND a.paused_at IS NULL
  AND a.removed_at IS NULL
  AND (r.scheduled_for IS NOT NULL OR r.created_at < :now - interval '1 minute')
  AND (r.plan_after IS NULL OR r.plan_after <= :now)
  AND NOT EXISTS (SELECT FROM held WHERE held.name = hashtextextended('geotag.plan:' || r.id, 0))
ORDER BY r.plan_after NULLS FIRST, r.id
LIMIT 1
