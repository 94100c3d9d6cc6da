-- The last nights of an archive, newest first, with their objects by outcome under the night's release.
SELECT r.scheduled_for,
       r.id AS run_id,
       count(ro.object_version_id) AS planned,
       count(o.state) AS done,
       count(o.state) FILTER (WHERE o.state IN ('failed', 'quarantined')) AS failed
FROM (SELECT r.*
      FROM geotag.run r
      JOIN geotag.archive a ON a.id = r.archive_id
      WHERE a.name = :archive AND r.scheduled_for IS NOT NULL
      ORDER BY r.scheduled_for DESC
      LIMIT :most) r
LEFT JOIN geotag.run_object ro ON ro.run_id = r.id
LEFT JOIN geotag.outcome o
       ON o.object_version_id = ro.object_version_id AND o.release_id = r.release_id
GROUP BY r.scheduled_for, r.id
ORDER BY r.scheduled_for DESC
