#!/bin/sh
# Gets promtool, which evaluates alert rules, into .tools/prometheus: that on the PATH, or that of Debian's package, whose
# server is not installed. Elsewhere, put it on the PATH; https://prometheus.io/download has it.
set -eu
cd "$(dirname "$0")/.."
. scripts/debian.sh

mkdir -p .tools/prometheus
if found=$(command -v promtool); then
    ln -sf "$found" .tools/prometheus/promtool
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "make test-deploy needs promtool: put it on the PATH (https://prometheus.io/download)" >&2
    exit 1
fi
if is_root_on_debian && ! apt-cache show prometheus >/dev/null 2>&1; then
    read_package_lists
fi
echo "$name: fetching promtool ..."
cd .tools/prometheus
quietly apt-get -o APT::Sandbox::User=root download prometheus
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool.new
chmod +x promtool.new
mv promtool.new promtool
rm -f prometheus_*.deb
