#!/bin/sh
# Tests need a Chromium (the page), an nginx (a load-balanced pair) and iproute2 (two machines on one): install Debian's
# where there is none and apt can; say so where it cannot.
set -eu
found() {
    for program in "$@"; do
        if PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}
packages=
found chromium chromium-browser google-chrome google-chrome-stable || packages=chromium
found nginx || packages="$packages nginx-light"
found ip || packages="$packages iproute2"
if [ -z "$packages" ]; then exit 0; fi
if found apt-get && [ "$(id -u)" = 0 ]; then
    as_root=env
elif found apt-get && sudo -n true 2>/dev/null; then
    as_root=sudo
else
    echo "Not found, and not installable here: $packages. The tests that need them will be skipped." >&2
    exit 0
fi
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null
