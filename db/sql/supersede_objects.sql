-- A key that is listed with another ETag has a new version; the old one stays as history.
UPDATE geotag.object_version v
SET superseded_at = now()
FROM pg_temp.listed l
WHERE v.archive_id = l.archive_id
  AND v.key = l.key
  AND v.etag <> l.etag
  AND v.superseded_at IS NULL
