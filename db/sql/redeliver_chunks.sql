-- A worker holds a chunk's advisory lock while it works on it: the lock is free as soon as the
-- worker is gone, however it went. Free for a moment here, it is given back with the transaction.
WITH free AS (
    SELECT c.id
    FROM geotag.chunk c
    WHERE c.run_id = :run_id
      AND c.finished_at IS NULL
      AND pg_try_advisory_xact_lock(hashtextextended('geotag.chunk:' || c.id, 0))
),
bumped AS (
    UPDATE geotag.chunk c
    SET delivery = c.delivery + 1
    FROM free
    WHERE c.id = free.id
    RETURNING c.id, c.delivery
)
SELECT b.id, b.delivery, array_agg(ro.object_version_id ORDER BY ro.object_version_id) AS object_ids
FROM bumped b
JOIN geotag.run_object ro ON ro.chunk_id = b.id
GROUP BY b.id, b.delivery
ORDER BY b.id
