#!/usr/bin/env bash
# cp, tar, rsync: a tree with everything in it goes in and comes back the same.
source "$(dirname "$0")/kit.sh"

cd "$D"
mkdir tree
sources tree/sources
cd tree
mkdir -p odd/deep/er empty 'a name' && chmod 2775 odd && chmod 1777 empty
printf 'x%.0s' {1..70000} > odd/large
truncate -s 5M odd/holes; printf end | dd of=odd/holes bs=1 seek=3000000 conv=notrunc status=none
: > odd/nothing
echo hi > $'odd/new\nline'
ln odd/large odd/deep/again
ln -s ../odd/large 'a name/link'
ln -s /no/such/place dangling
mkfifo odd/fifo
chmod 4755 odd/nothing
if (( $(id -u) == 0 )); then
	chown -R 1000:1001 odd/deep; chown -h 7:8 dangling; chmod 6711 odd/large
	mknod odd/null c 1 3
fi
setfattr -n user.one -v two odd/large
setfattr -n user.empty odd
# rsync leaves a time alone that is right to the second: none may be now.
find . -exec touch -h -d '2011-12-13 14:15:16.171819202 UTC' {} +
touch -d '1969-07-20 20:17:40.123456789 UTC' odd/nothing
touch -d '2040-01-01 00:00:00.987654321 UTC' empty
touch -h -d '2001-02-03 04:05:06.7 UTC' dangling
cd ..

cp -a tree "$M/cp"
same tree "$M/cp"
tar --warning=no-timestamp --xattrs --xattrs-include='user.*' --sparse -cf tree.tar -C tree .
mkdir "$M/tar"
tar --warning=no-timestamp --xattrs --xattrs-include='user.*' -C "$M/tar" -xpf tree.tar
same tree "$M/tar"
rsync -aHAX --sparse tree/ "$M/rsync/"
same tree "$M/rsync"
# With -X it would try to take the versions away, each time, which the source does not have.
[[ -z $(rsync -aHAi --checksum --delete tree/ "$M/rsync/") ]] ||
	fail "rsync has something left to do"

# Within the mount, and out again.
cp -a "$M/cp" "$M/again"
same "$M/cp" "$M/again"
mv "$M/again" "$M/moved"
same tree "$M/moved"
mv "$M/moved" "$D/out"
same tree "$D/out"
[[ ! -e $M/moved ]] || fail "mv left something"
rsync -aHX "$M/rsync/" back/
same tree back
mkdir "$D/untar"
tar --xattrs -C "$M/tar" -cf - . |
	tar --warning=no-timestamp --xattrs --xattrs-include='user.*' -C "$D/untar" -xpf -
same tree "$D/untar"
keeps
same "$D/tree" "$M/cp"
rm -rf "$M/cp" "$M/rsync"
find "$M/tar" -delete
[[ -z $(ls -A "$M") ]] || fail "something is left"
stop
