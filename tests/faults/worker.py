"""`geotag worker` with a decoder that dies of a marker, as of a hostile file."""

import os
import signal
import sys

from workers.chunks import pipeline

MARKER = b"kill your reader"
read_photo = pipeline.read_photo


def deadly(data: bytes, *rest: object) -> object:
    """Read the photograph; kill the process if it carries the marker."""
    if MARKER in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_photo(data, *rest)  # type: ignore[arg-type]


if __name__ == "__main__":
    from geotag.cli import main

    pipeline.read_photo = deadly  # type: ignore[assignment]
    sys.argv[0] = "geotag"
    main()
