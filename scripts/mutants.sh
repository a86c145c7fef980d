#!/usr/bin/env bash
# Changes the code where Weir keeps its promises, one small change at a time (cargo-mutants), and says which of
# them no test noticed. With names, only those parts: `scripts/mutants.sh splice headers`. Each part has a
# share of its changes tried, every n-th of them; WEIR_MUTANTS says which ones (0 to n - 1), so that another
# number tries others. Only the unit tests that a part is for are run: what they miss may still be noticed by
# tests/it, and is looked at by hand (docs/testing.md).
set -euo pipefail
cd "$(dirname "$0")/.."

# Name, every how many-th change, unit tests, files.
parts=(
    "splice 1 inspect src/inspect/splice.rs"
    "headers 1 forward src/forward/headers.rs"
    "settlement 1 gateway src/gateway/settlement.rs"
    "admit 5 admit src/admit/*.rs"
    "meter 12 meter src/meter.rs src/meter/*.rs"
    "codec 4 journal src/journal/codec.rs"
    "journal 6 journal src/journal.rs src/journal/*.rs"
    "drain 4 ledger src/ledger/drain.rs src/ledger/drain/*.rs"
)
which=${WEIR_MUTANTS:-0}
out=$(realpath -m "${CARGO_TARGET_DIR:-target}")/mutants
# The dependencies are built once, and weir without what only a debugger needs.
export CARGO_TARGET_DIR=$out/build CARGO_PROFILE_DEV_DEBUG=0

count() {
    grep -c . "$out/$1/mutants.out/$2.txt" || true
}

summary="| part | tried | noticed | not noticed | too slow | no program |\n|---|---|---|---|---|---|\n"
for part in "${parts[@]}"; do
    read -r name share tests files <<<"$part"
    if [[ $# -gt 0 && " $* " != *" $name "* ]]; then
        continue
    fi
    only=()
    for file in $files; do
        only+=(--file "$file")
    done
    mkdir -p "$out/$name"
    # Not noticed (2) and too slow (3) are results, not failures.
    cargo mutants --output "$out/$name" --shard "$((which % share))/$share" --sharding round-robin \
        --baseline skip --timeout 300 --jobs 1 --no-shuffle "${only[@]}" \
        --cargo-arg=--locked --cargo-arg=--lib -- "$tests::" || [[ $? -eq 2 || $? -eq 3 ]]
    missed=$(count "$name" missed) caught=$(count "$name" caught)
    slow=$(count "$name" timeout) unviable=$(count "$name" unviable)
    tried=$((missed + caught + slow + unviable))
    summary+="| $name | $tried | $caught | $missed | $slow | $unviable |\n"
done
cat "$out"/*/mutants.out/missed.txt
printf '\n%b' "$summary"
