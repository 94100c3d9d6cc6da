-- Every registered release, with the number of its unfinished runs and whether a schedule names it. Both
-- need the release to be served.
SELECT r.name,
       r.digest,
       r.calibrated,
       r.active,
       r.registered_at,
       (SELECT count(*)
        FROM geotag.run u
        WHERE u.release_id = r.id
          AND (u.planned_at IS NULL
               OR EXISTS (SELECT FROM geotag.chunk c
                          WHERE c.run_id = u.id AND c.finished_at IS NULL))) AS runs,
       EXISTS (SELECT FROM geotag.schedule s WHERE s.release_id = r.id) AS scheduled
FROM geotag.release r
ORDER BY r.id
