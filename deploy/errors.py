"""Errors of the local stack. Each has a message and advice.

```
StackError                 message, advice
├── SystemUnsuitable       this machine cannot run a part of the stack
├── MissingPackage         something is not installed and could not be installed
├── InstallFailed          the package manager or pip refused
├── PortTaken              another program listens on a port of the stack
├── ServiceDown            a service did not start, or does not answer as it should
├── ModelNotLoaded         Triton did not load or unload a model when told to
└── StackNotUp             the command needs `geotag up` first
```
"""


class StackError(Exception):
    """An error with a message and an advice, a sentence each. It is shown without a traceback."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class SystemUnsuitable(StackError):
    """This machine cannot run a part of the stack."""


class MissingPackage(StackError):
    """Something is not installed and could not be installed."""


class InstallFailed(StackError):
    """The package manager or pip refused."""


class PortTaken(StackError):
    """Another program listens on a port of the stack."""

    def __init__(self, service: str, port: int, owner: str, ports_file: str) -> None:
        super().__init__(
            f"port {port} of {service} is taken by {owner}",
            f"stop that program, or delete the line of {port} in {ports_file} "
            "to let `geotag up` choose another port",
        )


class ServiceDown(StackError):
    """A service did not start, or does not answer as it should."""


class ModelNotLoaded(StackError):
    """Triton did not load or unload a model when told to."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            "Triton's log says more; a server of your own must run with"
            " --model-control-mode=explicit, or have what geotag releases build makes loaded",
        )


class StackNotUp(StackError):
    """The command needs a running stack."""

    def __init__(self) -> None:
        super().__init__("the local stack is not running", "start it with `geotag up`")
