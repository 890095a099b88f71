# What the scripts share: a node of their own in a directory of their own, checks, cleaning up.
# Sourced, not run. Needs bash and what every Linux has; no port is fixed, nothing is left behind.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rafka="${RAFKA_BIN:-${CARGO_TARGET_DIR:-target}/release/rafka}"
work="$(mktemp -d "${TMPDIR:-/tmp}/rafka-script-XXXXXX")"
node_pid=""
step="starting"

say() { printf '%s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    if [[ -s "$work/node.log" ]]; then
        printf 'the node said:\n' >&2
        tail -n 15 "$work/node.log" >&2
    fi
    exit 1
}

finish() {
    local code=$?
    trap - EXIT
    if [[ -n "$node_pid" ]] && kill -0 "$node_pid" 2>/dev/null; then
        kill -9 "$node_pid" 2>/dev/null || true
        wait "$node_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
    if [[ $code -ne 0 && $code -ne 77 ]]; then
        printf 'FAILED while: %s\n' "$step" >&2
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [[ ! -x "$rafka" ]]; then
    step="building"
    say "building the release binary once"
    cargo build --release --locked --quiet
fi

# wait_until SECONDS COMMAND...: runs the command until it succeeds.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [[ $SECONDS -lt $deadline ]] || return 1
        sleep 0.02
    done
}

is_ready() {
    kill -0 "$node_pid" 2>/dev/null || fail "the node ended before it was ready"
    grep -q '"grpc"' "$work/ready" 2>/dev/null
}

# start_node [FLAG...]: starts a node in $work/data and waits until it is ready. A node that is
# started again listens where the one before it did, as a service would.
start_node() {
    : >"$work/ready"
    (
        exec "$rafka" serve --output json --data-dir "$work/data" --http-listen 127.0.0.1:0 \
            --kafka-listen 127.0.0.1:0 \
            --grpc-listen "${RAFKA_BROKERS:-127.0.0.1:0}" "$@"
    ) >"$work/ready" 2>>"$work/node.log" &
    node_pid=$!
    wait_until 60 is_ready || fail "the node was not ready within 60 s"
    RAFKA_BROKERS="$(sed -n 's/.*"grpc":"\([^"]*\)".*/\1/p' "$work/ready")"
    http="$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' "$work/ready")"
    export RAFKA_BROKERS http
}

# stop_node: asks the node to stop and expects it to end well.
stop_node() {
    local code=0
    kill -TERM "$node_pid"
    wait "$node_pid" || code=$?
    node_pid=""
    [[ $code -eq 0 ]] || fail "the node ended with code $code after SIGTERM"
}

# kill_node: what happens when memory runs out or a person errs.
kill_node() {
    kill -9 "$node_pid"
    wait "$node_pid" 2>/dev/null || true
    node_pid=""
}

# expect WHAT EXPECTED FOUND
expect() {
    if [[ "$2" != "$3" ]]; then
        fail "$1: expected $(printf '%q' "$2"), found $(printf '%q' "$3")"
    fi
    say "ok: $1"
}
