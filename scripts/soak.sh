#!/usr/bin/env bash
# A node in 256 MiB of memory under mixed load: it is not killed, its memory stays flat, and nothing
# acknowledged is lost. Needs the right to make a memory control group, which mostly means root.
#   scripts/soak.sh [SECONDS]   180 unless told otherwise
source "$(dirname "$0")/lib.sh"

seconds="${1:-180}"
limit=$((256 << 20))

step="making a memory control group"
if [[ -d /sys/fs/cgroup/memory ]]; then
    mkdir "/sys/fs/cgroup/memory/rafka-soak-$$"
    node_group="/sys/fs/cgroup/memory/rafka-soak-$$"
    echo "$limit" >"$node_group/memory.limit_in_bytes"
else
    mkdir "/sys/fs/cgroup/rafka-soak-$$"
    node_group="/sys/fs/cgroup/rafka-soak-$$"
    echo "$limit" >"$node_group/memory.max"
fi

step="starting a node"
start_node
"$rafka" topic create ledger --partitions 4 --quiet
say "a node in $((limit >> 20)) MiB listens at $RAFKA_BROKERS"

# Steady numbered records beside the load: they show whether anything is lost.
step="loading the node for $seconds s"
while [[ ! -e "$work/stop" ]]; do
    date +mark:%s%N
    sleep 0.02
done | "$rafka" produce ledger -K : --timeout '120 s' 2>"$work/marks" &
marks=$!
end=$((SECONDS + seconds))
(
    while [[ $SECONDS -lt $end ]]; do
        "$rafka" bench consume -b "$RAFKA_BROKERS" --seconds 8 --rounds 1 --connections 4 --partitions 8 --quiet
        "$rafka" bench produce -b "$RAFKA_BROKERS" --seconds 8 --rounds 1 --connections 8 --partitions 8 \
            --in-flight 64 --batch '512 KiB' --durability both --quiet
    done
) >>"$work/bench.log" 2>&1 &
load=$!
: >"$work/resident"
while kill -0 "$load" 2>/dev/null; do
    kill -0 "$node_pid" 2>/dev/null || fail "the node was killed"
    awk '/VmRSS/ { print $2 }' "/proc/$node_pid/status" >>"$work/resident"
    sleep 1
done
wait "$load" || fail "the load failed: $(tail -n 3 "$work/bench.log")"
touch "$work/stop"
wait "$marks" || fail "a record was not acknowledged: $(cat "$work/marks")"

step="checking"
# The middle and the last third must be alike: what only grows would show.
read -r middle last highest < <(awk '
    { kib[NR] = $1; if ($1 > highest) highest = $1 }
    END {
        for (i = 1; i <= NR; i++) {
            if (i > NR / 3 && i <= 2 * NR / 3) { m += kib[i]; mc++ }
            if (i > 2 * NR / 3) { l += kib[i]; lc++ }
        }
        printf "%d %d %d\n", m / mc / 1024, l / lc / 1024, highest / 1024
    }' "$work/resident")
say "resident memory: $middle MiB on average in the middle third, $last MiB in the last, $highest MiB at most"
[[ $((last * 4)) -le $((middle * 5)) ]] || fail "memory grows"
say "ok: memory is flat"
acked="$(sed -n 's/^\([0-9]*\) records acknowledged$/\1/p' "$work/marks")"
expect "every acknowledged record is there" "$acked" "$("$rafka" consume ledger -e | wc -l | tr -d ' ')"

step="stopping"
stop_node
say "done"
