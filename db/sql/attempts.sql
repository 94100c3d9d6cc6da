SELECT t.started_at, t.finished_at, t.code, t.worker
FROM geotag.attempt t
JOIN geotag.release r ON r.id = t.release_id
WHERE t.object_version_id = :id AND (CAST(:release AS text) IS NULL OR r.name = :release)
ORDER BY t.id
