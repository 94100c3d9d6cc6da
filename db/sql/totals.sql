SELECT state, count(*) AS objects
FROM geotag.current_geotag
GROUP BY state
