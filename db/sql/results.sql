SELECT c.bucket,
       c.key,
       c.state,
       c.code,
       c.longitude,
       c.latitude,
       c.confidence,
       c.scene,
       c.release,
       c.sha256,
       c.at
FROM geotag.current_geotag c
WHERE (CAST(:release AS text) IS NULL OR c.release = :release)
  AND (CAST(:bucket AS text) IS NULL OR c.bucket = :bucket)
  AND starts_with(c.key, :prefix)
  AND (CAST(:state AS text) IS NULL OR c.state = :state)
  AND (CAST(:run_id AS bigint) IS NULL OR EXISTS (
        SELECT FROM geotag.run_object ro
        WHERE ro.run_id = :run_id AND ro.object_version_id = c.object_version_id))
ORDER BY c.bucket, c.key
