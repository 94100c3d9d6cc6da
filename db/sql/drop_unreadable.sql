-- Drop listed rows that could not be looked at and whose keys have vanished: they stay vanished.
DELETE FROM pg_temp.listed l
USING geotag.object_version v
WHERE l.unreadable
  AND v.archive_id = l.archive_id
  AND v.key = l.key
  AND v.superseded_at IS NULL
  AND v.vanished_at IS NOT NULL
