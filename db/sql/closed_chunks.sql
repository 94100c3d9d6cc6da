-- Chunks at the broker that should not be there any more: their run or archive is paused, or
-- cancelled, or outside its window.
SELECT c.id
FROM geotag.chunk c
JOIN geotag.run r ON r.id = c.run_id
JOIN geotag.archive a ON a.id = c.archive_id
WHERE c.published_at IS NOT NULL
  AND c.finished_at IS NULL
  AND NOT geotag.is_open(r, a, :now)
ORDER BY c.id
LIMIT :most
