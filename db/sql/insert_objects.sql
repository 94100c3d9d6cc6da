-- A known version that is listed again becomes current again (a picture put back). One that is
-- current already is not even locked, so that a nightly listing writes only what is new; whoever
-- changes that holds the archive's lock, as we do. The subquery with OFFSET: see supersede_objects.
-- The answer is how many keys were not known before in any version.
WITH news AS (
    SELECT l.archive_id, l.key, l.etag, l.size, l.last_modified
    FROM pg_temp.listed l
    WHERE NOT EXISTS (SELECT FROM geotag.object_version v
                      WHERE v.archive_id = l.archive_id
                        AND v.key = l.key
                        AND v.etag = l.etag
                        AND v.superseded_at IS NULL
                        AND v.vanished_at IS NULL
                      OFFSET 0)
),
put AS (
    INSERT INTO geotag.object_version (archive_id, key, etag, size, last_modified)
    SELECT archive_id, key, etag, size, last_modified
    FROM news
    ON CONFLICT (archive_id, key, etag) DO UPDATE
    SET superseded_at = NULL,
        vanished_at = NULL,
        current_since = now()
    RETURNING archive_id, key
)
SELECT count(*) FILTER (WHERE before.known IS NULL) AS appeared
FROM put
LEFT JOIN LATERAL (
    SELECT true AS known
    FROM geotag.object_version v
    WHERE v.archive_id = put.archive_id
      AND v.key = put.key
    LIMIT 1
) before ON true
