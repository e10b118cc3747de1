#!/usr/bin/env bash
# stress-ng: every file system stressor it has that looks at files of the folder it is given, a
# few seconds each. --verify: what was read back is compared, and a difference is a failure.
source "$(dirname "$0")/kit.sh"

# Left out: what tests the kernel elsewhere (bind-mount binderfs eventfd io open procfs), and what
# goes on in the machine's /dev.
all=(access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate
	fanotify fcntl fiemap file-ioctl filename flock fpunch fsize fstat getdent handle hdd
	inode-flags inotify iomix ioprio lease link locka lockf lockofd mknod rename symlink
	sync-file touch utime verity xattr
	aiol aio io-uring mmap msync readahead seek sendfile splice)
seconds=4
if [[ $QUICK ]]; then
	all=(copy-file dentry dirdeep fallocate filename hdd iomix link mknod rename seek xattr)
	seconds=1
fi

known=$(stress-ng --help)
mkdir "$M/there"
cd "$M/there"
failed=()
for one in "${all[@]}"; do
	[[ $known =~ --$one\ N ]] || { echo "$one: not in this stress-ng"; continue; }
	status=0
	timeout -k 5 400 stress-ng --"$one" 2 --timeout "$seconds" --verify --temp-path . \
		--hdd-bytes 32m --iomix-bytes 16m --fallocate-bytes 32m --seek-size 16m \
		--copy-file-bytes 128m --mmap-file --quiet > "$D/log" 2>&1 || status=$?
	case $status in
	0) ;;
	3 | 4) echo "$one: stress-ng says that it does not work here" ;;
	*) failed+=("$one"); echo "$one: status $status"; tail -n 5 "$D/log" ;;
	esac
	stat . > /dev/null || fail "the mount is gone after $one"
done
[[ ! ${failed[*]} ]] || fail "${failed[*]}"
[[ -z $(ls -A) ]] || fail "left behind: $(ls -A | head -n 5)"
keeps
stop
