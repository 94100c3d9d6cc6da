SELECT archive, bucket, key, state, code, message, run_id, release, at, retries
FROM geotag.current_failure f
WHERE (f.active OR :any_release)
  AND /* filter */ true
ORDER BY archive, key
