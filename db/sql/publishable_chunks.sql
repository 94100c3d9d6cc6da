-- The chunks of a queue that may be published now: so many that at most :most are then at the broker
-- (NULL: no limit). Fair by archive: archives with the fewest chunks at the broker come first, so an
-- archive of three chunks does not wait behind one of a hundred thousand. The rows stay locked.
WITH RECURSIVE waiting (run_id) AS (
    -- From run to run through the index, so that the chunks of a large run are not scanned.
    (SELECT run_id
     FROM geotag.chunk
     WHERE finished_at IS NULL AND published_at IS NULL
     ORDER BY run_id
     LIMIT 1)
    UNION ALL
    SELECT (SELECT c.run_id
            FROM geotag.chunk c
            WHERE c.finished_at IS NULL AND c.published_at IS NULL AND c.run_id > w.run_id
            ORDER BY c.run_id
            LIMIT 1)
    FROM waiting w
    WHERE w.run_id IS NOT NULL
),
open_run AS MATERIALIZED (
    -- Evaluated once per run, not once per chunk.
    SELECT r.id
    FROM waiting w
    JOIN geotag.run r ON r.id = w.run_id
    LEFT JOIN geotag.archive a ON a.id = r.archive_id
    WHERE r.queue = :queue
      AND geotag.is_open(r, a, :now)
),
at_broker AS (
    SELECT c.archive_id, count(*) AS chunks
    FROM geotag.chunk c
    JOIN geotag.run r ON r.id = c.run_id
    WHERE c.published_at IS NOT NULL AND c.finished_at IS NULL AND r.queue = :queue
    GROUP BY c.archive_id
),
candidate AS (
    SELECT next.id, next.archive_id,
           coalesce(b.chunks, 0)
               + row_number() OVER (PARTITION BY next.archive_id ORDER BY next.id) AS place
    FROM open_run
    JOIN geotag.run r ON r.id = open_run.id
    CROSS JOIN LATERAL (
        SELECT c.id, c.archive_id
        FROM geotag.chunk c
        JOIN geotag.archive a ON a.id = c.archive_id
        WHERE c.run_id = r.id
          AND c.finished_at IS NULL
          AND c.published_at IS NULL
          AND geotag.is_open(r, a, :now)
        ORDER BY c.id
        LIMIT CAST(:most AS bigint)
    ) next
    LEFT JOIN at_broker b ON b.archive_id = next.archive_id
),
chosen AS (
    SELECT id, place
    FROM candidate
    ORDER BY place, id
    LIMIT CASE
              WHEN CAST(:most AS bigint) IS NOT NULL
                  THEN greatest(0, CAST(:most AS bigint)
                                   - (SELECT coalesce(sum(chunks), 0) FROM at_broker))
          END
)
SELECT c.id, c.delivery,
       ARRAY(SELECT ro.object_version_id
             FROM geotag.run_object ro
             WHERE ro.chunk_id = c.id
             ORDER BY ro.object_version_id) AS object_ids
FROM chosen
JOIN geotag.chunk c ON c.id = chosen.id
-- Checked again on the locked row: another publisher may have sent it since this statement began.
WHERE c.finished_at IS NULL
  AND c.published_at IS NULL
ORDER BY chosen.place, c.id
FOR UPDATE OF c SKIP LOCKED
