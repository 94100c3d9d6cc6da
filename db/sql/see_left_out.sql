-- Keys that were listed and skipped. The objects among them that the ledger knows (from a manifest, or
-- from older globs) exist, so they are recorded as seen and do not vanish.
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
