"""Triton: NVIDIA's server binary, from the `nvidia-pytriton` wheel, in an environment of its own.

The wheel pins numpy below 2, and in production Triton runs on another machine. So its models
import from this environment, never from ours.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from deploy.errors import InstallFailed, ServiceDown
from deploy.local import system, triton_process
from deploy.local.folder import Folder, locked
from deploy.local.ports import LOOPBACK
from deploy.local.program import Program, Report

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
# What the models import, with dependencies; and the server without its dependencies, which only
# pytriton's Python front end needs.
PLAIN, BARE = REQUIREMENTS / "triton.txt", REQUIREMENTS / "tritonserver.txt"


def check_url(url: str) -> str:
    """Return the version of the server at `url` (gRPC host:port) and its number of models.

    Raises InferenceServerException if it does not answer, and ServiceDown with the names of the
    models that it could not load.
    """
    client = triton.InferenceServerClient(url)
    try:
        version = client.get_server_metadata(client_timeout=5).version
        models = client.get_model_repository_index(client_timeout=5).models
    finally:
        client.close()
    # A replaced version has the reason "unloaded", and a model that was never loaded has none.
    failed = [
        f"{model.name}: {model.reason.splitlines()[0]}"
        for model in models
        if model.state == "UNAVAILABLE" and model.reason not in ("", "unloaded")
    ]
    if failed:
        raise ServiceDown(
            "Triton could not load " + "; ".join(failed),
            "mend the model repository, then `geotag down` and `geotag up`",
        )
    if any(model.state in ("LOADING", "UNLOADING") for model in models):
        raise InferenceServerException("models are still loading")
    ready = sum(model.state == "READY" for model in models)
    return f"Triton {version} with {ready} model{'' if ready == 1 else 's'} ready"


@dataclass(frozen=True)
class Triton:
    """The stack's inference server. It needs `repository` only to start."""

    folder: Folder
    venv: Path
    repository: Path | None = None
    name: str = "triton"

    @property
    def url(self) -> str:
        """The gRPC address, host:port."""
        return f"{LOOPBACK}:{self.folder.port('triton-grpc')}"

    @property
    def ports(self) -> Sequence[int]:
        """HTTP, gRPC and metrics."""
        return [self.folder.port(f"triton-{name}") for name in ("http", "grpc", "metrics")]

    def install(self, report: Report) -> None:
        """Check the machine, install libpython if it is missing, and build the environment."""
        system.require_python()
        system.require_triton_platform()
        if not system.has_libpython():
            package = system.libpython_name().partition(".so")[0]
            system.install_packages([package], "Triton's Python backend", report)
        with locked(self.venv.with_name(f".{self.venv.name}.lock")):
            stamp = self.venv / "stamp"
            if not stamp.exists() or stamp.read_text() != _requirements_digest():
                report("installing the Triton server in an environment of its own (a minute)")
                self._build()
                stamp.write_text(_requirements_digest())
            self._link_libpython()

    def prepare(self, report: Report) -> Program:
        """Return the program that serves the model repository."""
        if self.repository is None:
            raise ValueError("starting Triton needs a model repository")
        self.repository.mkdir(parents=True, exist_ok=True)
        home = self.folder.root / "triton"
        home.mkdir(exist_ok=True)
        http, grpc, metrics = self.ports
        memory = triton_process.memory_prefix(self.folder)
        server = self._site_packages() / "pytriton" / "tritonserver"
        return Program(
            name=self.name,
            command=triton_process.command(
                self.folder,
                str(server / "bin" / "tritonserver"),
                f"--model-repository={self.repository}",
                f"--backend-directory={server / 'backends'}",
                # Explicit: releases are loaded and unloaded by name. At the start all are loaded.
                *("--model-control-mode=explicit", "--load-model=*"),
                # A broken model is reported by name; the others are served.
                "--exit-on-error=false",
                *(f"--http-address={LOOPBACK}", f"--http-port={http}"),
                *(f"--grpc-address={LOOPBACK}", f"--grpc-port={grpc}"),
                *(f"--metrics-address={LOOPBACK}", f"--metrics-port={metrics}"),
                f"--backend-config=python,shm-region-prefix-name={memory}",
                *("--log-format=ISO8601", "--exit-timeout-secs=15"),
            ),
            directory=home,
            environment={
                # The Python backend runs its models with the first python on PATH.
                "PATH": f"{self.venv / 'bin'}:{os.defpath}",
                "VIRTUAL_ENV": str(self.venv),
            },
            start_seconds=300,  # models load and warm up before the ports open
            stop_seconds=30,
            priority=30,
        )

    def check(self) -> str:
        """Ask for the version and the models."""
        return check_url(self.url)

    def variables(self) -> dict[str, str]:
        """The gRPC address and the URL of the metrics."""
        return {
            "GEOTAG_TRITON_URL": self.url,
            "GEOTAG_TRITON_METRICS_URL": (
                f"http://{LOOPBACK}:{self.folder.port('triton-metrics')}/metrics"
            ),
        }

    def _site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.venv / "lib" / version / "site-packages"

    def _link_libpython(self) -> None:
        """Link the interpreter's own library, if any, into the folder that the stub searches."""
        library = system.own_libpython()
        link = self._site_packages() / "nvidia_pytriton.libs" / system.libpython_name()
        if library is not None and not link.exists():
            link.unlink(missing_ok=True)  # a link to an interpreter that was deleted
            link.symlink_to(library)

    def _build(self) -> None:
        shutil.rmtree(self.venv, ignore_errors=True)
        pip = [str(self.venv / "bin" / "python"), "-m", "pip"]
        install = [*pip, "install", "--quiet", "--disable-pip-version-check"]
        _run([sys.executable, "-m", "venv", str(self.venv)])
        _run([*install, "-r", str(PLAIN)])
        _run([*install, "--no-deps", "-r", str(BARE)])
        server = self._site_packages() / "pytriton" / "tritonserver"
        stub = f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}"
        # The backend searches the stub in its own folder.
        shutil.copy(server / stub / "triton_python_backend_stub", server / "backends" / "python")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise InstallFailed(
            "the Triton environment could not be built: " + " / ".join(lines[-3:]),
            "check the network and the free space on the disk, then try again; or set "
            "GEOTAG_TRITON_URL to a server that runs already",
        )


def _requirements_digest() -> str:
    """Return a digest of the pinned packages and the interpreter."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (PLAIN, BARE):
        digest.update(path.read_bytes())
    return digest.hexdigest()
