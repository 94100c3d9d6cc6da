#!/bin/sh
# Installs Debian packages whose programs the local stack runs. Does not start or enable the packages'
# own services, and creates no system database cluster.
# Usage (as root): apt-install.sh PACKAGE...
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/geotag-local-stack.conf
made_policy=
clean_up() {
    rm -f "$no_cluster"
    rmdir "${no_cluster%/*}" 2>/dev/null || true
    if [ -n "$made_policy" ]; then rm -f "$policy"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Maintainer scripts ask policy-rc.d before they start a service: 101 forbids it. An existing policy
# of the administrator is kept.
if [ ! -e "$policy" ]; then
    made_policy=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
mkdir -p "${no_cluster%/*}"
echo 'create_main_cluster = false' >"$no_cluster"

new_rabbitmq=
[ -e /usr/lib/rabbitmq/bin/rabbitmq-server ] || new_rabbitmq=1

get() { apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }
# Package lists are empty on a fresh machine, and may name deleted versions on an old one.
get install -y --no-install-recommends "$@" || {
    get update
    get install -y --no-install-recommends "$@"
}

# The package enables its service for the next boot, even if policy-rc.d forbids it to start now.
if [ -n "$new_rabbitmq" ] && [ -e /usr/lib/rabbitmq/bin/rabbitmq-server ] &&
    command -v systemctl >/dev/null; then
    systemctl disable --quiet rabbitmq-server 2>/dev/null || true
fi
