-- One row for each run, with its counts and state. Unfinished chunks are counted by their outcomes, so
-- that the counts move within a chunk too.
SELECT r.id,
       r.source,
       r.queue,
       l.name AS release,
       r.created_at,
       r.planned_at,
       r.listed,
       r.skipped,
       r.done_before,
       r.failed_before,
       (SELECT count(*) FROM geotag.run_object ro WHERE ro.run_id = r.id) AS planned,
       coalesce(c.geotagged, 0) + coalesce(u.geotagged, 0) AS geotagged,
       coalesce(c.abstained, 0) + coalesce(u.abstained, 0) AS abstained,
       coalesce(c.failed, 0) + coalesce(u.failed, 0) AS failed,
       coalesce(c.quarantined, 0) + coalesce(u.quarantined, 0) AS quarantined,
       r.planned_at IS NOT NULL AND coalesce(c.waiting + c.queued, 0) = 0 AS finished,
       c.last_finished_at,
       greatest(c.heartbeat_at, c.last_finished_at) AS heartbeat_at,
       a.name AS archive,
       -- What the run waits for, if anything: the first case that is true.
       CASE
           WHEN r.cancelled_at IS NOT NULL THEN 'cancelled'
           WHEN r.planned_at IS NOT NULL AND coalesce(c.waiting + c.queued, 0) = 0 THEN 'finished'
           WHEN r.paused_at IS NOT NULL THEN 'paused'
           WHEN a.removed_at IS NOT NULL THEN 'archive_removed'
           WHEN a.paused_at IS NOT NULL THEN 'archive_paused'
           WHEN r.planned_at IS NULL AND r.parked_at IS NOT NULL THEN 'parked'
           WHEN zone.unknown THEN 'unknown_time_zone'
           WHEN NOT geotag.is_open(r, a, now()) THEN 'outside_window'
           WHEN r.planned_at IS NOT NULL THEN 'working'
           WHEN r.plan_error IS NOT NULL THEN 'planning_fails'
           ELSE 'planning'
       END AS state,
       CASE
           WHEN zone.unknown AND (r.planned_at IS NULL OR c.waiting + c.queued > 0)
               THEN 'the database knows no time zone ' || r.timezone
           ELSE r.plan_error
       END AS plan_error,
       coalesce(c.waiting, 0) AS chunks_waiting,
       coalesce(c.queued, 0) AS chunks_queued,
       r.plan_warning
FROM geotag.run r
JOIN geotag.release l ON l.id = r.release_id
LEFT JOIN LATERAL (
    -- Of a manifest file or a retry: an archive, if all unfinished chunks are of archives that are
    -- paused or removed.
    SELECT (array_agg(s.id ORDER BY s.removed_at IS NOT NULL, s.id))[1] AS archive_id
    FROM geotag.archive s
    WHERE r.archive_id IS NULL
      AND r.planned_at IS NOT NULL
      AND s.id IN (SELECT c.archive_id FROM geotag.chunk c
                   WHERE c.run_id = r.id AND c.finished_at IS NULL)
    HAVING bool_and(s.paused_at IS NOT NULL OR s.removed_at IS NOT NULL)
) held ON true
LEFT JOIN geotag.archive a ON a.id = coalesce(r.archive_id, held.archive_id)
CROSS JOIN LATERAL (
    SELECT r.opens IS NOT NULL
       AND r.cancelled_at IS NULL
       AND geotag.local_time(now(), r.timezone) IS NULL AS unknown
) zone
LEFT JOIN LATERAL (
    SELECT sum(c.geotagged) AS geotagged,
           sum(c.abstained) AS abstained,
           sum(c.failed) AS failed,
           sum(c.quarantined) AS quarantined,
           count(*) FILTER (WHERE c.finished_at IS NULL AND c.published_at IS NULL) AS waiting,
           count(*) FILTER (WHERE c.finished_at IS NULL AND c.published_at IS NOT NULL) AS queued,
           max(c.finished_at) AS last_finished_at,
           max(c.heartbeat_at) AS heartbeat_at
    FROM geotag.chunk c
    WHERE c.run_id = r.id
) c ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE o.state = 'geotagged') AS geotagged,
           count(*) FILTER (WHERE o.state = 'abstained') AS abstained,
           count(*) FILTER (WHERE o.state = 'failed') AS failed,
           count(*) FILTER (WHERE o.state = 'quarantined') AS quarantined
    FROM geotag.chunk c
    JOIN geotag.run_object ro ON ro.chunk_id = c.id
    JOIN geotag.outcome o
      ON o.object_version_id = ro.object_version_id AND o.release_id = r.release_id
    WHERE c.run_id = r.id AND c.finished_at IS NULL AND c.heartbeat_at IS NOT NULL
) u ON true
WHERE CAST(:run_id AS bigint) IS NULL OR r.id = :run_id
ORDER BY r.id DESC
LIMIT :most
