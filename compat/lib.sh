# What the scripts of this folder share. Sourced, not run.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/rafka-compat"
mkdir -p "$cache"

# need COMMAND PACKAGE: installs a Debian package if the command is not there.
need() {
    command -v "$1" >/dev/null || {
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"
    } >"$work/apt.log" 2>&1 || fail "cannot install $2: $(tail -n 3 "$work/apt.log")"
}

# Starts a node; clients reach it at $address.
start_kafka_node() {
    start_node "$@"
    address="$(sed -n 's/.*"kafka":"\([^"]*\)".*/\1/p' "$work/ready")"
    [[ -n "$address" ]] || fail "the node does not say where it speaks Kafka's protocol: $(<"$work/ready")"
}

# publish SECTION: writes standard input into that section of the page about clients and suites.
publish() {
    local page="docs/reference/kafka-compat.md"
    cat >"$work/section"
    sed -e "/^<!-- begin $1 -->/r $work/section" -e "/^<!-- begin $1 -->/,/^<!-- end $1 -->/{//!d}" \
        "$page" >"$work/page"
    cp "$work/page" "$page"
}
