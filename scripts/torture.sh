#!/usr/bin/env bash
# The long forms of the proofs, one after the other, and at the end what each of them found. With names,
# only those: `scripts/torture.sh kills disk`. How long each is, a variable says.
set -euo pipefail
cd "$(dirname "$0")/.."

steps=(quotas admission interleave power kills mixed cuts disk ledger)
report=$(mktemp)
export WEIR_TORTURE_REPORT=$report
trap 'rm -f "$report"' EXIT
# What is drawn by chance differs from run to run, and is the same again with the seed of the summary.
seed=${WEIR_TORTURE_SEED:-$RANDOM$RANDOM}
export WEIR_TORTURE_SEED=$seed PROPTEST_RNG_SEED=$seed SHUTTLE_RANDOM_SEED=$seed

# A test binary's tests of one name.
tests() {
    cargo test --release --locked "$@" -- --nocapture --test-threads=1
}

run() {
    case $1 in
    # A thousand requests at once for 1, 10 and 500 rooms, so many days.
    quotas) WEIR_TORTURE_ROUNDS=${WEIR_TORTURE_ROUNDS:-1000} tests --test it limits::thousand ;;
    # Admission against its sequential model.
    admission) WEIR_TORTURE_ROUNDS=${WEIR_TORTURE_ROUNDS:-100000} tests --lib admit:: ;;
    # Admission's threads, interleaved by a scheduler.
    interleave) tests --lib --features shuttle interleave ;;
    # The journal on a disk that forgets what was not synced.
    power) WEIR_SEEDS=${WEIR_SEEDS:-20000} tests --lib ledger::power_cut ;;
    # kill -9 under streams and short requests.
    kills) WEIR_TORTURE_KILLS=${WEIR_TORTURE_KILLS:-200} tests --test it torture::kills ;;
    # Mixed requests with every fault.
    mixed) WEIR_TORTURE_REQUESTS=${WEIR_TORTURE_REQUESTS:-100000} tests --test it many:: ;;
    # Every fixture, cut everywhere.
    cuts)
        export WEIR_TORTURE_CUTS=1
        tests --lib meter:: && tests --test it streams::cuts
        ;;
    # Files that can't grow, directories that can't be written to.
    disk)
        for ((round = 0; round < ${WEIR_TORTURE_DISKS:-20}; round++)); do
            tests --test it torture::disk || return 1
        done
        ;;
    # What the ledger costs, and how fast it is.
    ledger) WEIR_LEDGER_ROWS=${WEIR_LEDGER_ROWS:-10000000} cargo bench --locked --bench ledger ;;
    *)
        echo "no step $1; there are: ${steps[*]}" >&2
        return 2
        ;;
    esac
}

[[ $# -gt 0 ]] && steps=("$@")
# So that the seconds below are those of the proofs.
cargo test --release --locked --no-run
summary="| proof | result | seconds |\n|---|---|---|\n"
failed=0
for step in "${steps[@]}"; do
    echo "== $step" >&2
    begun=$SECONDS
    # In a process of its own, so that a failure ends the step and not this script.
    if (run "$step"); then result=held; else result=FAILED failed=1; fi
    summary+="| $step | $result | $((SECONDS - begun)) |\n"
done
cat "$report"
printf '\nWEIR_TORTURE_SEED=%s\n\n%b' "$seed" "$summary"
exit "$failed"
