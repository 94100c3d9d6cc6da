-- Insert contents, or add the facts read from the bytes to a content that has none yet.
-- Sorted, so that two workers that write the same contents cannot deadlock.
INSERT INTO geotag.content AS content (
    sha256, bytes, format, width, height, captured_at, camera_make, camera_model,
    exif_position, exif_altitude_m
)
SELECT DISTINCT ON (sha256)
       sha256, bytes, format, width, height, captured_at, camera_make, camera_model,
       CASE WHEN exif_longitude IS NOT NULL
            THEN ST_SetSRID(ST_MakePoint(exif_longitude, exif_latitude), 4326)::geography END,
       exif_altitude_m
FROM pg_temp.staged_content
ORDER BY sha256, format NULLS LAST
ON CONFLICT (sha256) DO UPDATE
SET format = excluded.format,
    width = excluded.width,
    height = excluded.height,
    captured_at = excluded.captured_at,
    camera_make = excluded.camera_make,
    camera_model = excluded.camera_model,
    exif_position = excluded.exif_position,
    exif_altitude_m = excluded.exif_altitude_m
WHERE content.format IS NULL
  AND excluded.format IS NOT NULL
