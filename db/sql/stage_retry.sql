-- The failures that a retry takes: of the active release, in archives that are registered. An object of
-- an unfinished chunk is busy.
CREATE TEMP TABLE retried ON COMMIT DROP AS
SELECT f.object_version_id,
       f.release_id,
       f.code,
       -- Alone in its chunk, so that another crash concerns no other object.
       f.state = 'quarantined' AS alone,
       EXISTS (SELECT
               FROM geotag.run_object ro
               JOIN geotag.chunk c ON c.id = ro.chunk_id AND c.finished_at IS NULL
               JOIN geotag.run r ON r.id = ro.run_id
               WHERE ro.object_version_id = f.object_version_id
                 AND r.release_id = f.release_id) AS busy
FROM (SELECT *
      FROM geotag.current_failure
      WHERE active
        AND /* filter */ true) f
JOIN geotag.archive a ON a.name = f.archive AND a.removed_at IS NULL
