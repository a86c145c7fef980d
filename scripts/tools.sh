#!/usr/bin/env bash
# Makes sure that a tool is there at exactly the given version: `scripts/tools.sh NAME VERSION`.
# One on the PATH will do, else it is built into .tools/. Built without optimisation: it runs for a
# second, and optimising it takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1 version=$2

# One says "0.9.2", another "cargo-deny 0.20.2", a third says it only as a subcommand.
if found=$("$name" --version 2>/dev/null || "$name" "${name#cargo-}" --version 2>/dev/null) && [[ " $found" == *" $version" ]]; then
    exit 0
fi
echo "installing $name $version into .tools/" >&2
# A target directory that is kept would hold gigabytes for two small programs.
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
CARGO_TARGET_DIR=$target cargo install --quiet --locked --debug --force --root .tools "$name@$version"
