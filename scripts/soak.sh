#!/usr/bin/env bash
# Soak: a node within 256 MiB of memory takes a steady load for a while, with a consumer group that
# rebalances and a consumer that does not keep up. It fails if the node dies, if its memory goes on
# growing, or if anything acknowledged is lost or doubled.
#
#   scripts/soak.sh [SECONDS]      180 by default; at least 60, which is when memory has settled
#
# Needs root and a cgroup memory controller (v1 or v2): without, it says so and exits with 77. CI runs
# it for 60 seconds.
source "$(dirname "$0")/lib.sh"

seconds="${1:-180}"
limit_mib=256
producers=(a b)
per_second=2000 # records of each producer, about 1 KiB each
keys=40         # of each producer: enough that every partition gets some
sample_every=2
[[ "$seconds" =~ ^[0-9]+$ && $seconds -ge 60 ]] || fail "say how many seconds, at least 60"

group=""
clients=()

# skip REASON: this machine cannot do it.
skip() {
    say "skipped: $*"
    exit 77
}

# make_group: a cgroup that limits memory, by whichever controller the machine has.
make_group() {
    local limit=$((limit_mib * 1024 * 1024)) root=/sys/fs/cgroup
    if [[ -f "$root/memory/memory.limit_in_bytes" ]]; then
        mkdir "$root/memory/rafka-soak-$$" || skip "cannot make a cgroup: run as root"
        group="$root/memory/rafka-soak-$$"
        echo "$limit" >"$group/memory.limit_in_bytes"
    elif grep -qw memory "$root/cgroup.controllers" 2>/dev/null; then
        echo +memory >"$root/cgroup.subtree_control" || skip "cannot use cgroups: run as root"
        mkdir "$root/rafka-soak-$$" || skip "cannot make a cgroup: run as root"
        group="$root/rafka-soak-$$"
        echo "$limit" >"$group/memory.max"
        echo 0 >"$group/memory.swap.max" 2>/dev/null || true
    else
        skip "this machine has no cgroup memory controller, neither v1 nor v2"
    fi
}

# oom_kills: how often the kernel killed in the group.
oom_kills() {
    cat "$group/memory.oom_control" "$group/memory.events" 2>/dev/null |
        awk '$1 == "oom_kill" { print $2; found = 1 } END { if (!found) print 0 }'
}

clean_up() {
    local code=$?
    set +e
    for pid in "${clients[@]}" $node_pid; do
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    if [[ -n "$group" ]]; then
        wait_until 5 rmdir "$group" 2>/dev/null || say "left behind: $group"
    fi
    (exit "$code")
    finish
}
trap clean_up EXIT

# numbered PRODUCER FROM TO [PADDING]: a line for each number, under one of the producer's keys.
numbered() {
    seq "$2" "$3" | awk -v who="$1" -v keys="$keys" -v pad="${4:+ $4}" '{ print who $1 % keys ":" $1 pad }'
}

# records PRODUCER: numbered records at a bounded rate until the time is over; their count to a file.
records() {
    local last=0 pad
    pad="$(printf 'x%.0s' {1..1000})"
    while [[ $SECONDS -lt $load_end ]]; do
        numbered "$1" $((last + 1)) $((last + per_second / 5)) "$pad"
        last=$((last + per_second / 5))
        echo "$last" >"$work/sent-$1"
        sleep 0.2
    done
}

# numbers FILE: keeps key and number of what a consumer prints.
numbers() { awk '{ print $1, $2 }' >>"$1"; }

# median FILE FROM TO: of the lines of a file of numbers.
median() { sed -n "$2,$3p" "$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

is_alive() {
    kill -0 "$node_pid" 2>/dev/null || fail "the node died (oom kills: $(oom_kills))"
}

step="limiting memory"
make_group
cat >"$work/limited" <<EOF
#!/bin/sh
echo \$\$ >"$group/cgroup.procs"
exec "$(realpath "$rafka")" "\$@"
EOF
chmod +x "$work/limited"

step="starting a node"
unlimited="$rafka"
rafka="$work/limited"
start_node
rafka="$unlimited"
"$rafka" topic create soak --partitions 6 --quiet
say "a node in $limit_mib MiB, ${#producers[@]} x $per_second records of 1 KiB a second, for $seconds s"

step="putting load on it"
load_end=$((SECONDS + seconds))
writers=()
for producer in "${producers[@]}"; do
    "$rafka" produce soak -K : --quiet < <(records "$producer") 2>>"$work/clients.log" &
    writers+=($!)
    clients+=($!)
done
members=()
for member in 1 2; do
    "$rafka" consume soak -g workers -f '%k %s\n' --quiet > >(numbers "$work/group-$member") 2>>"$work/clients.log" &
    members+=($!)
    clients+=($!)
done
"$rafka" consume soak --quiet > >(while read -r _; do sleep 0.05; done) 2>>"$work/clients.log" &
clients+=($!)

visits=0
while [[ $SECONDS -lt $load_end ]]; do
    for ((sample = 0; sample < 5 && SECONDS < load_end; sample++)); do
        sleep "$sample_every"
        is_alive
        awk '/^VmRSS:/ { print $2 }' "/proc/$node_pid/status" >>"$work/rss"
    done
    # A member that comes, takes its part of the work, and leaves: two rebalances. It needs records
    # to come until it has enough.
    [[ $((SECONDS + 20)) -lt $load_end ]] || continue
    timeout 20 "$rafka" consume soak -g workers -c 500 -f '%k %s\n' --quiet 2>>"$work/clients.log" |
        numbers "$work/group-visitor" || fail "a visiting member failed: $(tail -n 3 "$work/clients.log")"
    visits=$((visits + 1))
done

step="waiting for the last acknowledgements"
for pid in "${writers[@]}"; do
    wait "$pid" || fail "a producer gave up: $(tail -n 3 "$work/clients.log")"
done
is_alive
for producer in "${producers[@]}"; do
    numbered "$producer" 1 "$(cat "$work/sent-$producer")" | tr ':' ' '
done | sort >"$work/expected"
total="$(wc -l <"$work/expected" | tr -d ' ')"

step="waiting for the group to come to the end"
lag() {
    "$rafka" group lag workers --output json |
        awk '/"lag":/ { gsub(/[^0-9]/, "", $2); sum += $2 } END { print sum + 0 }'
}
is_at_the_end() { [[ "$(lag)" == 0 ]]; }
wait_until 60 is_at_the_end || fail "the group is still $(lag) records behind"
for pid in "${members[@]}"; do
    kill -TERM "$pid"
    wait "$pid" || true
done
# What the members printed is still on its way through a pipe.
everything_consumed() {
    cat "$work"/group-* | sort -u | cmp -s - "$work/expected"
}
wait_until 10 everything_consumed ||
    fail "the group missed records: $(cat "$work"/group-* | sort -u | comm -13 - "$work/expected" | head -n 3)"
say "ok: the group saw all $total records through $((2 * visits)) rebalances"

step="reading everything back"
"$rafka" consume soak -e -f '%k %s\n' --quiet | awk '{ print $1, $2 }' >"$work/all"
is_alive
expect "everything acknowledged is there once" "" \
    "$(sort "$work/all" | diff - "$work/expected" | head -n 3)"
expect "nothing is out of order" "" \
    "$(awk '{ if ($2 <= last[$1]) print $1, $2; last[$1] = $2 }' "$work/all" | head -n 3)"

step="judging the memory"
# The first third is for caches to fill; the next is held against the last.
samples="$(wc -l <"$work/rss" | tr -d ' ')"
early="$(median "$work/rss" $((samples / 3 + 1)) $((2 * samples / 3)))"
late="$(median "$work/rss" $((2 * samples / 3 + 1)) "$samples")"
peak="$(sort -n "$work/rss" | tail -n 1)"
mib() { awk -v kib="$1" 'BEGIN { printf "%.1f MiB", kib / 1024 }'; }
say "resident: $(mib "$early") early, $(mib "$late") late, $(mib "$peak") at most, of $limit_mib MiB; $samples samples"
expect "the kernel killed nothing" 0 "$(oom_kills)"
[[ $late -le $((early + early / 5)) ]] || fail "memory grows: $(mib "$early") early, $(mib "$late") late"
say "ok: memory does not grow"
stop_node
say "done"
