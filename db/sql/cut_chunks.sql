-- Chunks of at most :size objects, each of one archive, so that an archive can be paused, and read
-- with its own credential. An object of an earlier chunk of the run moves to the new one.
WITH part AS (
    SELECT v.id,
           v.archive_id,
           (row_number() OVER (PARTITION BY v.archive_id ORDER BY v.id) - 1) / :size AS number
    FROM unnest(CAST(:ids AS bigint[])) AS given (id)
    CROSS JOIN LATERAL (
        SELECT o.id, o.archive_id
        FROM geotag.object_version o
        WHERE o.id = given.id
        OFFSET 0
    ) v
),
numbered AS MATERIALIZED (
    SELECT archive_id,
           number,
           nextval(pg_get_serial_sequence('geotag.chunk', 'id')) AS chunk_id
    FROM (SELECT DISTINCT archive_id, number FROM part ORDER BY archive_id, number) ordered
),
made AS (
    INSERT INTO geotag.chunk (id, run_id, archive_id)
    OVERRIDING SYSTEM VALUE
    SELECT chunk_id, :run_id, archive_id
    FROM numbered
),
put AS (
    INSERT INTO geotag.run_object (run_id, object_version_id, chunk_id)
    SELECT :run_id, p.id, n.chunk_id
    FROM part p
    JOIN numbered n USING (archive_id, number)
    ON CONFLICT (run_id, object_version_id) DO UPDATE
    SET chunk_id = excluded.chunk_id
)
SELECT n.chunk_id,
       array_agg(p.id ORDER BY p.id) AS object_ids
FROM part p
JOIN numbered n USING (archive_id, number)
GROUP BY n.chunk_id
ORDER BY n.chunk_id
