-- Counts a try before the work that may kill its process. Updates no row if the run has got on, or
-- failed again, since it was found.
UPDATE geotag.run
SET plan_tries = plan_tries + 1,
    plan_faults = plan_faults + 1,
    plan_began_at = :now
WHERE id = :id
  AND planned_at IS NULL
  AND parked_at IS NULL
  AND cancelled_at IS NULL
  AND (plan_after IS NULL OR plan_after <= :now)
