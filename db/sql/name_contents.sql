-- Which bytes an object version turned out to be.
UPDATE geotag.object_version v
SET sha256 = s.sha256,
    version_id = s.version_id
FROM pg_temp.staged_outcome s
WHERE v.id = s.object_version_id
  AND s.sha256 IS NOT NULL
  AND v.sha256 IS DISTINCT FROM s.sha256
