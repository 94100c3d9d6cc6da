"""`python -m deploy.local.delete`: stop the stack of GEOTAG_DATA_DIR and delete its data."""

import sys

from pydantic import ValidationError

from deploy.errors import StackError
from deploy.local.stack import delete
from deploy.settings import StackSettings


def main() -> int:
    """Delete the stack. Exit code 2: a setting is wrong; 4: the stack could not be deleted."""
    try:
        settings = StackSettings()
        delete(settings)
    except ValidationError as error:
        wrong = error.errors(include_input=False)[0]  # the input may be a secret
        print(f"GEOTAG_{str(wrong['loc'][0]).upper()}: {wrong['msg']}", file=sys.stderr)
        return 2
    except StackError as error:
        print(f"{error.message}\n{error.advice}", file=sys.stderr)
        return 4
    print(f"deleted {settings.data_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
