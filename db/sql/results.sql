-- Rows as in the view `current_geotag`; with a release, the rows of that release, pending ones too.
-- A run's rows are those of its own release, unless another one is named.
SELECT a.name AS archive,
       a.bucket,
       v.key,
       coalesce(o.state, 'pending') AS state,
       coalesce(o.code, g.abstention) AS code,
       ST_X(g.position::geometry) AS longitude,
       ST_Y(g.position::geometry) AS latitude,
       g.confidence,
       g.scene,
       o.release,
       encode(v.sha256, 'hex') AS sha256,
       o.at
FROM geotag.object_version v
JOIN geotag.archive a ON a.id = v.archive_id
LEFT JOIN LATERAL (
    SELECT o.*, r.name AS release
    FROM geotag.outcome o
    JOIN geotag.release r ON r.id = o.release_id
    WHERE o.object_version_id = v.id
      AND (CAST(:release AS text) IS NULL OR r.name = :release)
      AND (CAST(:run_id AS bigint) IS NULL OR CAST(:release AS text) IS NOT NULL
           OR o.release_id = (SELECT n.release_id FROM geotag.run n WHERE n.id = :run_id))
    ORDER BY r.active DESC, r.registered_at DESC
    LIMIT 1
) o ON true
LEFT JOIN geotag.geotag g ON g.sha256 = o.sha256 AND g.release_id = o.release_id
WHERE v.superseded_at IS NULL
  AND v.vanished_at IS NULL
  AND (CAST(:archive AS text) IS NULL OR a.name = :archive)
  AND (CAST(:bucket AS text) IS NULL OR a.bucket = :bucket)
  AND starts_with(v.key, :prefix)
  AND (CAST(:state AS text) IS NULL OR coalesce(o.state, 'pending') = :state)
  AND (CAST(:run_id AS bigint) IS NULL OR EXISTS (
        SELECT FROM geotag.run_object ro
        WHERE ro.run_id = :run_id AND ro.object_version_id = v.id))
ORDER BY a.name, v.key
