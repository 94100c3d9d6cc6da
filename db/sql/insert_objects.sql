-- Insert the listed versions that are not current yet, or make them current again (a picture put
-- back). Current versions are not touched, so a nightly listing writes only what is new; the archive's
-- lock keeps them current. A version that was written anew is current since now, so that an older
-- listing does not mark it as vanished: by the clock, because the transaction may have waited for the
-- lock. Returns how many keys were not known in any version. The subquery with OFFSET: see
-- supersede_objects.
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
