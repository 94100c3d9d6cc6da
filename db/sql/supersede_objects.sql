-- Mark the current versions of keys that are listed with another ETag as superseded.
-- OFFSET 0 makes PostgreSQL look up each key by the index. With a plain join it reads the whole archive
-- for every page, because there are no statistics yet of what a first listing has just written.
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
