"""Scene classes, and the scene labels of photographs."""
