-- A key that is listed with another ETag has a new version; the old one stays as history.
-- The subquery with OFFSET looks each key up by itself. As a plain join PostgreSQL reads all of the
-- archive for every page, because it knows nothing yet of what a first listing has just written.
UPDATE geotag.object_version
SET superseded_at = now()
WHERE id = ANY (ARRAY(
    SELECT v.id
    FROM pg_temp.listed l
    CROSS JOIN LATERAL (
        SELECT o.id, o.etag
        FROM geotag.object_version o
        WHERE o.archive_id = l.archive_id
          AND o.key = l.key
          AND o.superseded_at IS NULL
        OFFSET 0
    ) v
    WHERE v.etag <> l.etag))
