"""The data folder of one stack: its files, passwords and ports.

Each data folder is a stack of its own; two on one machine share nothing. Only the databases in it
cannot be made again.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import StackError
from deploy.local import ports


@dataclass(frozen=True)
class Folder:
    """The data folder at `root`, an absolute path."""

    root: Path

    @property
    def logs(self) -> Path:
        """Folder of the logs, `NAME.log` for each service."""
        return self.root / "log"

    @property
    def ports_file(self) -> Path:
        """File of the ports, which are chosen at the first start and kept."""
        return self.root / "ports.json"

    @property
    def stack_env(self) -> Path:
        """File of variables with the addresses of the local servers, for the workers."""
        return self.root / "stack.env"

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that name this stack in namespaces of the whole machine."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    def log(self, name: str) -> Path:
        """The log file of the service `name`."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the folder. Raises StackError where it cannot be made or written."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            # Others may traverse but not list it: root's PostgreSQL runs as another user.
            self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            self.logs.chmod(0o700)
            self._lock_file.touch()
        except OSError as error:
            raise self._unusable(error) from error

    def is_made(self) -> bool:
        """Return whether this is the folder of a stack, by files that only a stack has.

        A folder with only the Triton environment counts. Raises StackError if it is unreadable.
        """
        try:
            names = {path.name for path in self.root.iterdir()}
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        if names <= {"triton-venv", ".triton-venv.lock"}:
            return ".triton-venv.lock" in names
        return self._lock_file.is_file() and self.logs.is_dir()  # the first that `create` makes

    def is_sign(self, path: Path) -> bool:
        """Return whether `is_made` recognises the folder by this path."""
        return path in (self._lock_file, self.logs, self.root / ".triton-venv.lock")

    def _unusable(self, error: OSError) -> StackError:
        return StackError(
            f"the data folder {self.root} cannot be used: {error.strerror}",
            "run geotag as the folder's owner, or choose another folder with GEOTAG_DATA_DIR",
        )

    @property
    def _lock_file(self) -> Path:
        return self.root / "lock"

    def port(self, name: str) -> int:
        """Return the loopback port of `name`, which is chosen at the first call and kept."""
        known: dict[str, int] = _read_json(
            self.ports_file, "mend it, or delete it and let `geotag up` choose other ports"
        )
        if name not in known:
            known[name] = ports.choose(taken=set(known.values()))
            write_file(self.ports_file, json.dumps(known, indent=1) + "\n", mode=0o644)
        return known[name]

    def secret(self, name: str) -> str:
        """Return the random password of `name`, hexadecimal, made at the first call and kept."""
        path = self.root / "secrets.json"
        known: dict[str, str] = _read_json(
            path, "mend it: it has the passwords of this stack's databases"
        )
        if name not in known:
            known[name] = secrets.token_hex(20)
            write_file(path, json.dumps(known, indent=1) + "\n")
        return known[name]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder, after creating it, so that two `geotag up` run one after the other.

        Raises StackError as `create`.
        """
        self.create()
        with locked(self._lock_file):
            yield

    def read_stack_env(self) -> dict[str, str]:
        """Return the variables of `stack.env`, none before the first start."""
        if not self.stack_env.exists():
            return {}
        lines = self.stack_env.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")

    def write_stack_env(self, variables: Mapping[str, str]) -> None:
        """Write `stack.env`, with read access for its owner only."""
        lines = [f"{name}={value}" for name, value in sorted(variables.items())]
        write_file(self.stack_env, "\n".join(["# Written by `geotag up`.", *lines, ""]))


def write_file(path: Path, text: str, mode: int = 0o600) -> bool:
    """Write `text` atomically, with `mode`. Return False if the file is like that already."""
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == mode:
        return False
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.rename(path)
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the file `path` exclusively. The kernel releases the lock if the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_json(path: Path, advice: str) -> Any:
    """Return the JSON object in a file, {} if there is no file. Raises StackError."""
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StackError(f"{path} cannot be read: {error}", advice) from error
    if not isinstance(known, dict):
        raise StackError(f"{path} cannot be read: it is no JSON object", advice)
    return known
