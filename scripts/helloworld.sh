#!/usr/bin/env bash
# The smallest tour: a node, a topic, three records in, the same three out, a group that remembers.
source "$(dirname "$0")/lib.sh"

step="starting a node"
start_node
say "a node listens at $RAFKA_BROKERS"

step="creating a topic"
"$rafka" topic create greetings --partitions 1 --quiet
expect "the topic is listed" greetings "$("$rafka" topic list --output json | sed -n 's/.*"topic": "\(.*\)".*/\1/p')"

step="producing"
printf 'hello\nworld\nagain\n' | "$rafka" produce greetings --quiet

step="consuming"
expect "what went in comes out, in order" $'hello\nworld\nagain' "$("$rafka" consume greetings -e)"
expect "keys, offsets and formats" $'0:0 hello\n0:1 world\n0:2 again' \
    "$("$rafka" consume greetings -e -f '%p:%o %s\n')"
expect "the last record alone" again "$("$rafka" consume greetings -o -1 -e)"

step="consuming as a group"
expect "a group reads everything once" 3 "$("$rafka" consume greetings -g readers -e | wc -l | tr -d ' ')"
printf 'news\n' | "$rafka" produce greetings --quiet
expect "and then only what is new" news "$("$rafka" consume greetings -g readers -e)"

step="stopping"
stop_node
say "done"
