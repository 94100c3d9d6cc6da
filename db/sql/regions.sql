SELECT level, probability, cells, area_km2, 
       -- RFC 7946, section 3.1.6: exterior rings run counter-clockwise.
       ST_AsGeoJSON(ST_ForcePolygonCCW(polygon))::jsonb AS geometry
FROM geotag.candidate_region
WHERE object_version_id = :id AND release = :release
ORDER BY level
