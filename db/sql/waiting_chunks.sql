-- The published chunks of a queue that no worker has a lease on, oldest first, and whether each has
-- waited so long that its message may be lost. Leases are read, not tried: a worker
-- that begins at this moment must not find one taken by us.
WITH leased AS MATERIALIZED (
    SELECT (l.classid::bigint << 32) | l.objid::bigint AS name
    FROM pg_locks l
    WHERE l.locktype = 'advisory'
      AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT c.id,
       greatest(c.published_at, c.heartbeat_at) < :now - make_interval(secs => :patience) AS overdue
FROM geotag.chunk c
JOIN geotag.run r ON r.id = c.run_id
WHERE c.published_at <= :now
  AND c.finished_at IS NULL
  AND r.queue = :queue
  AND NOT EXISTS (SELECT FROM leased WHERE leased.name = hashtextextended('geotag.chunk:' || c.id, 0))
ORDER BY c.published_at, c.id
