#!/usr/bin/env bash
# restic: backs up the mount to the disk and the disk into the mount; both come back the same.
source "$(dirname "$0")/kit.sh"

export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$D/cache HOME=$D
restic() {
	command restic -q "$@" > "$D/log" 2>&1 || { tail -n 5 "$D/log" >&2; fail "restic $1"; }
}

sources "$M/tree"
printf 'x%.0s' {1..300000} > "$M/tree/large"
echo hi > "$M/tree/again"; echo ho > "$M/tree/again"	# version 2
setfattr -n user.mine -v yes "$M/tree/large"
ln "$M/tree/large" "$M/tree/other"
ln -s large "$M/tree/link"
cp -a "$M/tree" "$D/plain"

# Of the mount.
restic init -r "$D/out"
cd "$M" && restic backup -r "$D/out" tree
echo more >> tree/again
restic backup -r "$D/out" tree
restic check -r "$D/out" --read-data
mkdir "$M/back"
restic restore latest -r "$D/out" --target "$M/back"
look tree > "$D/one"; look back/tree > "$D/two"
# Whole, versions and all: a version that is restored is the one it was.
cmp "$D/one" "$D/two" || { diff "$D/one" "$D/two" | head -n 10 >&2; fail "restored differently"; }

# Into the mount.
restic init -r "$M/in"
restic backup -r "$M/in" "$D/plain"
restic backup -r "$M/in" "$M/tree"
restic forget -r "$M/in" --keep-last 1 --prune
restic check -r "$M/in" --read-data
restic restore latest -r "$M/in" --target "$D/back" --path "$D/plain"
same "$D/plain" "$D/back$D/plain"
keeps
restic check -r "$M/in" --read-data
stop
