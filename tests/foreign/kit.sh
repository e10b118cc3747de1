# kit.sh - sourced by every script here: a store of its own, mounted; looking twice; cleaning up.
#
# $M is the mount point, $D a folder on the plain disk beside it, $QUICK set for a short run. A
# script fails at the first command that fails. However it ends, nothing of it stays: no mount, no
# daemon, no folder. Processes it starts in the background it ends itself.
set -euo pipefail

: "${CUBBY:?}" "${VERIFY:?}"
QUICK=${QUICK:-}
BASE=$(mktemp -d "${TMPDIR:-/var/tmp}/cubby-foreign.XXXXXX")
S=$BASE/store M=$BASE/mount D=$BASE/disk
DAEMON=
chmod 711 "$BASE"	# ordinary users must get to the mount
mkdir "$M" "$D"
chmod 1777 "$D"

# Root's mounts let ordinary users in; theirs cannot.
options=sync=${SYNC:-close}
if (( $(id -u) == 0 )); then options+=,allow_other; fi

start() {
	"$CUBBY" mount -f -o "$options" "$S" "$M" > "$BASE/said" 2>&1 < /dev/null &
	DAEMON=$!
	for (( i = 0; i < 15000; i++ )); do	# far longer than it takes
		mountpoint -q "$M" && return
		kill -0 $DAEMON 2> /dev/null || break
		sleep 0.02
	done
	fail "not mounted"
}

# Unmounts; the daemon must end well, and the store be whole. Who has just ended may be in the mount
# for a moment still.
stop() {
	local daemon=$DAEMON tries=0
	cd /
	until "$CUBBY" umount "$M"; do
		(( tries++ < 100 )) || fail "it cannot be unmounted"
		sleep 0.2
	done
	DAEMON=
	wait "$daemon" || fail "the daemon ended with status $?"
	"$VERIFY" "$S" || fail "the store is damaged"
}

# The daemon dies at work, and the store is mounted again. Whoever was in the mount has lost it.
crash() {
	local daemon=$DAEMON
	cd /
	kill -9 "$daemon"
	wait "$daemon" 2> /dev/null || true
	DAEMON=
	umount -l "$M" 2> /dev/null || fusermount3 -u -z "$M"
	"$VERIFY" "$S" || fail "the store is damaged"
	start
}

fail() {
	echo "FAILED: $*" >&2
	if [[ -s $BASE/said ]]; then sed 's/^/daemon: /' "$BASE/said" >&2; fi
	exit 1
}

# clean [STATUS]: the script's end, and its exit status.
clean() {
	local status=${1:-$?}
	cd /
	trap - EXIT
	if mountpoint -q "$M" || ! stat "$M" > /dev/null 2>&1; then
		umount -l "$M" 2> /dev/null || fusermount3 -u -z "$M" || true
	fi
	if [[ $DAEMON ]]; then
		kill -9 "$DAEMON" 2> /dev/null || true
		wait "$DAEMON" 2> /dev/null || true
	fi
	rm -rf --one-file-system "$BASE"
	exit "$status"
}
trap clean EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# look DIR: everything that can be seen of a tree, in lines. What a directory weighs is nobody's
# business, and links change their times by being read.
look() {
	(
		cd "$1" || exit
		find . ! -type d -printf '%P %y %m %U %G %n %s %T@ %l\n' -o \
			-printf '%P %y %m %U %G %n %T@\n' | LC_ALL=C sort
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
		find . -print0 | LC_ALL=C sort -z | xargs -0r getfattr -h -d -m - -- |
			awk '/^# file: / { name = substr($0, 9); next } NF { print name, $0 }'
	)
}

# Whatever is in the mount is the same after unmounting and mounting again.
keeps() {
	look "$M" > "$BASE/before"
	stop
	start
	look "$M" > "$BASE/after"
	cmp -s "$BASE/before" "$BASE/after" && return
	diff "$BASE/before" "$BASE/after" | head -n 20 >&2 || true
	fail "not the same after mounting again"
}

# same DIR DIR: contents, modes, owners, times, links and attributes agree; versions need not.
same() {
	look "$1" | grep -v ' user\.cubby\.version=' > "$BASE/one" || true
	look "$2" | grep -v ' user\.cubby\.version=' > "$BASE/other" || true
	cmp -s "$BASE/one" "$BASE/other" && return
	diff "$BASE/one" "$BASE/other" | head -n 20 >&2 || true
	fail "$1 and $2 differ"
}

# user COMMAND...: as an ordinary user, if we are root.
user() {
	if (( $(id -u) == 0 )); then
		HOME=$D setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
	else
		"$@"
	fi
}

# The tree that is copied, kept and built: this project's own.
SOURCES=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")

# sources DIR: this project's files, as they lie here, without what was built from them.
sources() {
	mkdir -p "$1"
	tar -C "$SOURCES" --exclude=./build --exclude=./.git -cf - . | tar -C "$1" -xf -
}

start
