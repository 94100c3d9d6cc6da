-- Ends the chunks of cancelled runs that are not at the broker. Their objects without an outcome stay
-- pending. Outcomes of a chunk that was begun and handed back are counted. Open attempts end as
-- handed back, so that they do not count as crashes.
WITH candidate AS MATERIALIZED (
    -- From the few cancelled runs to their chunks: this runs at each tick, over millions of chunks.
    SELECT id, run_id, heartbeat_at
    FROM geotag.chunk
    WHERE run_id = ANY (ARRAY(SELECT id FROM geotag.run WHERE cancelled_at IS NOT NULL))
      AND finished_at IS NULL
      AND published_at IS NULL
),
ended AS (
    UPDATE geotag.chunk c
    SET finished_at = :now,
        geotagged = counted.geotagged,
        abstained = counted.abstained,
        failed = counted.failed,
        quarantined = counted.quarantined
    FROM candidate
    JOIN geotag.run r ON r.id = candidate.run_id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE o.state = 'geotagged') AS geotagged,
               count(*) FILTER (WHERE o.state = 'abstained') AS abstained,
               count(*) FILTER (WHERE o.state = 'failed') AS failed,
               count(*) FILTER (WHERE o.state = 'quarantined') AS quarantined
        FROM geotag.run_object ro
        JOIN geotag.outcome o
          ON o.object_version_id = ro.object_version_id AND o.release_id = r.release_id
        WHERE ro.chunk_id = candidate.id
          AND candidate.heartbeat_at IS NOT NULL
    ) counted
    WHERE c.id = candidate.id
      AND c.finished_at IS NULL
      AND c.published_at IS NULL
    RETURNING c.id
)
UPDATE geotag.attempt t
SET finished_at = :now,
    code = 'handed_back'
FROM ended
WHERE t.chunk_id = ended.id
  AND t.finished_at IS NULL
