-- Counted from the outcomes, so that the sums agree with the rows.
UPDATE geotag.chunk c
SET finished_at = now(),
    heartbeat_at = now(),
    geotagged = counted.geotagged,
    abstained = counted.abstained,
    failed = counted.failed,
    quarantined = counted.quarantined
FROM (
    SELECT count(*) FILTER (WHERE o.state = 'geotagged') AS geotagged,
           count(*) FILTER (WHERE o.state = 'abstained') AS abstained,
           count(*) FILTER (WHERE o.state = 'failed') AS failed,
           count(*) FILTER (WHERE o.state = 'quarantined') AS quarantined,
           count(*) FILTER (WHERE o.state IS NULL) AS pending
    FROM geotag.run_object ro
    JOIN geotag.run r ON r.id = ro.run_id
    LEFT JOIN geotag.outcome o
           ON o.object_version_id = ro.object_version_id AND o.release_id = r.release_id
    WHERE ro.chunk_id = :chunk_id
) counted
WHERE c.id = :chunk_id
  AND counted.pending = 0
