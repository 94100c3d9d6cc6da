-- A known version that is listed again becomes current again (a picture put back);
-- one that is current already is not touched, so that a nightly listing writes only what is new.
-- The answer is how many keys were not known before in any version.
WITH put AS (
    INSERT INTO geotag.object_version AS v (archive_id, key, etag, size, last_modified)
    SELECT archive_id, key, etag, size, last_modified
    FROM pg_temp.listed
    ON CONFLICT (archive_id, key, etag) DO UPDATE
    SET superseded_at = NULL,
        vanished_at = NULL,
        current_since = now()
    WHERE v.superseded_at IS NOT NULL
       OR v.vanished_at IS NOT NULL
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
