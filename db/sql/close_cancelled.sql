-- Ends the chunks of cancelled runs that are not at the broker. Their objects without an outcome stay
-- pending. Those of a chunk that was begun and handed back may have outcomes: they are counted.
UPDATE geotag.chunk c
SET finished_at = :now,
    geotagged = counted.geotagged,
    abstained = counted.abstained,
    failed = counted.failed,
    quarantined = counted.quarantined
FROM geotag.chunk again
JOIN geotag.run r ON r.id = again.run_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE o.state = 'geotagged') AS geotagged,
           count(*) FILTER (WHERE o.state = 'abstained') AS abstained,
           count(*) FILTER (WHERE o.state = 'failed') AS failed,
           count(*) FILTER (WHERE o.state = 'quarantined') AS quarantined
    FROM geotag.run_object ro
    JOIN geotag.outcome o
      ON o.object_version_id = ro.object_version_id AND o.release_id = r.release_id
    WHERE ro.chunk_id = again.id
      AND again.heartbeat_at IS NOT NULL
) counted
WHERE again.id = c.id
  AND r.cancelled_at IS NOT NULL
  AND c.finished_at IS NULL
  AND c.published_at IS NULL
