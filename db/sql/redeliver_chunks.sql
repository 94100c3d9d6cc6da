-- A page of a run's unfinished chunks, in order; `delivery` is NULL where a worker holds the chunk.
-- A worker holds a chunk's advisory lock while it works on it: the lock is free as soon as the
-- worker is gone, however it went. Free for a moment here, it is given back with the transaction.
WITH page AS (
    SELECT c.id
    FROM geotag.chunk c
    WHERE c.run_id = :run_id
      AND c.finished_at IS NULL
      AND c.id > :after
    ORDER BY c.id
    LIMIT :most
),
free AS (
    SELECT p.id
    FROM page p
    WHERE pg_try_advisory_xact_lock(hashtextextended('geotag.chunk:' || p.id, 0))
),
bumped AS (
    UPDATE geotag.chunk c
    SET delivery = c.delivery + 1
    FROM free
    WHERE c.id = free.id
    RETURNING c.id, c.delivery
)
SELECT p.id, b.delivery,
       ARRAY(SELECT ro.object_version_id
             FROM geotag.run_object ro
             WHERE ro.chunk_id = p.id
             ORDER BY ro.object_version_id) AS object_ids
FROM page p
LEFT JOIN bumped b ON b.id = p.id
ORDER BY p.id
