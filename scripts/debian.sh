# Debian packages, quietly, and no server of theirs started: the tests and benchmarks start their own. Sourced.
name=$(basename "$0" .sh)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM

is_root_on_debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

quietly() {
    "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }
}

read_package_lists() {
    echo "$name: reading the package lists ..."
    quietly apt-get update
}

# Debian starts a server as it installs it, unless told not to.
install() {
    echo "$name: installing $* ..."
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$log" "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# ... and would at each boot.
never_start() {
    if command -v systemctl >/dev/null 2>&1; then
        systemctl disable "$@" >/dev/null 2>&1 || true
    fi
}
