-- Keys of the run's archive that were listed and are not its photographs (any more, or by its globs):
-- known objects among them (a manifest named them, or other globs did) are there, and not vanished.
INSERT INTO geotag.run_seen (run_id, object_version_id)
SELECT r.id, v.id
FROM geotag.run r
CROSS JOIN pg_temp.left_out l
CROSS JOIN LATERAL (
    SELECT o.id
    FROM geotag.object_version o
    WHERE o.archive_id = r.archive_id
      AND o.key = l.key
      AND o.superseded_at IS NULL
    OFFSET 0
) v
WHERE r.id = :run_id
ON CONFLICT DO NOTHING
