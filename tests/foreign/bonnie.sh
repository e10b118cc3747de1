#!/usr/bin/env bash
# bonnie++: blocks of a large file, seeks by several processes, many small files.
source "$(dirname "$0")/kit.sh"

size=512 ram=256 files=8:4096:0:8
if [[ $QUICK ]]; then size=64 ram=32 files=1:2048:0:2; fi
as=()
if (( $(id -u) == 0 )); then as=(-u root); fi

mkdir "$M/there"
timeout -k 5 900 bonnie++ -d "$M/there" -s $size -r $ram -n $files -f -q "${as[@]}" \
	> "$D/csv" 2> "$D/log" ||
	{ tail -n 5 "$D/log" >&2; fail bonnie++; }
[[ -s $D/csv ]] || fail "bonnie++ has no result"
[[ -z $(ls -A "$M/there") ]] || fail "left behind: $(ls -A "$M/there" | head -n 5)"
keeps
stop
