INSERT INTO geotag.archive
    (name, endpoint, bucket, prefix, region, credentials, include, exclude, allow_private)
VALUES
    (:name, :endpoint, :bucket, :prefix, :region, :credentials, :include, :exclude, :allow_private)
ON CONFLICT (endpoint, bucket, prefix) DO UPDATE
SET region = excluded.region,
    credentials = excluded.credentials,
    include = excluded.include,
    exclude = excluded.exclude,
    allow_private = excluded.allow_private,
    registered_at = now(),
    removed_at = NULL
RETURNING *
