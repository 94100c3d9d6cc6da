"""Results of photographs, and how they are printed."""
