#!/usr/bin/env bash
# Partitions: equal keys stay together and in order, a group shares the partitions, topics grow.
source "$(dirname "$0")/lib.sh"

keys=16
rounds=50

step="starting a node"
start_node
"$rafka" topic create orders --partitions 4 --quiet

step="producing keyed records"
for ((round = 1; round <= rounds; round++)); do
    for ((key = 1; key <= keys; key++)); do
        printf 'customer-%d:%d\n' "$key" "$round"
    done
done | "$rafka" produce orders -K : --quiet

step="reading them back"
"$rafka" consume orders -e -f '%p %k %s\n' >"$work/all"
expect "all records are there" $((keys * rounds)) "$(wc -l <"$work/all" | tr -d ' ')"
expect "every key lives in one partition" "$keys" \
    "$(cut -d' ' -f1,2 "$work/all" | sort -u | wc -l | tr -d ' ')"
used="$(cut -d' ' -f1 "$work/all" | sort -u | wc -l | tr -d ' ')"
[[ $used -gt 1 ]] || fail "all keys went to one of 4 partitions"
say "ok: the keys are spread over $used partitions"
expect "every key's records are in the order of sending" "" \
    "$(awk '{ if ($3 != last[$2] + 1) print $2, $3; last[$2] = $3 }' "$work/all")"

step="sharing the partitions in a group"
"$rafka" consume orders -g shop -f '%p %k %s\n' >"$work/member-1" 2>>"$work/members.log" &
first=$!
"$rafka" consume orders -g shop -f '%p %k %s\n' >"$work/member-2" 2>>"$work/members.log" &
second=$!
both_have_partitions() {
    "$rafka" group describe shop --output json 2>/dev/null |
        awk '/"partitions": \[$/ { owning++ } END { exit owning == 2 ? 0 : 1 }'
}
wait_until 60 both_have_partitions || fail "two members did not get partitions each"
say "ok: both members own partitions"
nothing_left() {
    [[ "$("$rafka" group lag shop --output json | awk '/"lag":/ { gsub(/[^0-9]/, "", $2); sum += $2; seen++ } END { print seen == 4 ? sum : "-" }')" == 0 ]]
}
wait_until 60 nothing_left || fail "the group did not read everything"
kill -TERM "$first" "$second"
wait "$first" "$second" || fail "a consumer did not end well after SIGTERM"
expect "together they read every record" "$(sort -u "$work/all")" \
    "$(sort -u "$work/member-1" "$work/member-2")"

step="growing the topic"
"$rafka" topic add-partitions orders --partitions 8 --quiet
expect "the topic has grown" 8 \
    "$("$rafka" topic describe orders --output json | grep -c '"leader_epoch"')"
expect "and has kept its records" $((keys * rounds)) \
    "$("$rafka" consume orders -e | wc -l | tr -d ' ')"

step="stopping"
stop_node
say "done"
