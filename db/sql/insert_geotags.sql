-- Geotags are append-only: the first prediction of a release for a content stays. Idempotent.
INSERT INTO geotag.geotag (
    sha256, release_id, calibrated, state, abstention, position,
    confidence, confidence_1_km, confidence_25_km, confidence_750_km, confidence_2500_km,
    coarse_cell, middle_cell, fine_cell,
    coarse_probability, middle_probability, fine_probability,
    candidate_cells, candidate_probabilities,
    region_50_cells, region_80_cells, region_95_cells,
    region_50_probabilities, region_80_probabilities, region_95_probabilities,
    scene, scene_indoor, scene_natural, scene_urban,
    run_id, code_version
)
SELECT s.sha256, r.id, r.calibrated, s.state, s.abstention,
       CASE WHEN s.state = 'geotagged'
            THEN ST_SetSRID(ST_MakePoint(s.longitude, s.latitude), 4326)::geography END,
       s.confidence, s.confidence_1_km, s.confidence_25_km,
       s.confidence_750_km, s.confidence_2500_km,
       s.coarse_cell, s.middle_cell, s.fine_cell,
       s.coarse_probability, s.middle_probability, s.fine_probability,
       s.candidate_cells, s.candidate_probabilities,
       s.region_50_cells, s.region_80_cells, s.region_95_cells,
       s.region_50_probabilities, s.region_80_probabilities, s.region_95_probabilities,
       s.scene, s.scene_indoor, s.scene_natural, s.scene_urban,
       :run_id, s.code_version
FROM pg_temp.staged_geotag s
JOIN geotag.release r ON r.digest = s.release_digest
ORDER BY s.sha256
ON CONFLICT (sha256, release_id) DO NOTHING
