#!/usr/bin/env bash
# README's first steps on a bare Debian: a minimal system in a directory (debootstrap), in it nothing but Rust, a C compiler,
# make and git; a clone of this repository, the demo until its first metered answer, then `make test`. Prints how long each took.
# To be run by hand, as root: it needs debootstrap, some gigabytes and most of an hour.
#
#   scripts/bare.sh DIR [--suite trixie] [--mirror URL] [--with PATH]… [--only-demo]
#
# --with makes a file or directory of this machine visible in there under the same name, such as certificates or a
# configuration of cargo, pip or npm that points to a mirror.
set -euo pipefail

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[[ $# -ge 1 && $1 != -* ]] || usage
root=$(realpath -m "$1"); shift
suite=trixie mirror= with=() only_demo=
while [[ $# -gt 0 ]]; do
    case $1 in
        --suite) suite=$2; shift 2 ;;
        --mirror) mirror=$2; shift 2 ;;
        --with) with+=("$(realpath "$2")"); shift 2 ;;
        --only-demo) only_demo=1; shift ;;
        *) usage ;;
    esac
done
repository=$(git -C "$(dirname "$0")/.." rev-parse --show-toplevel)
rust=$(cd "$repository" && rustc --print sysroot)

say() { echo "== $1: $SECONDS s"; }
inside() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 bash -euo pipefail -c "$1"; }
tidy_up() { for path in "${mounted[@]}"; do umount "$path" || true; done; }
mounted=()
trap tidy_up EXIT
show() {
    mkdir -p "$(dirname "$root$2")"
    if [[ -d $1 ]]; then mkdir -p "$root$2"; else touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    mounted=("$root$2" "${mounted[@]}")
}

[[ -e $root/etc/debian_version ]] || debootstrap --variant=minbase --include=ca-certificates,gcc,git,libc6-dev,make "$suite" "$root" ${mirror:+"$mirror"} >"$root.log"
say "a bare $suite"
mkdir -p "$root/proc"
mount -t proc proc "$root/proc"; mounted=("$root/proc" "${mounted[@]}")
for device in null zero urandom random tty; do show "/dev/$device" "/dev/$device"; done
mkdir -p "$root/dev/shm"; mount -t tmpfs tmpfs "$root/dev/shm"; mounted=("$root/dev/shm" "${mounted[@]}")
show "$rust" /opt/rust
cp /etc/resolv.conf "$root/etc/resolv.conf"
for path in ${with[@]+"${with[@]}"}; do show "$path" "$path"; done

if [[ -d $root/root/weir ]]; then
    git -C "$root/root/weir" pull --quiet "$repository" HEAD
else
    git clone --quiet "$repository" "$root/root/weir"
fi
SECONDS=0
# README: the demo, and what it says to type. `cargo run` becomes the program that it runs, so they have one process id.
inside 'cd ~/weir && : >demo.log
    cargo run --release --locked -- demo >demo.log 2>&1 & demo=$!
    trap "kill $demo" EXIT
    until grep -q "^  key " demo.log; do kill -0 "$demo" || { cat demo.log; exit 1; }; sleep 1; done
    key=$(sed -n "s/^  key *//p" demo.log)
    exec 3<>/dev/tcp/127.0.0.1/8080
    body="{\"model\":\"gpt-5.4\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"
    printf "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n%s" "$key" "${#body}" "$body" >&3
    head -1 <&3
    until WEIR__DATA__DIR=weir-data/demo target/release/weir usage | grep gpt-5.4; do sleep 1; done
    trap - EXIT
    kill "$demo"
    wait "$demo"'
say "from the clone to the first metered answer"
[[ -z $only_demo ]] || exit 0
SECONDS=0
inside 'cd ~/weir && make test' 2>&1 | tee "$root.test.log" | grep -E "^(test result|installing|== )|is missing|FAILED" || true
say "make test"
