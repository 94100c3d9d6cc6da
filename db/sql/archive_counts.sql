SELECT count(*) FILTER (WHERE v.vanished_at IS NULL) AS objects,
       count(*) FILTER (WHERE v.vanished_at IS NULL AND o.state IS NULL) AS pending,
       count(*) FILTER (WHERE v.vanished_at IS NULL AND o.code IS NOT NULL) AS failed,
       count(*) FILTER (WHERE v.vanished_at IS NOT NULL) AS vanished,
       (SELECT max(r.planned_at) FROM geotag.run r WHERE r.archive_id = :archive_id)
           AS last_listed_at
FROM geotag.object_version v
LEFT JOIN geotag.outcome o
       ON o.object_version_id = v.id
      AND o.release_id = (SELECT id FROM geotag.release WHERE active)
WHERE v.archive_id = :archive_id
  AND v.superseded_at IS NULL
