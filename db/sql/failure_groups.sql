-- Failures counted by code, and by archive or day too; each with its newest object and message.
SELECT DISTINCT ON (part, code)
       part,
       code,
       count(*) OVER (PARTITION BY part, code) AS objects,
       's3://' || bucket || '/' || key AS example,
       message,
       at
FROM (
    SELECT f.*,
           CASE :by WHEN 'archive' THEN archive WHEN 'day' THEN day::text ELSE '' END AS part
    FROM geotag.current_failure f
    WHERE (f.active OR :any_release)
      AND /* filter */ true
) found
ORDER BY part, code, at DESC
