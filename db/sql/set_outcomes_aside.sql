-- Moves the outcomes of a retry's objects to the history, so that the objects are pending.
WITH gone AS (
    DELETE FROM geotag.outcome o
    USING pg_temp.retried t
    WHERE o.object_version_id = t.object_version_id
      AND o.release_id = t.release_id
      AND NOT t.busy
    RETURNING o.*
)
INSERT INTO geotag.retried_outcome (
    object_version_id, release_id, state, code, message, run_id, at, retry_run_id
)
SELECT object_version_id, release_id, state, code, message, run_id, at, :run_id
FROM gone
ORDER BY object_version_id
