-- A known version that is listed again becomes current again (a picture put back). One that is
-- current already is not even locked, so that a nightly listing writes only what is new; whoever
-- changes that holds the archive's lock, as we do. One that was written anew meanwhile is current
-- since now: a listing that began before, and missed it, must not take it for gone. By the clock,
-- since the transaction may have waited for the lock. The subquery with OFFSET: see
-- supersede_objects. The answer is how many keys were not known before in any version.
WITH news AS (
    SELECT l.archive_id, l.key, l.etag, l.size, l.last_modified
    FROM pg_temp.listed l
    WHERE NOT EXISTS (SELECT FROM geotag.object_version v
                      WHERE v.archive_id = l.archive_id
                        AND v.key = l.key
                        AND v.etag = l.etag
                        AND v.superseded_at IS NULL
                        AND v.vanished_at IS NULL
                        AND (l.last_modified IS NULL OR l.last_modified <= v.last_modified)
                      OFFSET 0)
),
put AS (
    INSERT INTO geotag.object_version AS v
           (archive_id, key, etag, size, last_modified, current_since)
    SELECT archive_id, key, etag, size, last_modified, clock_timestamp()
    FROM news
    ON CONFLICT (archive_id, key, etag) DO UPDATE
    SET superseded_at = NULL,
        vanished_at = NULL,
        last_modified = coalesce(excluded.last_modified, v.last_modified),
        current_since = excluded.current_since
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
