#!/usr/bin/env bash
# Builds what is shipped, target/dist/weir, guided by a profile: first a program that counts where it comes
# along while it serves some thousand requests of the simulator inside it, then the one that knows those
# counts. Needs curl, and llvm-profdata of the compiler's LLVM, which is fetched if need be. Where there is
# none, the program is built without a profile; it does the same, and takes about a tenth more CPU.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/profile
profile=$work/weir.profdata
build=(cargo build --profile dist --features jemalloc,parquet --locked --bin weir)
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
home=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$home"' EXIT

fail() {
    echo "dist: $*" >&2
    exit 1
}

# Prints where the llvm-profdata is that reads what this compiler's programs write.
profdata() {
    local tool
    for tool in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "llvm-profdata-$llvm"; do
        command -v "$tool" && return
    done
    return 1
}

# Waits until a line of a log is there, and prints it.
line() {
    local log=$1 pattern=$2 found
    for _ in {1..600}; do
        found=$(grep -m 1 -- "$pattern" "$log") && echo "$found" && return
        sleep 0.1
    done
    fail "waited a minute for '$pattern' in:"$'\n'"$(cat "$log")"
}

# What a platform's users do, in proportions that only have to be sensible: the counts decide what is
# likely in the code, not how much of it there is.
serve_some() {
    local weir=$1 upstream address key
    "$weir" simulate --listen 127.0.0.1:0 --tokens 20 >"$home/simulator.log" 2>&1 &
    pids+=($!)
    upstream=$(line "$home/simulator.log" 'listens on' | grep -o 'http://[0-9.:]*')
    cat >"$home/weir.toml" <<END
[server]
listen = "127.0.0.1:0"
workers = 2
[admin]
listen = "127.0.0.1:0"
[data]
dir = "$home/data"
[log]
format = "json"
[[upstream]]
name = "simulator"
base_url = "$upstream"
api_key = "env:DIST_KEY"
models = ["gpt-5.4"]
END
    export DIST_KEY=none
    key=$("$weir" --config "$home/weir.toml" key create --tenant dist --rpm 1000000000 \
        --tpm 1000000000000 --concurrency 10000 --daily-tokens 1000000000000 --monthly-tokens 1000000000000 \
        --daily-requests 1000000000 --monthly-requests 1000000000 --format json 2>"$home/key.log" |
        grep -o 'sk-weir-[0-9A-Za-z]*') || fail "no key was made:"$'\n'"$(cat "$home/key.log")"
    "$weir" --config "$home/weir.toml" serve >"$home/weir.log" 2>&1 &
    pids+=($!)
    address=$(line "$home/weir.log" '"ready"' | grep -o '"listen":"[^"]*"' | cut -d '"' -f 4)

    local url=http://$address/v1
    local curl=(curl --silent --show-error --no-progress-meter --fail --output /dev/null
        --header 'Content-Type: application/json' --header 'User-Agent: OpenAI/Python 2.1.0' --header 'Expect:')
    local chat='{"model":"gpt-5.4","messages":[{"role":"user","content":"What is a weir, how does it differ from a dam, and why is water measured at one?"}],"temperature":0.7'
    local keyed=("${curl[@]}" --header "Authorization: Bearer $key")
    "${keyed[@]}" "$url/models?[1-100]"
    "${keyed[@]}" --data "$chat}" "$url/chat/completions?[1-6000]"
    "${keyed[@]}" --parallel --parallel-max 16 --data "$chat}" "$url/chat/completions?[1-6000]"
    "${keyed[@]}" --parallel --parallel-max 16 --data "$chat,\"stream\":true}" "$url/chat/completions?[1-500]"
    # Events one by one, as they come from a model.
    "${keyed[@]}" --parallel --parallel-max 16 --header 'x-sim-interval-ms: 2' \
        --data "$chat,\"stream\":true,\"stream_options\":{\"include_usage\":true}}" "$url/chat/completions?[1-500]"
    {
        printf '%s,"user":"' "$chat"
        head -c 786432 /dev/zero | base64 --wrap 0
        printf '"}'
    } >"$home/large.json"
    "${keyed[@]}" --data "@$home/large.json" "$url/chat/completions?[1-30]"
    # Refused, which is right.
    "${curl[@]}" --header 'Authorization: Bearer sk-none' "$url/models?[1-20]" 2>/dev/null || true
    # The counts are written at the end.
    kill "${pids[@]}"
    wait "${pids[@]}" || fail "the program that counts did not end well:"$'\n'"$(cat "$home/weir.log")"
    pids=()
}

tool=$(profdata) || {
    command -v rustup >/dev/null && rustup component add llvm-tools >&2 || true
    tool=$(profdata) || {
        scripts/debian-tools.sh -- "llvm-profdata-$llvm=llvm-$llvm" || true
        tool=$(profdata) || tool=
    }
}
if [[ ! $tool ]] || ! command -v curl >/dev/null; then
    echo "dist: there is no llvm-profdata for this compiler (rustup component add llvm-tools) or no curl;" \
        "building without a profile" >&2
    "${build[@]}"
    exit
fi
if [[ ! -e $profile || $(find src Cargo.toml Cargo.lock scripts/dist.sh -newer "$profile" | head -c 1) ]]; then
    echo "dist: the first of two builds, with counters" >&2
    # What runs during the build has counters as well. Where they are written is said below.
    LLVM_PROFILE_FILE=/dev/null RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-generate=$work" \
        "${build[@]}" --target-dir "$work"
    echo "dist: serving some requests" >&2
    LLVM_PROFILE_FILE="$home/%p.profraw" serve_some "$work/dist/weir"
    "$tool" merge --output "$profile" "$home"/*.profraw
fi
echo "dist: the build that is shipped" >&2
RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-use=$profile" "${build[@]}"
