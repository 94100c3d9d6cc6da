-- Whether the planning of a run must end.
SELECT r.cancelled_at IS NOT NULL
       OR a.paused_at IS NOT NULL
       OR a.removed_at IS NOT NULL AS stopped
FROM geotag.run r
LEFT JOIN geotag.archive a ON a.id = r.archive_id
WHERE r.id = :run_id
