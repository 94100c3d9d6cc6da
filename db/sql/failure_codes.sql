SELECT o.code, count(*) AS objects
FROM geotag.run_object ro
JOIN geotag.run r ON r.id = ro.run_id
JOIN geotag.outcome o
  ON o.object_version_id = ro.object_version_id AND o.release_id = r.release_id
WHERE ro.run_id = :run_id
  AND o.code IS NOT NULL
GROUP BY o.code
ORDER BY objects DESC, o.code
