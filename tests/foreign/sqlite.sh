#!/usr/bin/env bash
# sqlite3: several clients at once count up and add rows, with a rollback journal and with a
# write-ahead log (whose index is mapped and shared); nothing is lost and every check agrees.
source "$(dirname "$0")/kit.sh"

clients=4 rounds=60
if [[ $QUICK ]]; then rounds=12; fi

client() {
	local db=$1 who=$2 n
	for (( n = 0; n < rounds; n++ )); do
		sqlite3 -cmd '.timeout 400000' "$db" "
			begin immediate;
			update counter set n = n + 1;
			insert into line select $who, $n, hex(randomblob(200 + $n * 37 % 3000));
			commit;" || return
		if (( n % 10 == 3 )); then
			sqlite3 -cmd '.timeout 400000' "$db" \
				"delete from line where who = $who and n < $n - 5;" || return
			sqlite3 -cmd '.timeout 400000' "$db" 'select count(*) from line' > /dev/null || return
		fi
	done
}

for mode in delete truncate persist wal; do
	db=$M/$mode.db
	sqlite3 "$db" "pragma journal_mode = $mode; pragma synchronous = full;
		create table counter (n); insert into counter values (0);
		create table line (who, n, text); create index by_text on line (text);" > /dev/null
	crowd=()
	for (( who = 0; who < clients; who++ )); do
		client "$db" $who &
		crowd+=($!)
	done
	for pid in "${crowd[@]}"; do wait "$pid" || fail "a client of $mode"; done
	[[ $(sqlite3 "$db" 'pragma integrity_check; select n from counter') == \
		$'ok\n'$(( clients * rounds )) ]] || fail "$mode: counts or pages are wrong"
	sqlite3 "$db" 'vacuum; pragma integrity_check' | grep -qx ok || fail "$mode after vacuum"
done

# Clients who were told that it was done find it done, when the daemon was killed at work. One that
# comes late may meet the next daemon already.
teller() {
	local db=$1 told=$2
	while [[ ! -e $told.over ]] &&
		sqlite3 -cmd '.timeout 400000' "$db" 'update counter set n = n + 1' 2> /dev/null; do
		echo x >> "$told"
	done
	return 0
}

for mode in delete wal; do
	db=$M/$mode.db
	before=$(sqlite3 "$db" 'select n from counter')
	rm -f "$D/told.over"
	: > "$D/told"
	crowd=()
	for (( who = 0; who < clients; who++ )); do
		teller "$db" "$D/told" &
		crowd+=($!)
	done
	sleep 1
	until [[ -s $D/told ]]; do sleep 0.1; done
	: > "$D/told.over"
	crash
	for pid in "${crowd[@]}"; do wait "$pid"; done
	[[ $(sqlite3 "$db" 'pragma integrity_check') == ok ]] || fail "$mode after a crash"
	done=$(( $(sqlite3 "$db" 'select n from counter') - before )) told=$(wc -l < "$D/told")
	(( told > 0 && done >= told && done <= told + clients )) ||
		fail "$mode: $done were done, and $told told so"
done
keeps
for db in "$M"/*.db; do
	sqlite3 "$db" 'pragma integrity_check' | grep -qx ok || fail "$db"
done
stop
