-- What people look at. psql, QGIS and ogr2ogr read these views as they are.

-- One row for every current object: its newest outcome, the active release's first.
CREATE VIEW geotag.current_geotag AS
SELECT v.id AS object_version_id,
       a.bucket,
       v.key,
       coalesce(o.state, 'pending') AS state,
       coalesce(o.code, g.abstention) AS code,
       o.message,
       ST_X(g.position::geometry) AS longitude,
       ST_Y(g.position::geometry) AS latitude,
       g.confidence,
       g.scene,
       r.name AS release,
       encode(v.sha256, 'hex') AS sha256,
       o.at,
       g.position::geometry(Point, 4326) AS position
FROM geotag.object_version v
JOIN geotag.archive a ON a.id = v.archive_id
LEFT JOIN LATERAL (
    SELECT o.*
    FROM geotag.outcome o
    JOIN geotag.release r ON r.id = o.release_id
    WHERE o.object_version_id = v.id
    ORDER BY r.active DESC, r.registered_at DESC
    LIMIT 1
) o ON true
LEFT JOIN geotag.release r ON r.id = o.release_id
LEFT JOIN geotag.geotag g ON g.sha256 = o.sha256 AND g.release_id = o.release_id
WHERE v.superseded_at IS NULL;

-- The cells that a prediction names, most probable first, each as a polygon.
CREATE VIEW geotag.candidate_cell AS
SELECT c.object_version_id,
       c.bucket,
       c.key,
       r.name AS release,
       listed.rank,
       listed.token,
       listed.probability,
       s.polygon::geometry(MultiPolygon, 4326) AS polygon
FROM geotag.current_geotag c
JOIN geotag.release r ON r.name = c.release
JOIN geotag.outcome o ON o.object_version_id = c.object_version_id AND o.release_id = r.id
JOIN geotag.geotag g ON g.sha256 = o.sha256 AND g.release_id = r.id
CROSS JOIN LATERAL unnest(g.candidate_cells, g.candidate_probabilities)
    WITH ORDINALITY AS listed (token, probability, rank)
JOIN geotag.s2_cell s ON s.token = listed.token;

-- Credible regions at 50, 80 and 95 %: one multipolygon each.
CREATE VIEW geotag.candidate_region AS
SELECT c.object_version_id,
       c.bucket,
       c.key,
       r.name AS release,
       region.level,
       region.probability,
       region.cells,
       region.area_km2,
       region.polygon
FROM geotag.current_geotag c
JOIN geotag.release r ON r.name = c.release
JOIN geotag.outcome o ON o.object_version_id = c.object_version_id AND o.release_id = r.id
JOIN geotag.geotag g ON g.sha256 = o.sha256 AND g.release_id = r.id
CROSS JOIN LATERAL (
    SELECT stated.level,
           sum(cell.probability) AS probability,
           count(*) AS cells,
           sum(ST_Area(s.polygon, false)) / 1e6 AS area_km2,
           ST_Multi(ST_Union(s.polygon::geometry))::geometry(MultiPolygon, 4326) AS polygon
    FROM (VALUES (50, g.region_50_cells, g.region_50_probabilities),
                 (80, g.region_80_cells, g.region_80_probabilities),
                 (95, g.region_95_cells, g.region_95_probabilities)
         ) AS stated (level, tokens, probabilities)
    CROSS JOIN LATERAL unnest(stated.tokens, stated.probabilities) AS cell (token, probability)
    JOIN geotag.s2_cell s ON s.token = cell.token
    GROUP BY stated.level
) region;

-- A prediction is never rewritten: a newer release adds a row of its own.
CREATE FUNCTION geotag.refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'geotag.% is append-only: register another release instead', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER geotag_is_append_only BEFORE UPDATE ON geotag.geotag
    FOR EACH ROW EXECUTE FUNCTION geotag.refuse_update();
