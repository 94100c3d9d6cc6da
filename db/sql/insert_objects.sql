-- A known version that is listed again becomes current again (a picture put back);
-- one that is current already is not touched, so that a nightly listing writes only what is new.
INSERT INTO geotag.object_version AS v (archive_id, key, etag, size, last_modified)
SELECT archive_id, key, etag, size, last_modified
FROM pg_temp.listed
ON CONFLICT (archive_id, key, etag) DO UPDATE
SET superseded_at = NULL
WHERE v.superseded_at IS NOT NULL
