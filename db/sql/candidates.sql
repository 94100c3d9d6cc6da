SELECT listed.token, listed.probability, ST_X(p.position::geometry) AS longitude,
       ST_Y(p.position::geometry) AS latitude
FROM geotag.object_version v
JOIN geotag.release r ON r.name = :release
JOIN geotag.outcome o ON o.object_version_id = v.id AND o.release_id = r.id
JOIN geotag.geotag g ON g.sha256 = o.sha256 AND g.release_id = r.id
CROSS JOIN LATERAL unnest(g.candidate_cells, g.candidate_probabilities)
    WITH ORDINALITY AS listed (token, probability, rank)
JOIN geotag.partition_cell p ON p.partition_id = r.fine_partition_id AND p.token = listed.token
WHERE v.id = :id
ORDER BY listed.rank
