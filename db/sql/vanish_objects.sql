-- Objects that were there before a complete listing began, and that it lacks, have vanished: unless
-- they are more than :least of them and more than :share of what is there of the archive, which is
-- more likely a fault of the listing. Returns how many are missing, how many are there, and how many
-- were marked.
WITH missing AS MATERIALIZED (
    SELECT v.id
    FROM geotag.object_version v
    WHERE v.archive_id = :archive_id
      AND v.superseded_at IS NULL
      AND v.vanished_at IS NULL
      AND v.current_since < :as_of
      AND starts_with(v.key, :prefix)
      AND NOT EXISTS (SELECT FROM geotag.run_seen s
                      WHERE s.run_id = :run_id AND s.object_version_id = v.id)
),
there AS MATERIALIZED (
    SELECT count(*) AS objects
    FROM geotag.object_version v
    WHERE v.archive_id = :archive_id
      AND v.superseded_at IS NULL
      AND v.vanished_at IS NULL
),
marked AS (
    UPDATE geotag.object_version v
    SET vanished_at = now()
    FROM missing
    WHERE v.id = missing.id
      AND (SELECT count(*) FROM missing)
          <= greatest(:least, CAST(:share AS float8) * (SELECT objects FROM there))
    RETURNING v.id
)
SELECT (SELECT count(*) FROM missing) AS missing,
       (SELECT objects FROM there) AS there,
       (SELECT count(*) FROM marked) AS vanished
