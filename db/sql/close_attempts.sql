UPDATE geotag.attempt t
SET finished_at = now(),
    code = s.code
FROM pg_temp.staged_attempt s
WHERE t.chunk_id = :chunk_id
  AND t.object_version_id = s.object_version_id
  AND t.finished_at IS NULL
