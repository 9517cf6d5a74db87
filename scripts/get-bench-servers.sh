#!/bin/sh
# Gets the Redis that arq needs in `make bench`. As root on Debian and Ubuntu it installs it; elsewhere it says what to
# run. Starts nothing.
set -eu

command -v redis-server >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "The benchmarks compare with arq, which needs Redis. On Debian and Ubuntu run this once:" >&2
    echo "    sudo sh scripts/get-bench-servers.sh" >&2
    exit 1
fi

# Debian starts a server as it installs it; the benchmarks start one of their own.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
if [ -e "$policy" ]; then
    trap 'rm -f "$log"' EXIT
else
    trap 'rm -f "$log" "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
trap 'exit 1' HUP INT TERM
echo "get-bench-servers: installing redis-server ..."
{ apt-get update && env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server; } \
    >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
if command -v systemctl >/dev/null 2>&1; then
    systemctl disable redis-server >/dev/null 2>&1 || true
fi
