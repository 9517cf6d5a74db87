#!/bin/sh
# Gets what the tests run against and this machine lacks: RabbitMQ (unless Docker or TEST_BUS_URL gives one) and a
# Chromium. As root on Debian and Ubuntu it installs them; elsewhere it says what to run. Starts nothing.
set -eu
cd "$(dirname "$0")/.."

missing=$(.venv/bin/python -m tests.servers | tr '\n' ' ')
missing=${missing% }
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need these as well: $missing. On Debian and Ubuntu run this once:" >&2
    echo "    sudo sh scripts/get-test-servers.sh" >&2
    echo "Elsewhere, start Docker or set TEST_BUS_URL for RabbitMQ; set TEST_CHROMIUM to a Chromium or Chrome." >&2
    exit 1
fi

# Debian starts a server as it installs it, and would at each boot; the tests start a node of their own.
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

quietly() {
    "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}

install() {
    echo "get-test-servers: installing $* (about a minute) ..."
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

echo "get-test-servers: reading the package lists ..."
quietly apt-get update
for package in $missing; do
    if [ "$package" = chromium ] && grep -q '^ID=ubuntu' /etc/os-release; then
        # Ubuntu's package is a snap, which needs a running snapd
        echo "get-test-servers: installing Chromium by playwright ..."
        quietly .venv/bin/playwright install --with-deps chromium
    else
        install "$package"
    fi
done
case $missing in
*rabbitmq-server*)
    if command -v systemctl >/dev/null 2>&1; then
        systemctl disable rabbitmq-server epmd >/dev/null 2>&1 || true
    fi
    ;;
esac

missing=$(.venv/bin/python -m tests.servers)
[ -z "$missing" ] || { echo "get-test-servers: still missing:" $missing >&2; exit 1; }
