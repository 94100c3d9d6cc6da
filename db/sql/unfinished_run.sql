-- The newest run of a source that is not planned to its end, or has unfinished chunks. Nights are left
-- out: they have a window and a limit of their own.
SELECT r.id, r.planned_at
FROM geotag.run r
WHERE (r.source, r.queue, r.release_id) = (:source, :queue, :release_id)
  AND r.archive_id IS NOT DISTINCT FROM CAST(:archive_id AS int)
  AND r.cancelled_at IS NULL
  AND r.scheduled_for IS NULL
  AND (r.planned_at IS NULL
       OR EXISTS (SELECT FROM geotag.chunk c WHERE c.run_id = r.id AND c.finished_at IS NULL))
ORDER BY r.id DESC
LIMIT 1
