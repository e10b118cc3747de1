#!/usr/bin/env bash
# fio: writes at random and in order, through every engine, and reads back what it wrote with a
# checksum in every block.
source "$(dirname "$0")/kit.sh"

size=64m
if [[ $QUICK ]]; then size=8m; fi

mkdir "$M/there"
cd "$D"
check() {
	local name=$1
	shift
	fio --name="$name" --directory="$M/there" --size=$size --verify=crc32c --verify_fatal=1 \
		--do_verify=1 --verify_state_save=0 --group_reporting --output="$D/log" "$@" > /dev/null ||
		{ tail -n 8 "$D/log" >&2; fail "fio $name"; }
	stat "$M/there" > /dev/null || fail "the mount is gone after $name"
}

check in-order --rw=write --bs=128k
check random --rw=randwrite --bs=4k --ioengine=psync --fdatasync=512
check odd --rw=randwrite --bsrange=512-24k --bs_unaligned=1 --ioengine=sync --verify=md5
check crowd --rw=randwrite --bs=8k --numjobs=4 --ioengine=psync --fsync=512
check mapped --rw=randwrite --bs=4k --ioengine=mmap --fsync=1024
check direct --rw=randwrite --bs=16k --direct=1 --ioengine=psync
check async --rw=randwrite --bs=4k --iodepth=16 --direct=1 --ioengine=libaio
check ring --rw=randrw --bs=4k --iodepth=16 --ioengine=io_uring
check durable --rw=randwrite --bs=4k --sync=1 --io_size=1m
check trimmed --rw=write --bs=64k --end_fsync=1 --fallocate=none --overwrite=1
keeps
# What was written is still what it was: only the checksums are looked at.
cd "$D"
for again in random mapped crowd; do
	case $again in
	random) how=(--bs=4k) ;;
	mapped) how=(--bs=4k) ;;
	crowd) how=(--bs=8k --numjobs=4) ;;
	esac
	check $again --rw=randwrite --verify_only=1 --ioengine=psync "${how[@]}"
done
stop
