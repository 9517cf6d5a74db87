#!/bin/sh
# Puts uv at .tools/bin/uv, at the version and hashes of requirements/tools-uv.txt.
# Needs any python3 (3.8+) that can make a virtual environment; as root on Debian and Ubuntu it installs that part.
set -eu
cd "$(dirname "$0")/.."

# Debian's python3 comes without ensurepip, so the first python found may not be the one that can do it.
python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
        python=$candidate
        break
    fi
done

if [ -z "$python" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "get-uv: installing python3-venv ..."
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        {
            apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv
        } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
        python=python3
    else
        echo "get-uv: no python3 here can make a virtual environment. Run this, or install uv:" >&2
        echo "    sudo apt-get install -y python3-venv" >&2
        exit 1
    fi
fi

rm -rf .tools/bin .tools/lib .tools/lib64 .tools/include # other tools beside it stay
"$python" -m venv .tools
.tools/bin/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: \
    -r requirements/tools-uv.txt
