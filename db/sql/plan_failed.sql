-- Ends a try that failed. Tries that an unavailable service ended are counted apart. Updates no row if
-- the try is not the run's last: its planner was taken for dead.
UPDATE geotag.run
SET plan_began_at = NULL,
    plan_error = :reason,
    plan_faults = plan_faults - CAST(CAST(:unavailable AS boolean) AS int),
    plan_after = :now + least(interval '15 minutes',
                              interval '1 minute' * power(2, least(plan_tries - 1, 10))),
    parked_at = CASE
                    WHEN plan_faults - CAST(CAST(:unavailable AS boolean) AS int) >= :most_faults
                      OR plan_tries >= :most_tries
                        THEN CAST(:now AS timestamptz)
                END
WHERE id = :id
  AND plan_began_at = :began
RETURNING plan_after, parked_at
