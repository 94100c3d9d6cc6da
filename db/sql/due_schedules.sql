-- The schedules that are due, locked: a concurrent tick skips them. An archive whose last night is
-- still being planned is not due. Its missed nights are merged into one.
SELECT s.archive_id, s.cron, s.timezone, s.next_at
FROM geotag.schedule s
JOIN geotag.archive a ON a.id = s.archive_id
WHERE s.next_at <= :now
  AND s.paused_at IS NULL
  AND a.paused_at IS NULL
  AND a.removed_at IS NULL
  AND EXISTS (SELECT FROM geotag.release l
              WHERE l.id = s.release_id OR (s.release_id IS NULL AND l.active))
  AND NOT EXISTS (SELECT FROM geotag.run r
                  WHERE r.archive_id = s.archive_id
                    AND r.scheduled_for IS NOT NULL
                    AND r.cancelled_at IS NULL
                    AND r.planned_at IS NULL
                    AND r.parked_at IS NULL)
ORDER BY s.next_at, s.archive_id
FOR UPDATE OF s SKIP LOCKED
