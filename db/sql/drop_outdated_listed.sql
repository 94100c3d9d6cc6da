-- Drop the rows of an older listing (an inventory) whose keys have changed or vanished since then.
DELETE FROM pg_temp.listed l
USING geotag.object_version v
WHERE v.archive_id = l.archive_id
  AND v.key = l.key
  AND v.superseded_at IS NULL
  AND (v.etag <> l.etag AND v.current_since >= :as_of OR v.vanished_at >= :as_of)
