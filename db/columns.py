"""Columns and constraints that several tables of the ledger share."""

from geoalchemy2 import Geography
from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Integer, func


def id_column(type_: type[Integer] = BigInteger) -> "Column[int]":
    """Return a generated primary key `id`."""
    return Column("id", type_, Identity(always=True), primary_key=True)


def time_column(name: str) -> "Column[object]":
    """Return a time column that defaults to the transaction's start."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def position_column(name: str, *, nullable: bool) -> "Column[object]":
    """Return a geography point column (longitude, latitude; WGS 84), without an index."""
    return Column(name, Geography("POINT", 4326, spatial_index=False), nullable=nullable)


def on_earth(name: str) -> CheckConstraint:
    """Check that a point has a longitude in ±180° and a latitude in ±90°."""
    # PostGIS wraps coordinates that are too large, and accepts NaN.
    return CheckConstraint(
        f"ST_X({name}::geometry) BETWEEN -180 AND 180"
        f" AND ST_Y({name}::geometry) BETWEEN -90 AND 90",
        name=f"{name}_is_on_earth",
    )


def probability(name: str) -> CheckConstraint:
    """Check that a value lies in 0 to 1."""
    # NaN is greater than every number (PostgreSQL documentation, section 8.1.3).
    return CheckConstraint(f"{name} BETWEEN 0 AND 1", name=f"{name}_is_probability")
