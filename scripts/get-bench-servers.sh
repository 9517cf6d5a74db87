#!/bin/sh
# Gets the Redis that arq needs in `make bench`. As root on Debian and Ubuntu it installs it; elsewhere it says what to
# run. Starts nothing.
set -eu
cd "$(dirname "$0")/.."

command -v redis-server >/dev/null 2>&1 && exit 0
. scripts/debian.sh
if ! is_root_on_debian; then
    echo "The benchmarks compare with arq, which needs Redis. On Debian and Ubuntu run this once:" >&2
    echo "    sudo sh scripts/get-bench-servers.sh" >&2
    exit 1
fi

read_package_lists
install redis-server
never_start redis-server
