#!/bin/sh
# Installs torch into the environment $1: the build for the GPU of this machine, or for the CPU if it has none.
# If pip is set to take wheels from folders (PIP_FIND_LINKS), a torch in one of them comes first. $UV is the uv to use.
set -eu

if ls -d "$1"/lib/python*/site-packages/torch-*.dist-info >/dev/null 2>&1; then
    exit 0
fi
export VIRTUAL_ENV="$1"
links=
for folder in ${PIP_FIND_LINKS:-}; do
    links="$links --find-links $folder"
done
# shellcheck disable=SC2086 # one option for each folder
if [ -n "$links" ] && "$UV" pip install -q --compile-bytecode --no-deps --no-index $links torch 2>/dev/null; then
    exit 0
fi
"$UV" pip install -q --compile-bytecode --torch-backend auto torch || {
    echo "get-torch: torch cannot be installed; install a build for this machine into $1, then try again." >&2
    exit 1
}
