"""Distillation of the segmentation network: a student learns from the maps of a larger teacher.

``photographs`` lists and reads the pictures. ``teacher`` computes the teacher's maps. ``classes``
turns them into the student's targets. ``training`` trains the student. ``scoring`` and ``overlays``
evaluate it. `python -m triton_models.segmentation --help` lists the commands; docs/segmentation.md
has the results.
"""
