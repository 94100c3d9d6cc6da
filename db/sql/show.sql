SELECT c.object_version_id,
       c.message,
       v.etag,
       v.size,
       jsonb_build_object(
           'archive', c.archive, 'bucket', c.bucket, 'key', c.key, 'state', c.state, 'code', c.code,
           'longitude', c.longitude, 'latitude', c.latitude, 'confidence', c.confidence,
           'scene', c.scene, 'release', c.release, 'sha256', c.sha256, 'at', c.at) AS result,
       (SELECT jsonb_strip_nulls(jsonb_build_object(
                   'bytes', k.bytes, 'format', k.format, 'width', k.width, 'height', k.height,
                   'captured_at', k.captured_at, 'camera_make', k.camera_make,
                   'camera_model', k.camera_model, 'exif_longitude', ST_X(k.exif_position::geometry),
                   'exif_latitude', ST_Y(k.exif_position::geometry),
                   'exif_altitude_m', k.exif_altitude_m))
        FROM geotag.content k
        WHERE k.sha256 = v.sha256) AS content,
       (SELECT jsonb_build_object(
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
                   'release_digest', r.digest, 'code_version', g.code_version)
        FROM geotag.geotag g
        JOIN geotag.release r ON r.id = g.release_id
        WHERE g.sha256 = v.sha256 AND r.name = c.release
          AND c.state IN ('geotagged', 'abstained')) AS prediction
FROM geotag.current_geotag c
JOIN geotag.object_version v ON v.id = c.object_version_id
WHERE c.key = :key
  AND (CAST(:bucket AS text) IS NULL OR c.bucket = :bucket)
ORDER BY c.archive
