"""The text of supervisor's configuration files: its own, and one for each program."""

import configparser
import io
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from deploy.errors import StackError
from deploy.local.folder import Folder
from deploy.local.ports import LOOPBACK
from deploy.local.program import Program


def supervisor_text(folder: Folder) -> str:
    """Return the supervisor's own configuration, with its password."""
    sections = {
        "supervisord": {
            "logfile": escaped(folder.log("supervisord")),
            "logfile_maxbytes": "5MB",
            "logfile_backups": "1",
            "pidfile": escaped(folder.root / "supervisord.pid"),
            "childlogdir": escaped(folder.logs),
            # supervisord warns of running as root if it is not told to.
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "inet_http_server": {
            "port": f"{LOOPBACK}:{folder.port('supervisor')}",
            "username": "geotag",
            "password": folder.secret("supervisor"),
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        # A relative path: supervisor splits the list at spaces, which a folder's name may have.
        "include": {"files": "supervisor.d/*.conf"},
    }
    return ini(sections)


def program_text(program: Program, folder: Folder) -> str:
    """Return the configuration of one program."""
    many = program.copies > 1
    log = folder.log(f"{program.name}-%(process_num)d" if many else program.name)
    options = {
        "command": escaped(shlex.join(program.command)),
        "directory": escaped(program.directory),
        "environment": environment_list(program.environment),
        "numprocs": str(program.copies),
        "process_name": "%(program_name)s" + ("-%(process_num)d" if many else ""),
        "priority": str(program.priority),
        "autostart": "false",  # `up` checks the ports first
        "autorestart": "true",
        "startsecs": "1",
        # Each pause is a second longer, a minute and a half in all: enough for a port or shared
        # memory to become free after a crash.
        "startretries": "13",
        "stopsignal": program.stop_signal,
        "stopwaitsecs": str(program.stop_seconds),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": escaped(folder.logs) + "/" + log.name,
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "2",
        **({"user": program.user} if program.user else {}),
    }
    return ini({f"program:{program.name}": options})


def environment_list(variables: Mapping[str, str]) -> str:
    """Return `NAME="value",…` in supervisor's syntax.

    Raises StackError for a value that cannot be written in it: with control characters, with the
    beginning of a comment, with both kinds of quotation mark, or with one at an end (supervisor
    strips those).
    """
    pairs = []
    for name, value in sorted(variables.items()):
        quote = "'" if '"' in value else '"'
        says = value.isprintable() and not re.search(r"\s[;#]", value)
        if quote in value or not says or value != value.strip("'\""):
            raise StackError(
                f"the value of {name} has quotation marks, line breaks or the like that cannot be"
                " passed on",
                "unset it, choose another value, or put it into a file: .env for GEOTAG_…, "
                "that of boto3 for a credential",
            )
        pairs.append(f"{name}={quote}{escaped(value)}{quote}")
    return ",".join(pairs)


def escaped(value: str | Path) -> str:
    """Escape `%`, since supervisor expands `%(…)s` in every value."""
    return str(value).replace("%", "%%")


def ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Return the sections as an INI file."""
    parser = configparser.RawConfigParser()
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
