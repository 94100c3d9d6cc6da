#!/bin/sh
# Creates the virtual environment `.venv` and installs the pinned packages into it.
# Usage: deploy/bootstrap.sh serve|dev     PYTHON=/path/to/python selects the interpreter.
# A second call without changes ends in milliseconds.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'bootstrap: %s\n' "$*" >&2; }
fail() { # problem, advice
    say "$1"
    say "$2"
    exit 1
}

mode=${1:-}
case "$mode" in
serve) locks="-r requirements/serve.txt" ;;
dev) locks="-r requirements/dev.txt -r requirements/torch.txt" ;;
*) fail "usage: deploy/bootstrap.sh serve|dev" "serve runs the system, dev also tests it and makes models" ;;
esac

# Digest of the inputs of the environment: the locks, our metadata, and its path.
digest=$({ pwd && cat requirements/*.txt pyproject.toml deploy/bootstrap.sh; } | sha256sum | cut -d' ' -f1)
stamp=.venv/bootstrapped
if [ -x .venv/bin/python ] && [ -e "$stamp" ]; then
    # An environment for `dev` has everything that `serve` needs.
    case "$(cat "$stamp")" in "$mode $digest" | "dev $digest") exit 0 ;; esac
fi

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3.12 python3.11 python3}; do
        if command -v "$candidate" >/dev/null && supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

install_packages() {
    command -v apt-get >/dev/null || fail "$1 is missing, and there is no apt-get" \
        "install $1 with your system's package manager, then try again"
    say "installing $* with apt-get"
    if [ "$(id -u)" = 0 ]; then as_root=
    elif command -v sudo >/dev/null; then as_root=sudo
    else fail "installing $* takes root" "run as root: apt-get install $*"; fi
    $as_root deploy/apt-install.sh "$@" >/dev/null || fail "apt-get could not install $*" \
        "run as root: apt-get update && apt-get install $*"
}

if [ ! -x .venv/bin/python ] || ! supported .venv/bin/python; then
    python=$(find_python)
    if [ -z "$python" ] && [ -z "${PYTHON:-}" ] && ! command -v python3 >/dev/null; then
        install_packages python3 python3-venv
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        found=$("${PYTHON:-python3}" --version 2>&1) || found="no usable ${PYTHON:-python3}"
        fail "Python 3.11 or 3.12 is needed; found: $found" \
            "install one of them beside it, or name it: make demo PYTHON=/path/to/python3.12"
    fi
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    # Debian and Ubuntu package the files that `venv` needs separately.
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages "$version-venv"
    say "creating .venv with $version"
    "$python" -m venv --clear .venv || fail "$python could not create .venv" \
        "see the message above; check the free space on the disk"
fi

say "installing the pinned packages for '$mode' (the first time takes a minute or more)"
rm -f "$stamp"
log=.venv/pip.log
pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet"
# shellcheck disable=SC2086  # two lists of words
if ! { $pip $locks && $pip --no-deps --editable .; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    fail "pip could not install the packages" \
        "check the network and the free space on the disk, then try again; the whole log: $log"
fi
printf '%s' "$mode $digest" >"$stamp"
