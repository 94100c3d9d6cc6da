-- Metrics of the ledger for Prometheus, one sample a row. Reads the unfinished chunks and, by index,
-- the failures of a day. Finished work costs nothing.
WITH unfinished AS MATERIALIZED (
    SELECT c.run_id,
           c.archive_id,
           c.published_at IS NOT NULL AS published,
           count(*) AS chunks,
           min(c.published_at) AS published_at,
           -- Only chunks that a worker has begun since their publication.
           min(c.heartbeat_at) FILTER (WHERE c.heartbeat_at >= c.published_at) AS heartbeat_at
    FROM geotag.chunk c
    WHERE c.finished_at IS NULL
    GROUP BY 1, 2, 3
),
waiting AS MATERIALIZED (
    SELECT u.*, r.queue, r.created_at, a.name AS archive, geotag.is_open(r, a, now()) AS may_go
    FROM unfinished u
    JOIN geotag.run r ON r.id = u.run_id
    JOIN geotag.archive a ON a.id = u.archive_id
),
due AS (  -- as in due_schedules.sql: a night that is delayed on purpose raises no alert
    SELECT s.next_at
    FROM geotag.schedule s
    JOIN geotag.archive a ON a.id = s.archive_id
    WHERE s.next_at <= now()
      AND s.paused_at IS NULL
      AND a.paused_at IS NULL
      AND a.removed_at IS NULL
      AND EXISTS (SELECT FROM geotag.release l
                  WHERE l.id = s.release_id OR (s.release_id IS NULL AND l.active))
      AND NOT EXISTS (SELECT FROM geotag.run r
                      WHERE r.archive_id = s.archive_id
                        AND r.scheduled_for IS NOT NULL
                        AND r.planned_at IS NULL
                        AND r.parked_at IS NULL)
)
SELECT 'geotag_unfinished_chunks' AS metric,
       jsonb_build_object('queue', queue, 'archive', archive, 'at',
                          CASE WHEN published THEN 'broker' ELSE 'ledger' END) AS labels,
       sum(chunks)::float8 AS value
FROM waiting
GROUP BY queue, archive, published
UNION ALL
SELECT 'geotag_oldest_pending_age_seconds', jsonb_build_object('queue', queue),
       extract(epoch FROM now() - min(created_at))
FROM waiting
WHERE may_go
GROUP BY queue
UNION ALL
SELECT 'geotag_oldest_published_age_seconds', jsonb_build_object('queue', queue),
       extract(epoch FROM now() - min(published_at))
FROM waiting
WHERE published
GROUP BY queue
UNION ALL
SELECT 'geotag_oldest_heartbeat_age_seconds', '{}',
       coalesce(extract(epoch FROM now() - min(heartbeat_at)), 0)
FROM waiting
WHERE may_go
UNION ALL
SELECT 'geotag_recent_failures', jsonb_build_object('state', state, 'code', code), count(*)
FROM geotag.outcome
WHERE code IS NOT NULL
  AND at > now() - interval '24 hours'
GROUP BY state, code
UNION ALL
SELECT 'geotag_failing_plans', '{}', count(*)
FROM geotag.run
WHERE planned_at IS NULL
  AND plan_error IS NOT NULL
UNION ALL
SELECT 'geotag_due_schedules', '{}', count(*)
FROM due
UNION ALL
SELECT 'geotag_oldest_due_schedule_age_seconds', '{}',
       coalesce(extract(epoch FROM now() - min(next_at)), 0)
FROM due
