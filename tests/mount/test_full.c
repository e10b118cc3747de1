/* A full disk: ENOSPC to the writer, everything published before is intact, deleting makes room.
 * The disk is a small tmpfs, so that filling it harms nobody, and once Btrfs in a file: there what
 * is written over takes room as well. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	DISK_MB = 96,
	VALUE = 100 * 1000,
	KEYS_MAX = 4000,
	SPARE = 10,
};

/* The store's folder becomes a disk of its own. */
static int disk_begin(void **state)
{
	char options[32];

	if (mount_fresh(state) < 0)
		return -1;
	if (geteuid() != 0)
		return 0;
	snprintf(options, sizeof(options), "size=%dm,mode=700", DISK_MB);
	if (mkdir(store_path(), 0700) < 0 || mount("none", store_path(), "tmpfs", 0, options) < 0)
		return -1;
	return 0;
}

/* The daemon first: it has files open on the disk. */
static int disk_end(void **state)
{
	char store[4096];

	snprintf(store, sizeof(store), "%s", store_path());
	if (geteuid() == 0)
		umount2(store, MNT_DETACH);
	return mount_end(state);
}

static void begin(void)
{
	only_cubby();
	only_root();
	mount_start(getenv("MOUNT_OPTIONS"));
}

static void name_of(char *name, unsigned i)
{
	sprintf(name, "k%04u", i);
}

/* Publishes a value; 0, or the errno of the first call that failed. */
static int put_size(const char *name, size_t size, unsigned seed)
{
	static uint8_t bytes[VALUE];
	int error = 0;
	int fd;

	assert_true(size <= sizeof(bytes));
	random_fill(bytes, size, seed);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		return errno;
	if (write(fd, bytes, size) != (ssize_t)size)
		error = errno;
	if (close(fd) < 0 && error == 0)
		error = errno;
	return error;
}

static int try_put(unsigned i)
{
	char name[16];

	name_of(name, i);
	return put_size(name, VALUE, i);
}

/* Tries until there is room: the space of what is gone comes back in the background. */
static int patiently(int (*attempt)(unsigned i), unsigned i)
{
	const int64_t end = patience_ends();
	int error;

	while ((error = attempt(i)) == ENOSPC && is_patient(end))
		sleep_ms(50);
	return error;
}

/* Fills the disk; how many values were acknowledged. */
static unsigned fill(void)
{
	for (unsigned i = 0; i < KEYS_MAX; i++) {
		const int error = try_put(i);

		if (error) {
			assert_int_equal(error, ENOSPC);
			return i;
		}
	}
	fail_msg("the disk never got full");
	abort();
}

static void assert_intact(unsigned from, unsigned to)
{
	static uint8_t bytes[VALUE];
	char name[16];

	for (unsigned i = from; i < to; i++) {
		name_of(name, i);
		random_fill(bytes, VALUE, i);
		if (!exists(name) || !holds(name, bytes, VALUE))
			fail_msg("%s is not what was published", name);
	}
}

static void a_full_disk_is_told_and_loses_nothing_published(void **state)
{
	unsigned count;

	(void)state;
	begin();
	count = fill();
	print_message("%u values of %d bytes on %d MiB\n", count, VALUE, DISK_MB);
	assert_true(count * (uint64_t)VALUE > DISK_MB * 1000000ull / 4);
	assert_intact(0, count);
	mount_again();
	assert_intact(0, count);
	mount_kill();
	mount_start(NULL);
	assert_intact(0, count);
}

static void deleting_works_on_a_full_disk_and_makes_room(void **state)
{
	unsigned count, half;
	char name[16];

	(void)state;
	begin();
	count = fill();
	half = count / 2;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < half; i++) {
			name_of(name, i);
			assert_ok(unlink(name));
		}
		assert_intact(count / 2, count);
		half -= SPARE; /* the last bit of room may be kept for deleting */
		for (unsigned i = 0; i < half; i++)
			assert_int_equal(patiently(try_put, i), 0);
		assert_intact(0, half);
	}
	mount_again();
	assert_intact(0, half);
	assert_intact(count / 2, count);
}

static void deleting_works_on_a_full_btrfs(void **state)
{
	only_cubby();
	only_root();
	if (sh("cd %s && truncate -s 160M image && mkfs.btrfs -q image && "
	       "mkdir %s && mount -o loop image %s",
	       base_path(), store_path(), store_path()) != 0)
		skip();		/* no mkfs.btrfs, no loop device */
	deleting_works_on_a_full_disk_and_makes_room(state);
}

static void small_changes_on_a_full_disk_fail_whole_or_happen_whole(void **state)
{
	unsigned made = 0, count;
	char name[32];

	(void)state;
	begin();
	count = fill();
	for (unsigned i = 0; i < 20000; i++) {
		sprintf(name, "d%u", i);
		if (mkdir(name, 0755) < 0) {
			assert_int_equal(errno, ENOSPC);
			assert_false(exists(name));
			break;
		}
		made++;
	}
	assert_int_equal(atoi(run("ls | grep -c ^d; true")), made);
	run("rm -rf d*");
	assert_intact(0, count);
	mount_again();
	assert_string_equal(run("ls | grep ^d; true"), "");
	assert_intact(0, count);
}

static int try_expire(unsigned i)
{
	char name[16];

	name_of(name, i);
	return setxattr(name, "user.cubby.ttl", "1", 1, 0) < 0 ? errno : 0;
}

static void expired_values_make_room(void **state)
{
	unsigned count;
	char name[16];

	(void)state;
	begin();
	count = fill();
	for (unsigned i = 0; i < 10; i++) {
		name_of(name, i); /* to set an expiry takes room, too */
		assert_ok(unlink(name));
	}
	for (unsigned i = 10; i < count; i++)
		assert_int_equal(patiently(try_expire, i), 0);
	for (unsigned i = 0; i < count / 2; i++)
		assert_int_equal(patiently(try_put, KEYS_MAX + i), 0);
	assert_intact(KEYS_MAX, KEYS_MAX + count / 2);
}

/* Writes `size` bytes under that name, in pieces; 0, or the errno of the first call that failed. */
static int try_big(const char *name, uint64_t size, unsigned seed)
{
	static uint8_t bytes[1 << 20];
	const int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int error = 0;

	if (fd < 0)
		return errno;
	random_fill(bytes, sizeof(bytes), seed);
	for (uint64_t done = 0; error == 0 && done < size; done += sizeof(bytes))
		if (write(fd, bytes, sizeof(bytes)) != sizeof(bytes))
			error = errno;
	if (close(fd) < 0 && error == 0)
		error = errno;
	return error;
}

static uint64_t room(void)
{
	struct statvfs st;

	assert_ok(statvfs(".", &st));
	return (uint64_t)st.f_bavail * st.f_frsize;
}

/* As on any disk: nobody has to wait between the two, nor does df lag behind. */
static void what_is_deleted_is_room_at_once(void **state)
{
	const uint64_t big = 40 << 20;
	unsigned count;

	(void)state;
	begin();
	assert_int_equal(try_big("big", big, 1), 0);
	count = fill();
	for (unsigned round = 0; round < 6; round++) {
		const uint64_t before = room();

		assert_true(before < big / 8);
		assert_ok(unlink("big"));
		assert_true(room() >= before + big / 16 * 15);
		assert_int_equal(try_big("big", big, round), 0);
	}
	assert_intact(0, count);
	mount_again();
	assert_intact(0, count);
}

/* What df promises can be written, in values of any size from 16 KiB on. */
static void what_df_promises_can_be_written(void **state)
{
	const uint64_t sizes[] = { 16 << 10, 64 << 10, 100 * 1000, 1 << 20, 7 << 20 };

	(void)state;
	begin();
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		/* Whole units of 4 KiB, of each chunk. */
		const uint64_t taken = (sizes[s] + 4095) / 4096 * 4096;
		const uint64_t promised = room();
		uint64_t written = 0;
		char name[16];

		for (unsigned i = 0; written + sizes[s] <= promised; i++, written += taken) {
			int error;

			snprintf(name, sizeof(name), "v%u", i);
			error = sizes[s] >= 1 << 20 ? try_big(name, sizes[s], i)
						    : put_size(name, sizes[s], i);
			if (error)
				fail_msg("%s after %llu of %llu bytes", strerror(error),
					 (unsigned long long)written, (unsigned long long)promised);
		}
		assert_true(promised > 40 << 20);
		run("rm v*");
	}
}

static uint64_t used(const char *path)
{
	struct statvfs st;

	assert_ok(statvfs(path, &st));
	return (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
}

/* Which keeps a part for root: that is not ours to promise, nor is it used. */
static void df_tells_the_truth_on_ext4(void **state)
{
	uint64_t promised, written = 0;
	int error = 0;

	(void)state;
	only_cubby();
	only_root();
	if (sh("cd %s && truncate -s 160M image && mkfs.ext4 -q image && "
	       "mkdir -p %s && mount -o loop image %s",
	       base_path(), store_path(), store_path()) != 0)
		skip();		/* no mkfs.ext4, no loop device */
	begin();
	assert_true(used(".") <= used(store_path()));
	promised = room();
	for (unsigned i = 0; error == 0; i++, written += error ? 0 : VALUE)
		error = try_put(i);
	assert_int_equal(error, ENOSPC);
	assert_true(promised > 80 << 20);
	assert_true(written >= promised / 100 * 97);
	assert_true(room() < VALUE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, disk_begin, disk_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_full_disk_is_told_and_loses_nothing_published),
		TEST(deleting_works_on_a_full_disk_and_makes_room),
		cmocka_unit_test_setup_teardown(deleting_works_on_a_full_btrfs, mount_fresh,
						disk_end),
		TEST(small_changes_on_a_full_disk_fail_whole_or_happen_whole),
		TEST(expired_values_make_room),
		TEST(what_is_deleted_is_room_at_once),
		TEST(what_df_promises_can_be_written),
		cmocka_unit_test_setup_teardown(df_tells_the_truth_on_ext4, mount_fresh, disk_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
