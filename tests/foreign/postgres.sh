#!/usr/bin/env bash
# PostgreSQL: a cluster in the mount, as an ordinary user; pgbench, checksums, a dump. The server is
# killed at work, and so is the daemon below it.
source "$(dirname "$0")/kit.sh"

bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
scale=3 seconds=15
if [[ $QUICK ]]; then scale=1 seconds=4; fi
if (( $(id -u) == 0 )); then chmod 777 "$M"; fi
export PGHOST=$D PGUSER=cubby PGDATABASE=postgres PGCONNECT_TIMEOUT=20
cluster=$M/cluster

server() {
	user "$bin/pg_ctl" -s -w -t 120 -D "$cluster" -l "$D/log" \
		-o "-c listen_addresses= -c unix_socket_directories=$D" "$@" ||
		{ tail -n 20 "$D/log" >&2; return 1; }
}
# The server is not our child: whatever happens it goes before the mount does.
pid=
end_server() {
	[[ $pid ]] || return 0
	kill -QUIT "$pid" 2> /dev/null || true
	for (( i = 0; i < 300; i++ )); do
		kill -0 "$pid" 2> /dev/null || return 0
		sleep 0.1
	done
	kill -KILL "$pid"
}
trap 'status=$?; trap - EXIT; end_server || true; clean $status' EXIT

cd "$D"
user "$bin/initdb" -D "$cluster" -U cubby --data-checksums -A trust > "$D/initdb" ||
	{ tail -n 5 "$D/initdb" >&2; fail initdb; }
server start
pid=$(head -n 1 "$cluster/postmaster.pid")
user "$bin/pgbench" -q -i -s $scale 2>&1 | tail -n 1
user "$bin/pgbench" -n -c 4 -j 2 -T $seconds | grep -E 'tps|failed'
user "$bin/psql" -qAt -c 'vacuum full' -c 'reindex database postgres' -c checkpoint
sum='select sum(abalance) from pgbench_accounts union all select sum(delta) from pgbench_history
	union all select sum(bbalance) from pgbench_branches'
equal() {
	(( $(user "$bin/psql" -qAt -c "$sum" | sort -u | wc -l) == 1 )) || fail "the books do not balance"
}
# Newer ones write a random word into each dump.
dump() {
	user "$bin/pg_dump" | grep -v '^.\(un\)\?restrict '
}
equal

# Killed under load, it recovers from its own log.
user "$bin/pgbench" -n -c 4 -j 2 -T 30 > /dev/null 2>&1 &
load=$!
sleep 2
server -m immediate stop; pid=
wait $load || true
server start
pid=$(head -n 1 "$cluster/postmaster.pid")
equal

# So it does when its files are gone for a moment, and what was not synced for good.
user "$bin/pgbench" -n -c 4 -j 2 -T 30 > /dev/null 2>&1 &
load=$!
sleep 2
crash
end_server
wait $load || true
server start
pid=$(head -n 1 "$cluster/postmaster.pid")
equal
user "$bin/pg_amcheck" --install-missing -a > /dev/null || fail pg_amcheck
dump > "$D/one"
server stop; pid=
user "$bin/pg_checksums" -c -D "$cluster" | grep 'Bad checksums: *0$' || fail "checksums"

keeps
server start
pid=$(head -n 1 "$cluster/postmaster.pid")
equal
dump > "$D/two"
cmp "$D/one" "$D/two" || fail "the dumps differ"
server stop; pid=
cd /
stop
