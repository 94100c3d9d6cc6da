-- Replace listed rows that could not be looked at by the current versions of their keys. The subquery
-- with OFFSET: see supersede_objects.
UPDATE pg_temp.listed l
SET etag = v.etag,
    size = v.size,
    last_modified = v.last_modified
FROM pg_temp.listed u
CROSS JOIN LATERAL (
    SELECT o.etag, o.size, o.last_modified
    FROM geotag.object_version o
    WHERE o.archive_id = u.archive_id
      AND o.key = u.key
      AND o.superseded_at IS NULL
      AND o.vanished_at IS NULL
    OFFSET 0
) v
WHERE u.unreadable
  AND l.archive_id = u.archive_id
  AND l.key = u.key
