-- Chunks at the broker that may not be there: their run is paused, cancelled or outside its window, or
-- their archive is paused or removed.
SELECT c.id
FROM geotag.chunk c
JOIN geotag.run r ON r.id = c.run_id
JOIN geotag.archive a ON a.id = c.archive_id
WHERE c.published_at IS NOT NULL
  AND c.finished_at IS NULL
  AND NOT geotag.is_open(r, a, :now)
ORDER BY c.id
LIMIT :most
