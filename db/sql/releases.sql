-- Every registered release, with its unfinished runs: those need it to be served.
SELECT r.name,
       r.digest,
       r.calibrated,
       r.active,
       r.registered_at,
       count(u.id) AS runs
FROM geotag.release r
LEFT JOIN geotag.run u
       ON u.release_id = r.id
      AND (u.planned_at IS NULL
           OR EXISTS (SELECT FROM geotag.chunk c WHERE c.run_id = u.id AND c.finished_at IS NULL))
GROUP BY r.id
ORDER BY r.id
