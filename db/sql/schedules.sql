-- Every schedule, or that of one archive.
SELECT a.name AS archive, s.cron, s.timezone, s.opens, s.closes, s.most, l.name AS release,
       s.next_at, s.paused_at, s.error,
       last.id AS last_run_id, last.scheduled_for AS last_night
FROM geotag.schedule s
JOIN geotag.archive a ON a.id = s.archive_id
LEFT JOIN geotag.release l ON l.id = s.release_id
LEFT JOIN LATERAL (
    SELECT r.id, r.scheduled_for
    FROM geotag.run r
    WHERE r.archive_id = s.archive_id AND r.scheduled_for IS NOT NULL
    ORDER BY r.scheduled_for DESC
    LIMIT 1
) last ON true
WHERE CAST(:archive AS text) IS NULL OR a.name = :archive
ORDER BY a.name
