/* The lying disk must lie in every way it promises, and in no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "sim/disk.h"

enum { SECTOR = 512 };

/* A disk with a folder and an open file "f", whose name is durable. */
struct bench {
	struct sim *disk;
	struct os *os;
	struct os_dir *dir;
	struct os_file *file;
};

static void plug_in(struct bench *b, struct sim *disk)
{
	b->disk = disk;
	b->os = sim_os(disk);
	assert_int_equal(b->os->open_dir(b->os, "/store", OS_CREATE, &b->dir), 0);
	assert_int_equal(b->os->open(b->dir, "f", OS_CREATE, &b->file), 0);
	assert_int_equal(b->os->sync_dir(b->dir), 0);
}

static void unplug(struct bench *b)
{
	b->os->close(b->file);
	b->os->close_dir(b->dir);
}

static void reboot(struct bench *b, enum sim_fate fate, uint64_t seed)
{
	unplug(b);
	sim_reboot(b->disk, fate, seed);
	plug_in(b, b->disk);
}

static int put(struct bench *b, uint64_t sector, char letter)
{
	char bytes[SECTOR];

	memset(bytes, letter, sizeof(bytes));
	return b->os->write(b->file, bytes, sizeof(bytes), sector * SECTOR);
}

/* The letter that fills a sector; 0 if it is beyond the end. */
static char letter_at(struct bench *b, uint64_t sector)
{
	char bytes[SECTOR] = { 0 };
	const ssize_t n = b->os->read(b->file, bytes, sizeof(bytes), sector * SECTOR);

	assert_true(n >= 0);
	assert_memory_equal(bytes, bytes + 1, sizeof(bytes) - 1);
	return bytes[0];
}

static int setup(void **state)
{
	static struct bench b;

	plug_in(&b, sim_new(1));
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	unplug(b);
	sim_free(b->disk);
	return 0;
}

static void what_is_written_can_be_read_at_once(void **state)
{
	struct bench *b = *state;
	char bytes[8] = { 0 };

	assert_int_equal(b->os->write(b->file, "hello", 5, 4094), 0);
	assert_int_equal(b->os->read(b->file, bytes, 8, 4094), 5);
	assert_string_equal(bytes, "hello");
	assert_int_equal(b->os->read(b->file, bytes, 2, 0), 2);
	assert_int_equal(bytes[0], 0);
}

static void what_was_synced_survives_every_fate(void **state)
{
	struct bench *b = *state;

	put(b, 0, 'a');
	put(b, 9, 'b');
	assert_int_equal(b->os->sync(b->file), 0);
	for (int fate = 0; fate < SIM_FATES; fate++) {
		put(b, 5, 'x');
		reboot(b, (enum sim_fate)fate, (uint64_t)fate);
		assert_int_equal(letter_at(b, 0), 'a');
		assert_int_equal(letter_at(b, 9), 'b');
	}
}

static void what_was_not_synced_is_kept_or_lost_as_asked(void **state)
{
	struct bench *b = *state;

	put(b, 0, 'a');
	reboot(b, SIM_LOSE, 0);
	assert_int_equal(letter_at(b, 0), 0);
	put(b, 0, 'a');
	reboot(b, SIM_KEEP, 0);
	assert_int_equal(letter_at(b, 0), 'a');
	reboot(b, SIM_LOSE, 0);
	assert_int_equal(letter_at(b, 0), 'a');
}

/* Which of three sectors, written one after the other, survived: a set of bits. */
static unsigned survivors(enum sim_fate fate, uint64_t seed, bool at_once)
{
	char bytes[3 * SECTOR];
	struct bench b;
	unsigned set = 0;

	plug_in(&b, sim_new(1));
	memset(bytes, 'a', sizeof(bytes));
	if (at_once)
		b.os->write(b.file, bytes, sizeof(bytes), 0);
	for (unsigned i = 0; i < 3 && !at_once; i++)
		put(&b, i, 'a');
	reboot(&b, fate, seed);
	for (unsigned i = 0; i < 3; i++)
		set |= letter_at(&b, i) == 'a' ? 1u << i : 0;
	unplug(&b);
	sim_free(b.disk);
	return set;
}

static void tearing_gives_every_prefix_and_nothing_else(void **state)
{
	unsigned seen = 0;
	(void)state;

	for (uint64_t seed = 0; seed < 200; seed++)
		seen |= 1u << survivors(SIM_TEAR, seed, seed & 1);
	assert_int_equal(seen, 1u << 0 | 1u << 1 | 1u << 3 | 1u << 7);
}

static void scattering_gives_every_subset(void **state)
{
	unsigned seen[2] = { 0 };
	(void)state;

	for (uint64_t seed = 0; seed < 800; seed++)
		seen[seed & 1] |= 1u << survivors(SIM_SCATTER, seed, seed & 1);
	assert_int_equal(seen[0], 0xff);
	assert_int_equal(seen[1], 0xff);
}

/* All but one, or one: which of the two the seed decides. */
static void odd_ones_are_lost_or_left_alone(void **state)
{
	unsigned seen = 0;
	(void)state;

	for (uint64_t seed = 0; seed < 200; seed++)
		seen |= 1u << survivors(SIM_ODD, seed, false);
	assert_int_equal(seen, 1u << 3 | 1u << 5 | 1u << 6 | 1u << 1 | 1u << 2 | 1u << 4);
}

/* Of sectors of 512 bytes the beginning or the end survives, or less than what else is written to
 * a sector of 4096. */
static void shreds_are_any_beginning_or_end_of_a_sector(void **state)
{
	bool began = false, ended = false, whole = false;
	(void)state;

	for (uint64_t seed = 0; seed < 300; seed++) {
		char bytes[SECTOR] = { 0 };
		struct bench b;

		plug_in(&b, sim_new(1));
		put(&b, 0, 'a');
		assert_int_equal(b.os->sync(b.file), 0);
		put(&b, 0, 'b');
		reboot(&b, SIM_SHRED, seed);
		assert_int_equal(b.os->read(b.file, bytes, SECTOR, 0), SECTOR);
		began |= bytes[0] == 'b' && bytes[SECTOR - 1] == 'a';
		ended |= bytes[0] == 'a' && bytes[SECTOR - 1] == 'b';
		whole |= memchr(bytes, 'a', SECTOR) == NULL;
		for (int i = 1, turns = 0; i < SECTOR; i++) {
			turns += bytes[i] != bytes[i - 1];
			assert_true(turns <= 1);
		}
		unplug(&b);
		sim_free(b.disk);
	}
	assert_true(began && ended && whole);
}

/* Four moments of each of two files, which were written in turn. */
static void each_file_may_be_as_of_another_moment(void **state)
{
	unsigned seen = 0;
	(void)state;

	for (uint64_t seed = 0; seed < 400; seed++) {
		unsigned moments[2] = { 0 };
		struct os_file *other;
		struct bench b;

		plug_in(&b, sim_new(1));
		assert_int_equal(b.os->open(b.dir, "g", OS_CREATE, &other), 0);
		assert_int_equal(b.os->sync_dir(b.dir), 0);
		for (unsigned i = 0; i < 3; i++) {
			put(&b, i, 'a');
			assert_int_equal(b.os->write(other, "aaa", 3, i * SECTOR), 0);
		}
		b.os->close(other);
		reboot(&b, SIM_FILES, seed);
		assert_int_equal(b.os->open(b.dir, "g", 0, &other), 0);
		for (unsigned i = 0; i < 3; i++) {
			char byte = 0;

			moments[0] += letter_at(&b, i) == 'a';
			b.os->read(other, &byte, 1, i * SECTOR);
			moments[1] += byte == 'a';
		}
		seen |= 1u << (moments[0] * 4 + moments[1]);
		b.os->close(other);
		unplug(&b);
		sim_free(b.disk);
	}
	assert_int_equal(seen, 0xffff);
}

struct spectator {
	unsigned seen;
	char last[16];		/* the letter of sector 0 in each clone */
};

static void spectate(void *arg, struct sim *clone)
{
	struct spectator *s = arg;
	struct bench b;

	sim_reboot(clone, SIM_LOSE, 0);
	plug_in(&b, clone);
	s->last[s->seen++] = letter_at(&b, 0);
	unplug(&b);
	sim_free(clone);
}

static void a_spectator_sees_the_disk_before_each_change(void **state)
{
	struct bench *b = *state;
	struct spectator s = { 0 };

	sim_watch(b->disk, spectate, &s);
	put(b, 0, 'a');
	assert_int_equal(b->os->sync(b->file), 0);
	letter_at(b, 0);
	put(b, 0, 'b');
	sim_watch(b->disk, NULL, NULL);
	put(b, 0, 'c');
	assert_int_equal(letter_at(b, 0), 'c');
	assert_int_equal(s.seen, 3);
	assert_memory_equal(s.last, "\0\0a", 3);
}

static void an_older_version_of_a_sector_may_be_the_one_that_survives(void **state)
{
	bool seen_old = false;
	(void)state;

	for (uint64_t seed = 0; seed < 100 && !seen_old; seed++) {
		struct bench b;

		plug_in(&b, sim_new(1));
		put(&b, 0, 'a');
		put(&b, 0, 'b');
		reboot(&b, SIM_SCATTER, seed);
		seen_old = letter_at(&b, 0) == 'a';
		unplug(&b);
		sim_free(b.disk);
	}
	assert_true(seen_old);
}

static void a_name_needs_a_sync_of_its_folder(void **state)
{
	struct bench *b = *state;
	struct os_file *g;

	assert_int_equal(b->os->open(b->dir, "g", OS_CREATE, &g), 0);
	assert_int_equal(b->os->write(g, "x", 1, 0), 0);
	assert_int_equal(b->os->sync(g), 0);
	b->os->close(g);
	reboot(b, SIM_LOSE, 0);
	assert_int_equal(b->os->open(b->dir, "g", 0, &g), -ENOENT);
}

static void a_removal_needs_a_sync_of_its_folder(void **state)
{
	struct bench *b = *state;
	struct os_file *f;

	assert_int_equal(b->os->remove(b->dir, "f"), 0);
	assert_int_equal(b->os->open(b->dir, "f", 0, &f), -ENOENT);
	b->os->close(b->file);
	b->os->close_dir(b->dir);
	sim_reboot(b->disk, SIM_LOSE, 0);
	assert_int_equal(b->os->open_dir(b->os, "/store", 0, &b->dir), 0);
	assert_int_equal(b->os->open(b->dir, "f", 0, &b->file), 0);
}

static void after_a_cut_everything_fails_until_the_reboot(void **state)
{
	struct bench *b = *state;
	struct os_file *f;

	sim_cut_after(b->disk, 1);
	assert_int_equal(put(b, 0, 'a'), 0);
	assert_false(sim_is_cut(b->disk));
	assert_int_equal(put(b, 1, 'b'), -EIO);
	assert_true(sim_is_cut(b->disk));
	assert_int_equal(b->os->sync(b->file), -EIO);
	assert_int_equal(b->os->open(b->dir, "f", 0, &f), -EIO);
	assert_int_equal(b->os->read(b->file, &f, 1, 0), -EIO);
	reboot(b, SIM_KEEP, 0);
	assert_int_equal(letter_at(b, 0), 'a');
	assert_int_equal(letter_at(b, 1), 'b');
}

static void handles_of_an_earlier_boot_are_dead(void **state)
{
	struct bench *b = *state;
	struct os_file *old = b->file;
	struct os_dir *old_dir = b->dir;

	sim_reboot(b->disk, SIM_LOSE, 0);
	plug_in(b, b->disk);
	assert_int_equal(b->os->write(old, "x", 1, 0), -EIO);
	assert_int_equal(b->os->remove(old_dir, "f"), -EIO);
	b->os->close(old);
	b->os->close_dir(old_dir);
}

static void a_dead_process_leaves_its_writes_unsynced(void **state)
{
	struct bench *b = *state;

	sim_cut_after(b->disk, 1);
	put(b, 0, 'a');
	assert_int_equal(b->os->sync(b->file), -EIO);
	unplug(b);
	sim_revive(b->disk, 0);
	plug_in(b, b->disk);
	assert_int_equal(letter_at(b, 0), 'a');
	reboot(b, SIM_LOSE, 0);
	assert_int_equal(letter_at(b, 0), 0);
}

static void a_clone_goes_its_own_way(void **state)
{
	struct bench *b = *state, c;

	put(b, 0, 'a');
	b->os->sync(b->file);
	put(b, 1, 'b');
	plug_in(&c, sim_clone(b->disk));
	put(&c, 0, 'z');
	assert_int_equal(letter_at(b, 0), 'a');
	assert_int_equal(letter_at(&c, 1), 'b');
	reboot(&c, SIM_LOSE, 0);
	assert_int_equal(letter_at(&c, 0), 'a');
	assert_int_equal(letter_at(&c, 1), 0);
	assert_int_equal(letter_at(b, 1), 'b');
	unplug(&c);
	sim_free(c.disk);
}

static void a_failed_sync_loses_bytes_although_the_next_one_succeeds(void **state)
{
	unsigned lost = 0, kept = 0;
	(void)state;

	for (uint64_t seed = 0; seed < 50; seed++) {
		struct bench b;

		plug_in(&b, sim_new(seed));
		put(&b, 0, 'a');
		sim_fail(b.disk, SIM_SYNC, 0, -EIO);
		assert_int_equal(b.os->sync(b.file), -EIO);
		assert_int_equal(b.os->sync(b.file), 0);
		assert_int_equal(letter_at(&b, 0), 'a');
		reboot(&b, SIM_KEEP, 0);
		letter_at(&b, 0) == 'a' ? kept++ : lost++;
		unplug(&b);
		sim_free(b.disk);
	}
	assert_true(lost > 0 && kept > 0);
}

static void a_planned_fault_happens_once_and_where_it_was_planned(void **state)
{
	struct bench *b = *state;

	sim_fail(b->disk, SIM_WRITE, 1, -ENOSPC);
	assert_int_equal(put(b, 0, 'a'), 0);
	assert_int_equal(put(b, 1, 'a'), -ENOSPC);
	assert_int_equal(put(b, 1, 'a'), 0);
	assert_int_equal(sim_count(b->disk, SIM_WRITE), 3);
}

static void a_full_disk_refuses_to_grow_and_nothing_else(void **state)
{
	struct bench *b = *state;
	uint64_t free_bytes, total_bytes;

	sim_limit(b->disk, 8192);
	assert_int_equal(put(b, 15, 'a'), 0);
	assert_int_equal(put(b, 16, 'a'), -ENOSPC);
	assert_int_equal(b->os->allocate(b->file, 8192, 1), -ENOSPC);
	assert_int_equal(put(b, 3, 'b'), 0);
	assert_int_equal(b->os->space(b->dir, &free_bytes, &total_bytes), 0);
	assert_int_equal(free_bytes, 0);
	assert_int_equal(total_bytes, 8192);
	assert_int_equal(b->os->truncate(b->file, 4096), 0);
	assert_int_equal(b->os->space(b->dir, &free_bytes, &total_bytes), 0);
	assert_int_equal(free_bytes, 4096);
}

static void a_flipped_byte_stays_flipped(void **state)
{
	struct bench *b = *state;
	char byte;

	put(b, 0, 'a');
	b->os->sync(b->file);
	assert_int_equal(sim_flip(b->disk, "f", 7, 1), 0);
	assert_int_equal(sim_flip(b->disk, "f", SECTOR, 1), -EINVAL);
	assert_int_equal(sim_flip(b->disk, "g", 0, 1), -ENOENT);
	reboot(b, SIM_LOSE, 0);
	assert_int_equal(b->os->read(b->file, &byte, 1, 7), 1);
	assert_int_equal(byte, 'a' ^ 1);
}

static void a_lock_is_held_once_until_it_is_closed(void **state)
{
	struct bench *b = *state;
	struct os_file *other;

	assert_int_equal(b->os->open(b->dir, "f", 0, &other), 0);
	assert_int_equal(b->os->lock(b->file), 0);
	assert_int_equal(b->os->lock(other), -EBUSY);
	b->os->close(b->file);
	assert_int_equal(b->os->lock(other), 0);
	b->file = other;
	reboot(b, SIM_LOSE, 0);
	assert_int_equal(b->os->lock(b->file), 0);
}

static void clocks_move_only_when_told(void **state)
{
	struct bench *b = *state;
	const uint64_t now = b->os->now_ns(b->os), monotonic = b->os->monotonic_ns(b->os);

	assert_int_equal(b->os->now_ns(b->os), now);
	sim_advance(b->disk, 5);
	sim_set_now(b->disk, 42);
	assert_int_equal(b->os->now_ns(b->os), 42);
	assert_int_equal(b->os->monotonic_ns(b->os), monotonic + 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_can_be_read_at_once),
		TEST(what_was_synced_survives_every_fate),
		TEST(what_was_not_synced_is_kept_or_lost_as_asked),
		TEST(tearing_gives_every_prefix_and_nothing_else),
		TEST(scattering_gives_every_subset),
		TEST(odd_ones_are_lost_or_left_alone),
		TEST(shreds_are_any_beginning_or_end_of_a_sector),
		TEST(each_file_may_be_as_of_another_moment),
		TEST(a_spectator_sees_the_disk_before_each_change),
		TEST(an_older_version_of_a_sector_may_be_the_one_that_survives),
		TEST(a_name_needs_a_sync_of_its_folder),
		TEST(a_removal_needs_a_sync_of_its_folder),
		TEST(after_a_cut_everything_fails_until_the_reboot),
		TEST(handles_of_an_earlier_boot_are_dead),
		TEST(a_dead_process_leaves_its_writes_unsynced),
		TEST(a_clone_goes_its_own_way),
		TEST(a_failed_sync_loses_bytes_although_the_next_one_succeeds),
		TEST(a_planned_fault_happens_once_and_where_it_was_planned),
		TEST(a_full_disk_refuses_to_grow_and_nothing_else),
		TEST(a_flipped_byte_stays_flipped),
		TEST(a_lock_is_held_once_until_it_is_closed),
		TEST(clocks_move_only_when_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
