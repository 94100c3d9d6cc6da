-- Rows as in the view `current_geotag`; with a release, the answers of that release.
SELECT v.id AS object_version_id,
       o.message,
       v.etag,
       v.size,
       jsonb_build_object(
           'archive', a.name, 'bucket', a.bucket, 'key', v.key,
           'state', coalesce(o.state, 'pending'), 'code', coalesce(o.code, g.abstention),
           'longitude', ST_X(g.position::geometry), 'latitude', ST_Y(g.position::geometry),
           'confidence', g.confidence, 'scene', g.scene, 'release', o.release,
           'sha256', encode(v.sha256, 'hex'), 'at', o.at) AS result,
       (SELECT jsonb_strip_nulls(jsonb_build_object(
                   'bytes', k.bytes, 'format', k.format, 'width', k.width, 'height', k.height,
                   'captured_at', k.captured_at, 'camera_make', k.camera_make,
                   'camera_model', k.camera_model, 'exif_longitude', ST_X(k.exif_position::geometry),
                   'exif_latitude', ST_Y(k.exif_position::geometry),
                   'exif_altitude_m', k.exif_altitude_m))
        FROM geotag.content k
        WHERE k.sha256 = v.sha256) AS content,
       CASE WHEN g.sha256 IS NOT NULL AND o.state IN ('geotagged', 'abstained') THEN
           jsonb_build_object(
               'calibrated', g.calibrated,
               'cells', jsonb_build_array(
                   jsonb_build_object('partition', 'coarse', 'token', g.coarse_cell,
                                      'probability', g.coarse_probability),
                   jsonb_build_object('partition', 'middle', 'token', g.middle_cell,
                                      'probability', g.middle_probability),
                   jsonb_build_object('partition', 'fine', 'token', g.fine_cell,
                                      'probability', g.fine_probability)),
               'confidence', jsonb_build_object(
                   '1', g.confidence_1_km, '25', g.confidence_25_km, '200', g.confidence,
                   '750', g.confidence_750_km, '2500', g.confidence_2500_km),
               'scene', jsonb_build_object(
                   'indoor', g.scene_indoor, 'natural', g.scene_natural,
                   'urban', g.scene_urban),
               'release_digest', o.digest, 'code_version', g.code_version)
       END AS prediction
FROM geotag.object_version v
JOIN geotag.archive a ON a.id = v.archive_id
LEFT JOIN LATERAL (
    SELECT o.*, r.name AS release, r.digest
    FROM geotag.outcome o
    JOIN geotag.release r ON r.id = o.release_id
    WHERE o.object_version_id = v.id
      AND (CAST(:release AS text) IS NULL OR r.name = :release)
    ORDER BY r.active DESC, r.registered_at DESC
    LIMIT 1
) o ON true
LEFT JOIN geotag.geotag g ON g.sha256 = o.sha256 AND g.release_id = o.release_id
WHERE v.superseded_at IS NULL
  AND v.vanished_at IS NULL
  AND v.key = :key
  AND (CAST(:bucket AS text) IS NULL OR a.bucket = :bucket)
ORDER BY a.name
