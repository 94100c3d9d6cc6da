SELECT level, probability, cells, area_km2, ST_AsGeoJSON(polygon)::jsonb AS geometry
FROM geotag.candidate_region
WHERE object_version_id = :id AND release = :release
ORDER BY level
