#!/bin/sh
# Gets what the tests run against and this machine lacks: RabbitMQ (unless Docker or TEST_BUS_URL gives one), a
# Chromium, nginx, Caddy and zsh. As root on Debian and Ubuntu it installs them; elsewhere it says what to run. Starts nothing.
set -eu
cd "$(dirname "$0")/.."

missing=$(.venv/bin/python -m tests.servers | tr '\n' ' ')
missing=${missing% }

. scripts/debian.sh
shell=chromium-headless-shell  # less than half the CPU time of chromium; not in each release of Debian
is_known() {
    apt-cache show "$1" >/dev/null 2>&1
}
if is_root_on_debian && [ -z "${TEST_CHROMIUM:-}" ] && ! command -v $shell >/dev/null && is_known $shell; then
    case " $missing " in
    *" chromium "*) ;;
    *) missing="$missing $shell" ;;
    esac
fi
[ -n "$missing" ] || exit 0

if ! is_root_on_debian; then
    echo "The tests need these as well: $missing. On Debian and Ubuntu run this once:" >&2
    echo "    sudo sh scripts/get-test-servers.sh" >&2
    echo "Elsewhere, start Docker or set TEST_BUS_URL for RabbitMQ; set TEST_CHROMIUM to a Chromium or Chrome;" >&2
    echo "put nginx, caddy and zsh on the PATH." >&2
    exit 1
fi

read_package_lists
for package in $missing; do
    if [ "$package" = chromium ] && grep -q '^ID=ubuntu' /etc/os-release; then
        # Ubuntu's package is a snap, which needs a running snapd
        echo "get-test-servers: installing Chromium by playwright ..."
        quietly .venv/bin/playwright install --with-deps --only-shell chromium
    elif [ "$package" = chromium ] && is_known $shell; then
        install $shell
    else
        install "$package"
    fi
done
case $missing in
*rabbitmq-server*) never_start rabbitmq-server epmd ;;
esac
case $missing in
*nginx*) never_start nginx ;;
esac
case $missing in
*caddy*) never_start caddy ;;
esac

missing=$(.venv/bin/python -m tests.servers)
[ -z "$missing" ] || { echo "get-test-servers: still missing:" $missing >&2; exit 1; }
