-- Recalls chunks from the broker, unless a worker has their lease. Their messages are stale from now on,
-- and they wait to be published again. The locks end with the transaction.
WITH free AS MATERIALIZED (
    SELECT asked.id
    FROM unnest(CAST(:ids AS bigint[])) AS asked (id)
    WHERE pg_try_advisory_xact_lock(hashtextextended('geotag.chunk:' || asked.id, 0))
)
UPDATE geotag.chunk c
SET delivery = c.delivery + 1,
    published_at = NULL
FROM free
WHERE c.id = free.id
  AND c.published_at IS NOT NULL
  AND c.finished_at IS NULL
