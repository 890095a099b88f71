#!/usr/bin/env bash
# Durability: the node is killed with SIGKILL while producers write, three times. Everything that
# was acknowledged is there afterwards, once and in order. Then every file is checked.
source "$(dirname "$0")/lib.sh"

kills=3
per_round=20000

step="starting a node"
start_node
"$rafka" topic create ledger --partitions 2 --quiet

# Numbered lines of one key, a few at a time, and the last ones only when the node was killed.
lines() {
    local first=$((per_round * ($2 - 1) + 1)) last=$((per_round * $2)) chunk=500
    while ((first <= last)); do
        if ((last - first < chunk)); then
            until [[ -e $work/killed-$2 ]]; do sleep 0.02; done
        fi
        seq -f "account-$1:%.0f" "$first" $((first + chunk - 1))
        first=$((first + chunk))
        [[ -e $work/killed-$2 ]] || sleep 0.02
    done
}

# Writes them; retries through the kill until all are acknowledged.
write() {
    lines "$1" "$2" | "$rafka" produce ledger -K : --timeout '60 s' --quiet
}

for ((kill = 1; kill <= kills; kill++)); do
    step="writing through kill $kill"
    write 1 "$kill" 2>>"$work/producers.log" &
    first=$!
    write 2 "$kill" 2>>"$work/producers.log" &
    second=$!
    some_arrived() {
        local end
        end="$("$rafka" topic describe ledger --output json | awk '/"end_offset":/ { gsub(/[^0-9]/, "", $2); sum += $2 } END { print sum + 0 }')"
        [[ $end -gt $((2 * per_round * (kill - 1))) ]]
    }
    wait_until 60 some_arrived || fail "no record arrived"
    kill_node
    touch "$work/killed-$kill"
    start_node
    wait "$first" && wait "$second" || fail "a producer gave up: $(tail -n 3 "$work/producers.log")"
    say "ok: kill $kill was survived; the node was ready again in $(sed -n 's/.*"ready_ms":\([0-9]*\).*/\1/p' "$work/ready") ms"
done

step="reading everything back"
"$rafka" consume ledger -e -f '%k %s\n' >"$work/all"
expect "everything acknowledged is there" $((2 * kills * per_round)) "$(wc -l <"$work/all" | tr -d ' ')"
expect "nothing is there twice, nothing out of order" "" \
    "$(awk '{ if ($2 != last[$1] + 1) print $1, $2; last[$1] = $2 }' "$work/all")"

step="a stop in order, and a start after it"
stop_node
expect "every file passes its checksums" 0 "$("$rafka" log verify "$work/data" --quiet >"$work/verify" && echo 0 || cat "$work/verify")"
start_node
expect "everything is still there" $((2 * kills * per_round)) "$("$rafka" consume ledger -e | wc -l | tr -d ' ')"
stop_node
say "done"
