-- Objects that were there before a complete listing began, and that it did not come across.
UPDATE geotag.object_version v
SET vanished_at = now()
WHERE v.archive_id = :archive_id
  AND v.superseded_at IS NULL
  AND v.vanished_at IS NULL
  AND v.current_since < :as_of
  AND starts_with(v.key, :prefix)
  AND NOT EXISTS (SELECT FROM geotag.run_seen s
                  WHERE s.run_id = :run_id AND s.object_version_id = v.id)
