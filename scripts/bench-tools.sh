#!/usr/bin/env bash
# Makes sure that what `benches/compare` measures with is there: nginx and HAProxy, to compare with, and
# strace, which counts calls. On Debian and Ubuntu, and as root, what is missing is installed; elsewhere it
# is named, and only nginx is indispensable.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

missing=()
for tool in nginx haproxy strace; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if [[ ${#missing[@]} -eq 0 ]]; then
    exit 0
fi
if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "the comparison would use ${missing[*]}; install with your package manager" \
        "(Debian, Ubuntu: sudo apt-get install ${missing[*]})" >&2
    command -v nginx >/dev/null
    exit
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A policy of "no" keeps the package from starting nginx as a service.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
