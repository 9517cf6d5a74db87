#!/bin/sh
# Runs a command as a user without rights, on a file system of which only one folder can be written: what a container with
# `runAsNonRoot` and `readOnlyRootFilesystem` has. Needs root, in a mount namespace of its own:
#   unshare --mount sh read_only.sh UID WRITABLE PYTHON COMMAND...
set -eu
uid=$1 writable=$2 python=$3
shift 3

mount --make-rprivate /
mount --bind "$writable" "$writable"
# The interpreter may lie in the home of root. In an image everyone can read it.
if ! setpriv --reuid "$uid" --regid "$uid" --clear-groups test -x "$python/bin"; then
    mkdir -p "$writable.python"
    mount --bind "$python" "$writable.python"
    mount -t tmpfs -o mode=755 none "/$(echo "$python" | cut -d / -f 2)"
    mkdir -p "$python"
    mount --bind "$writable.python" "$python"
fi
awk '{print $2}' /proc/self/mounts | while read -r at; do
    case $at in
    "$writable" | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
    *) mount -o remount,bind,ro "$at" ;;
    esac
done
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
