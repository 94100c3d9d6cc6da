-- A planner may be about to publish one of these itself: the second message of the same delivery
-- finds the chunk held or finished, and does nothing.
SELECT c.id, c.delivery, min(ro.object_version_id) AS object_version_id
FROM geotag.chunk split
JOIN geotag.chunk c ON c.run_id = split.run_id AND c.published_at IS NULL AND c.finished_at IS NULL
JOIN geotag.run_object ro ON ro.chunk_id = c.id
WHERE split.id = :chunk_id
  AND c.id <> :chunk_id
GROUP BY c.id, c.delivery
HAVING count(*) = 1
ORDER BY c.id
