#!/usr/bin/env bash
# Makes sure that commands are there which come in Debian packages of the same name, or in the one named
# (`command=package`), and modules of Python's (`python3:module=package`):
# `scripts/debian-tools.sh NEEDED… [-- WANTED…]`. On Debian and Ubuntu, and as root, what is missing is
# installed; elsewhere it is named, and only a needed one that is missing is an error.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

is_there() {
    case $1 in
    python3:*) python3 -c "import ${1#*:}" ;;
    # The shell has some of these built in, and whoever starts one without a shell finds none.
    *) type -P "$1" ;;
    esac >/dev/null 2>&1
}

missing=() lacks= optional=
for tool in "$@"; do
    if [[ $tool == -- ]]; then
        optional=yes
    elif ! is_there "${tool%%=*}"; then
        missing+=("${tool#*=}")
        [[ $optional ]] || lacks=yes
    fi
done
if [[ ${#missing[@]} -eq 0 ]]; then
    exit 0
fi
if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "not installed: ${missing[*]}; install with your package manager" \
        "(Debian, Ubuntu: sudo apt-get install ${missing[*]})" >&2
    [[ ! $lacks ]]
    exit
fi
echo "installing what the checks need beside Rust: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A policy of "no" keeps the packages from starting services.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
