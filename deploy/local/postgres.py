"""PostGIS: a private PostgreSQL cluster in the data folder, on a loopback port of its own.

The server is found by its `postgis.control` file, since Debian keeps PostgreSQL's programs off
PATH and a PostgreSQL without PostGIS is of no use here. PostgreSQL refuses to run as root: as root,
the package's user `postgres` runs it.
"""

import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from deploy.errors import MissingPackage, ServiceDown, SystemUnsuitable
from deploy.local import system
from deploy.local.folder import Folder, write_file
from deploy.local.ports import LOOPBACK
from deploy.local.program import Program, Report

DATABASE = USER = "geotag"
UNPRIVILEGED = "postgres"
# Folders in which packages install PostGIS, and those of the server's programs.
LAYOUTS = (
    ("/usr/share/postgresql/*/extension", "/usr/lib/postgresql/{version}/bin"),  # Debian, Ubuntu
    ("/usr/pgsql-*/share/extension", "/usr/pgsql-{version}/bin"),  # PostgreSQL's own RPMs
    ("/usr/share/pgsql/extension", "/usr/bin"),  # Fedora
    ("/usr/share/postgresql/extension", "/usr/bin"),  # Arch
    ("/usr/local/share/postgresql/extension", "/usr/local/bin"),  # from source
)


def find_servers() -> dict[int, Path]:
    """Return the installed PostgreSQL servers with PostGIS: major version → programs' folder."""
    found: dict[int, Path] = {}
    for pattern, programs in LAYOUTS:
        for control in Path("/").glob(f"{pattern}/postgis.control".lstrip("/")):
            named = re.search(r"(?:postgresql/|pgsql-)(\d+)/", str(control))
            folder = Path(programs.format(version=named[1] if named else ""))
            if (folder / "initdb").exists() and (version := _version(folder)):
                found.setdefault(version, folder)
    return found


def _version(programs: Path) -> int | None:
    done = subprocess.run(
        [programs / "postgres", "--version"], text=True, capture_output=True, check=False
    )
    number = re.search(r"\) (\d+)", done.stdout)
    return int(number[1]) if number else None


def database_url(url: str) -> str:
    """Return a SQLAlchemy URL in the form that libpq reads."""
    return re.sub(r"^postgresql\+\w+:", "postgresql:", url)


def check_url(url: str) -> str:
    """Return the versions of the server behind a database URL. Raises psycopg2.Error, ServiceDown.

    PostGIS need not exist in the database yet, if the server offers it.
    """
    try:
        connection = psycopg2.connect(database_url(url), connect_timeout=5)
    except psycopg2.ProgrammingError:
        # libpq's message repeats the part that it cannot read, which may be the password.
        raise ServiceDown(
            "the database URL cannot be read",
            "write special characters of the user and the password as %XX (@ is %40, / is %2F)",
        ) from None
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version'), default_version "
                "FROM pg_available_extensions WHERE name = 'postgis'"
            )
            row = cursor.fetchone()
    finally:
        connection.close()
    if row is None:
        raise ServiceDown(
            "the PostgreSQL server has no PostGIS", "install PostGIS on the database server"
        )
    return f"PostgreSQL {row[0].split()[0]}, PostGIS {row[1]}"


def outside_folder(folder: Folder) -> Path:
    """Return the folder of the cluster if its user cannot enter the data folder."""
    return Path("/var/lib") / f"geotag-{folder.key}"


@dataclass(frozen=True)
class Postgres:
    """The stack's own cluster."""

    folder: Folder
    name: str = "postgres"

    @property
    def url(self) -> str:
        """The SQLAlchemy URL, password included."""
        return (
            f"postgresql+psycopg2://{USER}:{self.folder.secret(self.name)}"
            f"@{LOOPBACK}:{self.folder.port(self.name)}/{DATABASE}"
        )

    @property
    def ports(self) -> Sequence[int]:
        """Return its ports."""
        return [self.folder.port(self.name)]

    def install(self, report: Report) -> None:
        """Install PostGIS, in the version of the cluster if there is one already."""
        wanted = self._cluster_version()
        servers = find_servers()
        if servers if wanted is None else wanted in servers:
            return
        package = "postgresql-postgis" if wanted is None else f"postgresql-{wanted}-postgis-3"
        system.install_packages([package], "PostGIS", report)
        if not find_servers():
            raise MissingPackage(
                "PostGIS was installed, but no postgis.control is where packages put it",
                "set GEOTAG_DATABASE_URL to a PostGIS server that runs already",
            )

    def prepare(self, report: Report) -> Program:
        """Create the cluster at the first start, and return its program."""
        servers = find_servers()
        programs = servers[self._cluster_version() or max(servers)]
        data = self._data_folder(report)
        if not (data / "PG_VERSION").exists():
            report("creating the database cluster")
            self._create_cluster(programs, data)
        self._write_password_file()
        port = self.folder.port(self.name)
        return Program(
            name=self.name,
            # Options are on the command line, so that postgresql.conf is free for tuning.
            command=(
                str(programs / "postgres"),
                *("-D", str(data), "-p", str(port)),
                *("-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="),
            ),
            directory=data,
            # The owner of the cluster, since the stack may have been started without root before.
            user=data.owner() if os.geteuid() == 0 else None,
            stop_signal="INT",  # "fast" shutdown: roll back, write a checkpoint, exit
            stop_seconds=60,
            priority=10,
        )

    def check(self) -> str:
        """Create the database at the first start, and return the server's versions."""
        try:
            return check_url(self.url)
        except psycopg2.OperationalError as error:
            if f'database "{DATABASE}" does not exist' not in str(error):
                raise
        self._create_database()
        return check_url(self.url)

    def variables(self) -> dict[str, str]:
        """The database URL."""
        return {"GEOTAG_DATABASE_URL": self.url}

    def psql(self) -> str:
        """Return a `psql` command line for a shell, without the password."""
        port = self.folder.port(self.name)
        return (
            f"PGPASSFILE={shlex.quote(str(self.folder.root / 'pgpass'))} "
            f"psql -h {LOOPBACK} -p {port} -U {USER} {DATABASE}"
        )

    def _data_folder(self, report: Report) -> Path:
        """Return a folder in the data folder, or in /var/lib if `postgres` cannot enter that."""
        inside = self.folder.root / "postgres"
        user = _unprivileged_user()
        if user is None or _can_reach(user, self.folder.root):
            return inside
        outside = outside_folder(self.folder) / "postgres"
        if not outside.exists():
            report(f"the user {user} cannot enter {self.folder.root}: databases go to {outside}")
        return outside

    def _cluster_version(self) -> int | None:
        """Return the cluster's major version, None if there is no cluster yet."""
        for data in (self.folder.root, outside_folder(self.folder)):
            version = data / "postgres" / "PG_VERSION"
            if version.exists():
                return int(version.read_text())
        return None

    def _create_cluster(self, programs: Path, data: Path) -> None:
        """Run initdb in a temporary folder and rename that, so that a cluster is always whole."""
        user = _unprivileged_user()
        new = data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        password = new.with_name("postgres.password")
        write_file(password, self.folder.secret(self.name) + "\n")
        if user:
            shutil.chown(new, user)
            shutil.chown(password, user)
        try:
            done = subprocess.run(
                [
                    *(programs / "initdb", "-D", new, "--username", USER, "--pwfile", password),
                    *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
                    "--data-checksums",
                ],
                user=user,
                group=pwd.getpwnam(user).pw_gid if user else None,
                extra_groups=[] if user else None,
                cwd=new.parent if user is None else "/",
                text=True,
                capture_output=True,
                check=False,
            )
        finally:
            password.unlink()
        if done.returncode != 0:
            shutil.rmtree(new)
            raise ServiceDown(
                f"initdb failed: {done.stderr.strip().splitlines()[-1:]}",
                f"check that {data.parent} is on a disk with free space",
            )
        new.rename(data)

    def _create_database(self) -> None:
        connection = psycopg2.connect(
            database_url(self.url).removesuffix(DATABASE) + "postgres", connect_timeout=5
        )
        connection.autocommit = True  # CREATE DATABASE does not run inside a transaction.
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()

    def _write_password_file(self) -> None:
        write_file(
            self.folder.root / "pgpass",
            f"{LOOPBACK}:{self.folder.port(self.name)}:*:{USER}:{self.folder.secret(self.name)}\n",
        )


def _unprivileged_user() -> str | None:
    """Return the user that runs PostgreSQL when we are root, else None."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(UNPRIVILEGED).pw_name
    except KeyError:
        raise SystemUnsuitable(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED}",
            f"run as another user, or `useradd --system {UNPRIVILEGED}`",
        ) from None


def _can_reach(user: str, folder: Path) -> bool:
    """Return whether a user may enter a folder, by trying as that user: groups, ACLs count."""
    account = pwd.getpwnam(user)
    asked = subprocess.run(
        ["test", "-x", folder],
        user=user,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return asked.returncode == 0
