-- For each listed object that the run has not seen before: the state of its outcome for the run's
-- release, and whether it is planned already: by this run, or in an unfinished chunk of another night
-- of the same archive and release.
WITH holder (run_id) AS MATERIALIZED (
    SELECT :run_id
    UNION ALL
    SELECT other.id
    FROM geotag.run night
    JOIN geotag.run other ON other.archive_id = night.archive_id
                         AND other.release_id = night.release_id
                         AND other.scheduled_for <> night.scheduled_for
    WHERE night.id = :run_id
      AND EXISTS (SELECT FROM geotag.chunk c
                  WHERE c.run_id = other.id AND c.finished_at IS NULL)
),
seen AS (
    INSERT INTO geotag.run_seen (run_id, object_version_id)
    SELECT :run_id, v.id
    FROM pg_temp.listed l
    CROSS JOIN LATERAL (
        SELECT o.id
        FROM geotag.object_version o
        WHERE o.archive_id = l.archive_id
          AND o.key = l.key
          AND o.etag = l.etag
        OFFSET 0
    ) v
    ON CONFLICT DO NOTHING
    RETURNING object_version_id
)
SELECT s.object_version_id,
       (SELECT o.state
        FROM geotag.outcome o
        WHERE o.object_version_id = s.object_version_id
          AND o.release_id = (SELECT release_id FROM geotag.run WHERE id = :run_id)) AS done,
       (SELECT true
        FROM holder h
        JOIN geotag.run_object ro
          ON ro.run_id = h.run_id AND ro.object_version_id = s.object_version_id
        JOIN geotag.chunk c ON c.id = ro.chunk_id
        WHERE h.run_id = :run_id OR c.finished_at IS NULL
        LIMIT 1) AS planned
FROM seen s
ORDER BY s.object_version_id
