#!/bin/sh
# Gets the newer RabbitMQs of `make test-brokers`, each with a small Debian around it, into .tools/brokers/<suite>:
# about a minute and 300 MB each, and nothing where they are there. Starts nothing. Needs root, as running them does:
# debootstrap makes device nodes, and the brokers run by chroot. The mirror is apt's, or DEBIAN_MIRROR.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "get-brokers: the newer RabbitMQs are fetched by debootstrap and run by chroot, which takes root:" >&2
    echo "    sudo make test-brokers" >&2
    exit 1
fi
if ! unshare --mount true 2>/dev/null; then
    echo "get-brokers: root may not mount here, as in most containers; use a machine where it may" >&2
    exit 1
fi

suites="trixie sid" # RabbitMQ 4.0 and 4.3; sid moves on
missing=
for suite in $suites; do
    [ -e ".tools/brokers/$suite" ] || missing="$missing $suite"
done
[ -n "$missing" ] || exit 0

. scripts/debian.sh
if ! is_root_on_debian; then
    echo "get-brokers: this takes Debian or Ubuntu" >&2
    exit 1
fi

# A mirror that apt uses already: of Debian itself, not of its security updates.
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
        'Component: main' | head -n 1
}

if ! command -v debootstrap >/dev/null 2>&1 || [ -z "${DEBIAN_MIRROR:-$(mirror)}" ]; then
    read_package_lists
    install debootstrap debian-archive-keyring
fi
from=${DEBIAN_MIRROR:-$(mirror)}
if [ -z "$from" ]; then
    echo "get-brokers: apt is told of no mirror of Debian; set DEBIAN_MIRROR to one" >&2
    exit 1
fi
if [ -z "${http_proxy:-}" ]; then # debootstrap asks the environment, not apt
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    [ -z "${http_proxy:-}" ] || export http_proxy
fi

mkdir -p .tools/brokers
for suite in $missing; do
    echo "get-brokers: fetching RabbitMQ and what it needs from Debian $suite (about a minute) ..."
    part=.tools/brokers/$suite.part
    rm -rf --one-file-system "$part"
    quietly debootstrap --variant=minbase --include=rabbitmq-server "$suite" "$part" "$from"
    rm -f "$part"/var/cache/apt/archives/*.deb
    printf '127.0.0.1 localhost\n' >"$part/etc/hosts" # the node's name is test-…@localhost
    mv "$part" ".tools/brokers/$suite"
done
