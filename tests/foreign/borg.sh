#!/usr/bin/env bash
# borg: backs up the mount to the disk and the disk into the mount; both come back the same.
source "$(dirname "$0")/kit.sh"

export HOME=$D BORG_BASE_DIR=$D BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes \
	BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
borg() {
	command borg "$@" > "$D/log" 2>&1 || { tail -n 5 "$D/log" >&2; fail "borg $1"; }
}

sources "$M/tree"
printf 'x%.0s' {1..300000} > "$M/tree/large"
echo hi > "$M/tree/again"; echo ho > "$M/tree/again"	# version 2
setfattr -n user.mine -v yes "$M/tree/large"
ln "$M/tree/large" "$M/tree/other"
ln -s large "$M/tree/link"
cp -a "$M/tree" "$D/plain"

# Of the mount.
borg init -e none "$D/out"
cd "$M"
borg create "$D/out::one" tree
echo more >> tree/again
borg create "$D/out::two" tree
borg check --verify-data "$D/out"
mkdir back && cd back
borg extract "$D/out::two"
look ../tree > "$D/one"; look tree > "$D/two"
# Whole, versions and all: a version that is restored is the one it was.
cmp "$D/one" "$D/two" || { diff "$D/one" "$D/two" | head -n 10 >&2; fail "restored differently"; }

# Into the mount.
borg init -e none "$M/in"
cd "$D"
borg create "$M/in::one" plain
borg create "$M/in::two" "$M/tree"
borg delete "$M/in::two"
borg compact "$M/in"
borg check --verify-data "$M/in"
mkdir "$D/back" && cd "$D/back"
borg extract "$M/in::one"
same "$D/plain" "$D/back/plain"
keeps
borg check --verify-data "$M/in"
stop
