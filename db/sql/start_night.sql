-- The run of one night. (archive_id, scheduled_for) is unique, so that a second insert makes none.
-- The limit is that of the schedule, less the unfinished objects of earlier nights.
INSERT INTO geotag.run (source, queue, release_id, archive_id, scheduled_for,
                        most, opens, closes, timezone)
SELECT 's3://' || a.bucket || '/' || a.prefix,
       'backfill',
       l.id,
       a.id,
       :night,
       CASE
           WHEN s.most IS NOT NULL THEN greatest(0, s.most - (
               SELECT count(*)
               FROM geotag.run r
               JOIN geotag.chunk c ON c.run_id = r.id AND c.finished_at IS NULL
               JOIN geotag.run_object ro ON ro.chunk_id = c.id
               WHERE r.archive_id = a.id AND r.scheduled_for IS NOT NULL))
       END,
       s.opens,
       s.closes,
       s.timezone
FROM geotag.schedule s
JOIN geotag.archive a ON a.id = s.archive_id
JOIN geotag.release l ON l.id = s.release_id OR (s.release_id IS NULL AND l.active)
WHERE s.archive_id = :archive_id
ON CONFLICT (archive_id, scheduled_for) DO NOTHING
RETURNING id
