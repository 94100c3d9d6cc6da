-- The objects of a chunk without an outcome, each with the number of workers that died with it.
SELECT v.id AS object_version_id,
       v.archive_id,
       a.bucket,
       v.key,
       v.etag,
       v.size,
       v.last_modified,
       (SELECT count(*)
        FROM geotag.attempt t
        WHERE t.object_version_id = v.id
          AND t.release_id = r.release_id
          AND t.code = 'worker_killed'
          -- A retry resets the count.
          AND t.started_at > coalesce(
              (SELECT max(h.retried_at)
               FROM geotag.retried_outcome h
               WHERE h.object_version_id = v.id AND h.release_id = r.release_id),
              '-infinity')) AS kills
FROM geotag.run_object ro
JOIN geotag.run r ON r.id = ro.run_id
JOIN geotag.object_version v ON v.id = ro.object_version_id
JOIN geotag.archive a ON a.id = v.archive_id
WHERE ro.chunk_id = :chunk_id
  AND NOT EXISTS (SELECT FROM geotag.outcome o
                  WHERE o.object_version_id = v.id AND o.release_id = r.release_id)
ORDER BY v.id
