-- Of the listed objects that this run has not seen before: which have an outcome for its release,
-- and which it holds already.
WITH found AS (
    SELECT v.id
    FROM pg_temp.listed l
    JOIN geotag.object_version v USING (archive_id, key, etag)
),
seen AS (
    INSERT INTO geotag.run_seen (run_id, object_version_id)
    SELECT :run_id, id
    FROM found
    ON CONFLICT DO NOTHING
    RETURNING object_version_id
)
SELECT s.object_version_id,
       o.state AS done,
       EXISTS (SELECT FROM geotag.run_object ro
               WHERE ro.run_id = :run_id AND ro.object_version_id = s.object_version_id) AS planned
FROM seen s
LEFT JOIN geotag.outcome o
       ON o.object_version_id = s.object_version_id
      AND o.release_id = (SELECT release_id FROM geotag.run WHERE id = :run_id)
ORDER BY s.object_version_id
