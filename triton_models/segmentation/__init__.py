"""How the segmentation network is made: a student learns from the maps of a larger teacher.

``photographs`` finds and reads the pictures; ``teacher`` maps them; ``classes`` turns its maps into
what the student is to say; ``training`` teaches it; ``scoring`` and ``overlays`` show how well it
learnt. `python -m triton_models.segmentation --help` lists the commands; docs/segmentation.md says
what came out.
"""
