"""Partitions of the Earth into geo-cells."""
