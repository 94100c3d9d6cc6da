"""`python -m deploy.local.delete`: stop the stack of GEOTAG_DATA_DIR and delete its data."""

import sys

from deploy.errors import StackError
from deploy.local.stack import delete
from deploy.settings import StackSettings


def main() -> int:
    """Delete the stack; 4 when that was not possible."""
    settings = StackSettings()
    try:
        delete(settings)
    except StackError as error:
        print(f"{error.message}\n{error.advice}", file=sys.stderr)
        return 4
    print(f"deleted {settings.data_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
