#!/usr/bin/env bash
# dbench: the file server's load, by several clients, checked by sizes as it goes.
source "$(dirname "$0")/kit.sh"

seconds=30 clients=8
if [[ $QUICK ]]; then seconds=4 clients=3; fi

mkdir "$M/there"
timeout -k 5 $((seconds * 4 + 400)) dbench -D "$M/there" -t $seconds $clients > "$D/log" 2>&1 ||
	{ tail -n 5 "$D/log" >&2; fail dbench; }
grep Throughput "$D/log"
! grep -E 'ERROR|FAILED|expected' "$D/log" || fail "dbench is not content"
keeps
stop
