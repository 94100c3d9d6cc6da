-- Record the content of object versions. Locked in order, so that two workers cannot deadlock. A
-- planner that changes the same versions can: then one of the two tries again.
WITH named AS MATERIALIZED (
    SELECT v.id, s.sha256, s.version_id
    FROM pg_temp.staged_outcome s
    JOIN geotag.object_version v ON v.id = s.object_version_id
    WHERE s.sha256 IS NOT NULL
      AND v.sha256 IS DISTINCT FROM s.sha256
    ORDER BY v.id
    FOR NO KEY UPDATE OF v
)
UPDATE geotag.object_version v
SET sha256 = named.sha256,
    version_id = named.version_id
FROM named
WHERE v.id = named.id
