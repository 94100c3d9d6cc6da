"""Geo-cells: S2 arithmetic, partitions of the Earth, and great-circle distances."""
