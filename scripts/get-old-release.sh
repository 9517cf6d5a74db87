#!/bin/sh
# Gets the code of an older revision of this repository with an environment of its own into .tools/upgrade, for
# `make test-upgrade`. Starts nothing.
set -eu
cd "$(dirname "$0")/.."

revision=$1 uv=$2
if ! git cat-file -e "$revision^{commit}" 2>/dev/null; then
    echo "get-old-release: the history here does not have $revision, as in a shallow clone. Fetch it:" >&2
    echo "    git fetch --unshallow" >&2
    exit 1
fi
echo "get-old-release: setting up $(git log -1 --format='%h of %as' "$revision") in .tools/upgrade ..."
rm -rf .tools/upgrade
mkdir -p .tools/upgrade
git archive "$revision" common services clients/python requirements pyproject.toml LICENSE | tar -x -C .tools/upgrade
case $uv in
*/*) uv=$(realpath "$uv") ;;
esac
cd .tools/upgrade
"$uv" venv -q --no-project .venv
export VIRTUAL_ENV="$PWD/.venv"
"$uv" pip install -q --compile-bytecode --require-hashes -r requirements/runtime.txt
"$uv" pip install -q --no-deps --build-constraints requirements/build.txt --editable clients/python --editable .
echo "$revision" >revision
