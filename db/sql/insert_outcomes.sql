-- The first outcome stays. Its state is that of the stored geotag, which another worker may have
-- written.
INSERT INTO geotag.outcome (object_version_id, release_id, state, code, message, sha256, run_id)
SELECT s.object_version_id, :release_id, coalesce(g.state, s.state), s.code, s.message, g.sha256,
       :run_id
FROM pg_temp.staged_outcome s
LEFT JOIN geotag.geotag g
       ON s.code IS NULL AND g.sha256 = s.sha256 AND g.release_id = :release_id
ORDER BY s.object_version_id
ON CONFLICT (object_version_id, release_id) DO NOTHING
