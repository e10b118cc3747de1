#!/usr/bin/env bash
# git: a repository is made, cloned with and without links, packed and checked in the mount.
source "$(dirname "$0")/kit.sh"

rounds=30
if [[ $QUICK ]]; then rounds=3; fi

git() {
	command git -c user.name=cubby -c user.email=cubby@example.org -c gc.auto=0 \
		-c init.defaultBranch=main -c safe.directory='*' "$@"
}

if command git -c safe.directory='*' -C "$SOURCES" rev-parse -q --verify HEAD > /dev/null 2>&1; then
	git clone -q --no-local "$SOURCES" "$M/first"
else
	sources "$M/first"		# a tarball has no history: make some
	git -C "$M/first" init -q
	git -C "$M/first" add -A
	git -C "$M/first" commit -q -m first
fi
cd "$M"
git -C first fsck --full --strict --no-dangling 2>&1
git clone -q first second		# hard links
git clone -q --no-local first third
for n in $(seq "$rounds"); do
	echo "$n" >> second/README.md
	git -C second commit -q -a -m "change $n"
done
git -C second push -q origin HEAD:refs/heads/other
git -C third fetch -q
git -C third checkout -q -b other origin/other
for r in first second third; do
	git -C $r gc -q --aggressive --prune=now
	git -C $r fsck --full --strict --no-dangling 2>&1
	[[ -z $(git -C $r status --porcelain) ]] || fail "$r is not clean"
done
git -C third worktree add -q ../fourth HEAD~1
git -C third stash list
rm -rf second
keeps
cd "$M"
git -C third fsck --full --strict --no-dangling 2>&1
[[ -z $(git -C fourth status --porcelain) ]] || fail "the work tree is not clean"
stop
