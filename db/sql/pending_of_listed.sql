-- Of the listed objects: which have an outcome for this release, and which this run holds already.
SELECT v.id AS object_version_id,
       o.state AS done,
       EXISTS (SELECT FROM geotag.run_object ro
               WHERE ro.run_id = :run_id AND ro.object_version_id = v.id) AS planned
FROM pg_temp.listed l
JOIN geotag.object_version v USING (archive_id, key, etag)
LEFT JOIN geotag.outcome o ON o.object_version_id = v.id AND o.release_id = :release_id
ORDER BY v.id
