-- Mark the objects that a complete listing lacks, and that were there before it began, as vanished.
-- Marks none if they are more than :least and more than :share of the archive's current objects, since
-- the listing is then more likely wrong. Returns how many are missing, how many were current, and how
-- many were marked.
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
