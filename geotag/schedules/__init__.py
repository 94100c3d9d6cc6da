"""Schedules of nightly backfills."""
