/* The log on a disk that lost or changed something: damage is told from a torn tail. */
#include "sim/log_bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/sanitized.h"

enum { STEP = SANITIZED ? 7 : 1 };	/* from one byte that is flipped to the next */

/* The disk of a log that is not open loses a file. */
static void lose(struct bench *b, const char *name)
{
	struct os_dir *dir;

	assert_int_equal(b->os->open_dir(b->os, "/store", 0, &dir), 0);
	assert_int_equal(b->os->remove(dir, name), 0);
	assert_int_equal(b->os->sync_dir(dir), 0);
	b->os->close_dir(dir);
}

/* ---- torn or damaged ------------------------------------------------------------------- */

/* What log_open says when a byte of one file is flipped, if only the log itself tells. */
static struct bench flipped(struct bench *b, const char *name, uint64_t offset)
{
	struct bench t = twin(b);

	lose(&t, FILE_WITNESS);
	assert_int_equal(sim_flip(t.disk, name, offset, 0x10), 0);
	reopen(&t);
	return t;
}

static void a_torn_group_ends_the_log(void **state)
{
	struct bench *b = *state, t;

	append_synced(b, SMALL);
	append_synced(b, SMALL);
	append_written(b, SMALL);
	append_written(b, SMALL);
	t = flipped(b, "log.00000000", SEGMENT_HEADER + 2 * UNIT + GROUP_HEADER + 8);
	assert_int_equal(t.rc, 0);
	assert_int_equal(t.found, 2);
	assert_true(t.torn);
	t.appended = t.acked = t.found;
	assert_int_equal(append_synced(&t, SMALL), 0);	/* where the cut ones were */
	reboot(&t, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 3);
	drop(&t);
}

static void damage_before_a_synced_group_is_refused_by_name_and_offset(void **state)
{
	struct bench *b = *state, t;

	for (int i = 0; i < 4; i++)
		append_synced(b, SMALL);
	t = flipped(b, "log.00000000", SEGMENT_HEADER + UNIT + GROUP_HEADER + 8);
	assert_int_equal(t.rc, -EUCLEAN);
	assert_non_null(strstr(t.err.text, "log.00000000: damaged at byte 8192"));
	drop(&t);
}

static void damage_at_the_end_of_a_segment_is_proved_by_the_next(void **state)
{
	struct bench *b = *state, t;

	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	t = flipped(b, "log.00000000", SEGMENT_HEADER + 4 * UNIT + 100);
	assert_int_equal(t.rc, -EUCLEAN);
	assert_non_null(strstr(t.err.text, "log.00000000: damaged at byte 20480"));
	drop(&t);
	t = flipped(b, "log.00000001", 3);	/* without its header, too */
	assert_int_equal(t.rc, -EUCLEAN);
	drop(&t);
}

static void a_missing_segment_is_refused(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	assert_int_equal(b->os->remove(b->dir, "log.00000000"), 0);
	shut(b);
	assert_int_equal(reopen(b), -EUCLEAN);
	assert_string_equal(b->err.text, "log.00000000: the file is missing");
}

/* The mark knows of it, although nothing is in it and no later file is there. */
static void the_newest_file_is_missed_too(void **state)
{
	struct bench *b = *state, t;

	assert_int_equal(log_prepare(b->log, LOG_SPARES), 0);
	append_synced(b, SMALL);
	assert_int_equal(checkpoint(b), 0);
	t = twin(b);
	shut(b);
	assert_opens(b);
	assert_int_equal(t.os->open_dir(t.os, "/store", 0, &t.dir), 0);
	assert_int_equal(t.os->remove(t.dir, "log.00000002"), 0);
	t.os->close_dir(t.dir);
	assert_int_equal(reopen(&t), -EUCLEAN);
	assert_string_equal(t.err.text, "log.00000002: the file is missing");
	drop(&t);
}

static void what_the_mark_vouches_for_must_be_there(void **state)
{
	struct bench *b = *state, t;
	struct log_mark first;

	append_synced(b, SMALL);
	assert_int_equal(log_rotate(b->log, &first), 0);
	append_synced(b, SMALL);
	append_synced(b, SMALL);
	assert_int_equal(log_rotate(b->log, &b->mark), 0);
	b->at_mark = b->appended;
	t = flipped(b, "log.00000001", SEGMENT_HEADER + UNIT + GROUP_HEADER + 8);
	assert_int_equal(t.rc, -EUCLEAN);
	assert_non_null(strstr(t.err.text, "log.00000001: damaged at byte 8192"));
	assert_non_null(strstr(t.err.text, "the superblock says"));
	drop(&t);
	append_synced(b, SMALL);
	t = flipped(b, "log.00000001", SEGMENT_HEADER + 2 * UNIT + GROUP_HEADER + 8);
	assert_int_equal(t.rc, 0);	/* behind the mark nothing vouches for it */
	assert_int_equal(t.found, 3);
	drop(&t);
}

static void copy(const struct bench *b, const char *name, uint8_t *bytes, bool in)
{
	struct os_dir *dir;
	struct os_file *file;

	assert_int_equal(b->os->open_dir(b->os, "/store", 0, &dir), 0);
	assert_int_equal(b->os->open(dir, name, 0, &file), 0);
	if (in)
		assert_int_equal(b->os->write(file, bytes, SEGMENT, 0), 0);
	else
		assert_int_equal(b->os->read(file, bytes, SEGMENT, 0), SEGMENT);
	b->os->close(file);
	b->os->close_dir(dir);
}

/* Each file in turn is replaced by what it was some checkpoints ago. If it was in use, and later
 * files tell, that is noticed; a spare may be anything of ours. The last segment in use is the one
 * that nothing tells of. */
static void an_older_copy_of_a_segment_brings_nothing_back(void **state)
{
	static uint8_t old[4][SEGMENT];
	struct bench *b = *state;
	unsigned refused = 0, right = 0;
	char name[16];

	b->cap = 4 * SEGMENT;
	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	assert_int_equal(log_prepare(b->log, 1), 0);
	assert_int_equal(checkpoint(b), 0);
	for (unsigned file = 0; file < b->mark.files; file++) {
		snprintf(name, sizeof(name), "log.%08u", file);
		copy(b, name, old[file], false);
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5; i++)
			assert_int_equal(insist(b, LARGE), 0);
		assert_int_equal(sync_all(b), 0);
		assert_int_equal(checkpoint(b), 0);
	}
	for (int i = 0; i < 5; i++)
		append_synced(b, LARGE);
	for (unsigned file = 0; file < b->mark.files; file++) {
		struct bench t = twin(b);

		snprintf(name, sizeof(name), "log.%08u", file);
		copy(&t, name, old[file], true);
		if (reopen(&t) == 0) {
			right += t.found == b->acked;
			assert_in_range(t.found, t.at_mark, b->acked);
		} else {
			assert_int_equal(t.rc, -EUCLEAN);
			refused++;
		}
		drop(&t);
	}
	assert_true(refused > 0 && right > 0 && refused + right >= b->mark.files - 1);
}

static void a_segment_of_another_store_is_refused(void **state)
{
	struct bench *b = *state;
	struct segment_header header = { .store = "another", .sequence = 9, .number = 9 };
	uint8_t bytes[SEGMENT_HEADER];
	struct os_file *file;

	shut(b);
	segment_encode(&header, bytes);
	b->os->open_dir(b->os, "/store", 0, &b->dir);
	assert_int_equal(b->os->open(b->dir, "log.00000007", OS_CREATE, &file), 0);
	b->os->write(file, bytes, sizeof(bytes), 0);
	b->os->close(file);
	b->os->close_dir(b->dir);
	assert_int_equal(reopen(b), -EUCLEAN);
	assert_string_equal(b->err.text, "log.00000007: belongs to another store");
}

static void a_segment_cut_short_is_refused_and_a_half_made_one_is_removed(void **state)
{
	struct bench *b = *state;
	struct os_file *file;

	append_synced(b, SMALL);
	assert_int_equal(b->os->open(b->dir, "log.00000002", OS_CREATE, &file), 0);
	assert_int_equal(b->os->write(file, "", 1, 777), 0);
	b->os->close(file);
	shut(b);
	assert_opens(b);
	assert_int_equal(b->os->open(b->dir, "log.00000002", 0, &file), -ENOENT);
	assert_int_equal(b->os->open(b->dir, "log.00000000", 0, &file), 0);
	assert_int_equal(b->os->truncate(file, 3 * UNIT + 5), 0);
	b->os->close(file);
	shut(b);
	assert_int_equal(reopen(b), -EUCLEAN);
}

/* Removing it would leave a gap, for which the next opening would refuse the log. */
static void a_spare_cut_short_is_refused_while_later_files_exist(void **state)
{
	struct bench *b = *state;
	struct os_file *file;

	assert_int_equal(log_prepare(b->log, LOG_SPARES), 0);
	assert_int_equal(b->os->open(b->dir, "log.00000001", 0, &file), 0);
	assert_int_equal(b->os->truncate(file, UNIT), 0);
	b->os->close(file);
	shut(b);
	assert_int_equal(reopen(b), -EUCLEAN);
	assert_string_equal(b->err.text, "log.00000001: damaged: cut off at byte 4096");
	shut(b);
	assert_int_equal(reopen(b), -EUCLEAN);
}

static void what_relies_on_missing_pages_is_cut_off_unless_it_was_synced(void **state)
{
	struct bench *b = *state, t;

	append_synced(b, SMALL);
	append_synced(b, SMALL);
	append_written(b, SMALL);	/* says that 2 was synced */
	append_written(b, SMALL);
	t = twin(b);
	t.missing_from = 4;
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.checked, 2);
	assert_int_equal(t.found, 3);
	assert_true(t.torn);
	t.appended = t.found;
	t.missing_from = 0;
	assert_int_equal(append_synced(&t, SMALL), 0);
	reboot(&t, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 4);
	drop(&t);
	t = twin(b);
	t.missing_from = 1;
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.found, 2);
	drop(&t);
}

static void segments_behind_a_torn_tail_do_not_come_back(void **state)
{
	struct bench *b = *state, t;

	for (int i = 0; i < 14; i++)	/* in three segments */
		assert_int_equal(append_written(b, LARGE), 0);
	t = flipped(b, "log.00000000", SEGMENT_HEADER + 2 * UNIT + 100);
	assert_int_equal(t.rc, 0);
	assert_int_equal(t.found, 1);
	t.appended = t.acked = t.found;
	t.cap = 100 * SEGMENT;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(append_synced(&t, LARGE), 0);
		reboot(&t, SIM_KEEP, 0);
		assert_opens(&t);
		assert_int_equal(t.found, i + 2);
	}
	drop(&t);
}

static void what_was_cut_off_does_not_come_back_after_a_checkpoint(void **state)
{
	struct bench *b = *state, t;

	append_written(b, SMALL);
	t = twin(b);			/* before it is closed, which syncs */
	t.missing_from = 1;
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.found, 0);
	t.appended = 0;
	t.missing_from = 0;
	assert_int_equal(checkpoint(&t), 0);
	reboot(&t, SIM_KEEP, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 0);
	drop(&t);
}

/* What recovery learns about which groups were synced counts even if it lies behind a torn one. */
static void a_group_behind_the_torn_one_still_tells_what_was_synced(void **state)
{
	struct bench *b = *state, t;

	append_written(b, SMALL);
	append_synced(b, SMALL);
	append_written(b, UNIT - GROUP_HEADER);		/* so that the next begins a unit */
	append_written(b, SMALL);
	t = twin(b);
	t.missing_from = 1;
	assert_int_equal(sim_flip(t.disk, "log.00000000", SEGMENT_HEADER + UNIT + 100, 1), 0);
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.checked, 0);
	assert_int_equal(t.found, 2);
	drop(&t);
}

/* Written by the sync's leader before each sync, once. */
static int append_meanwhile(void *arg)
{
	struct bench *b = arg;

	return b->appended == 1 ? append_written(b, SMALL) : 0;
}

/* A group that was written during a sync cannot vouch for it; the next one can, and is found. */
static void the_first_group_after_a_sync_proves_it(void **state)
{
	struct bench *b = *state, t;
	const struct log_reader reader = reader_of(b);
	struct log_options options = options_of(b);

	options.before_sync = append_meanwhile;
	options.arg = b;
	shut(b);
	assert_int_equal(b->os->open_dir(b->os, "/store", 0, &b->dir), 0);
	assert_int_equal(
		log_open(b->os, b->dir, &options, &b->mark, 0, &reader, &b->log, NULL, NULL), 0);
	append_synced(b, SMALL);
	assert_int_equal(b->appended, 2);
	t = flipped(b, "log.00000001", SEGMENT_HEADER + 50);
	assert_int_equal(t.rc, 0);
	drop(&t);
	append_written(b, SMALL);
	t = flipped(b, "log.00000001", SEGMENT_HEADER + 50);
	assert_int_equal(t.rc, -EUCLEAN);
	drop(&t);
	t = flipped(b, "log.00000001", SEGMENT_HEADER + UNIT + 50);
	assert_int_equal(t.rc, 0);	/* the second group, which shares no unit with the first */
	assert_int_equal(t.found, 1);
	drop(&t);
}

/* Somebody keeps a copy of a log in a value, and the batch with it is torn. */
static void a_value_that_looks_like_a_group_proves_nothing(void **state)
{
	struct bench *b = *state, t;
	static uint8_t batch[2 * UNIT];
	const struct group g = {
		.number = 100, .synced = 99, .revision = 100, .salt = 7, .size = 64
	};
	uint64_t revision;

	put32(batch, sizeof(batch) - BATCH_HEADER);
	put64(batch + BATCH_HEADER, 1);
	group_encode(&g, batch + UNIT - GROUP_HEADER);	/* begins a unit of the file */
	assert_int_equal(log_append(b->log, slice_of(batch, sizeof(batch)), &revision), 0);
	assert_int_equal(log_wait_blocking(b->log, revision, LOG_WRITTEN), 0);
	b->appended = 1;
	t = flipped(b, "log.00000000", SEGMENT_HEADER + 100);
	assert_int_equal(t.rc, 0);
	assert_int_equal(t.found, 0);
	assert_true(t.torn);
	drop(&t);
}

/* Every byte of every file of a small log, flipped once. Without the witness the last sync is all
 * that nothing vouches for. */
static void flip_each_byte(struct bench *b, bool witness)
{
	char name[16];
	unsigned refused = 0, cut = 0;

	for (int i = 0; i < 5; i++)
		assert_int_equal(append_synced(b, i == 2 ? LARGE : SMALL), 0);
	assert_int_equal(append_synced(b, LARGE), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(append_synced(b, SMALL), 0);
	for (unsigned file = 0; file < 3; file++) {
		snprintf(name, sizeof(name), "log.%08u", file);
		for (uint64_t offset = 0; offset < SEGMENT; offset += STEP) {
			struct bench t = twin(b);

			if (!witness)
				lose(&t, FILE_WITNESS);
			if (sim_flip(t.disk, name, offset, (uint8_t)(1u << offset % 8)) != 0)
				offset = SEGMENT;
			reopen(&t);
			if (t.rc == 0)
				assert_in_range(t.found, b->acked - !witness, b->appended);
			else
				assert_int_equal(t.rc, -EUCLEAN);
			refused += t.rc != 0;
			cut += t.rc == 0 && t.found < b->acked;
			drop(&t);
		}
	}
	assert_true(refused * STEP > 2 * LARGE && (cut * STEP >= SMALL) == !witness);
}

static void no_flipped_byte_goes_unnoticed(void **state)
{
	flip_each_byte(*state, true);
}

static void no_flipped_byte_before_the_last_sync_does_without_the_witness(void **state)
{
	flip_each_byte(*state, false);
}

/* The whole of the tail as far as it was ever written, and a bit more. Two commits are synced,
 * three are in the tail, behind which lies what is left of an earlier one. */
static void a_flipped_byte_of_the_tail_costs_what_was_only_there(void **state)
{
	enum { WRITTEN = TAIL_HEADER + 20 * (TAIL_RECORD_HEADER + SMALL + 4) };
	struct bench *b = *state;
	unsigned less = 0;

	drop(b);
	*b = (struct bench){ .disk = sim_new(1), .cap = 4 * SEGMENT, .maps = true };
	assert_int_equal(create(b), 0);
	for (int i = 0; i < 20; i++)
		append_written(b, SMALL);
	append_synced(b, SMALL);
	for (int i = 0; i < 3; i++)
		append_written(b, SMALL);
	for (uint64_t offset = 0; offset < WRITTEN + 100; offset++) {
		struct bench t = twin(b);

		assert_int_equal(sim_flip(t.disk, FILE_TAIL, offset, (uint8_t)(1u << offset % 8)),
				 0);
		assert_opens(&t);
		less += t.found < b->appended;
		drop(&t);
	}
	assert_true(less > TAIL_HEADER + 2 * (TAIL_RECORD_HEADER + SMALL) && less < WRITTEN / 2);
}

/* ---- the witness ------------------------------------------------------------------------ */

static void assert_refused(struct bench *t, const char *text)
{
	assert_int_equal(reopen(t), -EUCLEAN);
	if (!strstr(t->err.text, text))
		fail_msg("%s: it is not said that %s", t->err.text, text);
	drop(t);
}

static void the_last_group_is_missed_if_it_was_synced(void **state)
{
	struct bench *b = *state, t;

	append_synced(b, SMALL);
	append_synced(b, SMALL);
	t = twin(b);
	sim_flip(t.disk, "log.00000000", SEGMENT_HEADER + UNIT + GROUP_HEADER + 8, 1);
	assert_refused(&t, "log.00000000: damaged at byte 8192: group 2 of the log is broken or "
			   "missing there, but the file witness says that it was on disk");
	append_written(b, SMALL);
	t = twin(b);
	sim_flip(t.disk, "log.00000000", SEGMENT_HEADER + 2 * UNIT + GROUP_HEADER + 8, 1);
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.found, 2);
	assert_true(t.torn);
	drop(&t);
}

/* It was made after the mark, so that nothing else knows of it. */
static void the_last_file_is_missed_once_it_was_written_to(void **state)
{
	struct bench *b = *state, t;

	for (int i = 0; i < 6; i++)
		append_synced(b, LARGE);
	assert_int_equal(log_prepare(b->log, LOG_SPARES), 0);
	t = twin(b);			/* the spares were not written to yet */
	lose(&t, "log.00000003");
	assert_opens(&t);
	assert_int_equal(t.found, 6);
	drop(&t);
	append_synced(b, LARGE);
	t = twin(b);
	lose(&t, "log.00000003");
	lose(&t, "log.00000002");
	assert_refused(&t, "log.00000002: the file is missing");
}

static void copy_all(const struct bench *b, unsigned files, uint8_t bytes[][SEGMENT], bool in)
{
	char name[16];

	for (unsigned file = 0; file < files; file++) {
		snprintf(name, sizeof(name), "log.%08u", file);
		copy(b, name, bytes[file], in);
	}
}

/* Older by a group only, or by so much that it had not been used. */
static void an_older_copy_of_the_last_segment_is_refused(void **state)
{
	static uint8_t spare[SEGMENT], old[SEGMENT];
	struct bench *b = *state, t;

	for (int i = 0; i < 3; i++)
		append_synced(b, LARGE);
	copy(b, "log.00000001", spare, false);
	append_synced(b, SMALL);
	append_synced(b, LARGE);
	copy(b, "log.00000001", old, false);
	append_synced(b, SMALL);
	t = twin(b);
	copy(&t, "log.00000001", spare, true);
	assert_refused(&t, "log.00000001: damaged, or an older copy: the log went on in it up to "
			   "group 6, as the file witness says, but ends with group 4 in "
			   "log.00000000");
	t = twin(b);
	copy(&t, "log.00000001", old, true);
	assert_refused(&t, "log.00000001: damaged at byte 12288: group 6 of the log");
}

static void an_older_copy_of_all_segments_is_refused_or_right(void **state)
{
	static uint8_t old[3][SEGMENT];
	struct bench *b = *state, t;

	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	copy_all(b, 3, old, false);
	t = twin(b);
	copy_all(&t, 3, old, true);
	assert_opens(&t);
	assert_int_equal(t.found, 7);
	drop(&t);
	append_synced(b, SMALL);
	t = twin(b);
	copy_all(&t, 3, old, true);
	assert_refused(&t, "group 8 of the log");
}

/* Somebody copied the store, and both went on. */
static void what_another_copy_went_on_with_is_refused(void **state)
{
	static uint8_t old[2][SEGMENT];
	struct bench *b = *state, t;

	append_synced(b, SMALL);
	t = twin(b);
	append_synced(b, SMALL);
	append_synced(b, SMALL);
	assert_opens(&t);
	append_synced(&t, LARGE);
	append_synced(&t, LARGE);
	append_synced(&t, LARGE);
	copy_all(&t, 2, old, false);
	drop(&t);
	t = twin(b);
	copy_all(&t, 2, old, true);
	assert_refused(&t, "its group 3 is not the one that the file witness knows");
}

static void the_witness_of_another_store_is_refused(void **state)
{
	static const uint8_t other[STORE_ID_SIZE] = "another";
	struct bench *b = *state;
	uint8_t bytes[WITNESS_SIZE];
	struct os_file *file;

	shut(b);
	witness_encode(&(struct witness){ .number = 1 }, other, bytes);
	b->os->open_dir(b->os, "/store", 0, &b->dir);
	assert_int_equal(b->os->open(b->dir, FILE_WITNESS, 0, &file), 0);
	b->os->write(file, bytes, sizeof(bytes), 0);
	b->os->close(file);
	b->os->close_dir(b->dir);
	assert_int_equal(reopen(b), -EUCLEAN);
	assert_string_equal(b->err.text, "witness: belongs to another store");
}

/* It does not lose what was kept of it, and nothing is lost with the rest. */
static void the_witness_survives_a_power_cut_once_it_is_kept(void **state)
{
	struct bench *b = *state, t;

	append_synced(b, SMALL);
	append_synced(b, SMALL);
	assert_int_equal(log_keep_witness(b->log), 0);
	t = twin(b);
	sim_reboot(t.disk, SIM_LOSE, 0);
	sim_flip(t.disk, "log.00000000", SEGMENT_HEADER + UNIT + GROUP_HEADER + 8, 1);
	assert_refused(&t, "log.00000000: damaged at byte 8192");
	append_synced(b, SMALL);
	t = twin(b);
	sim_reboot(t.disk, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 3);
	drop(&t);
}

/* It would cost each sync a write. */
static void the_witness_is_not_told_again_at_once(void **state)
{
	struct bench *b = *state, t;
	const struct log_reader reader = reader_of(b);
	struct log_options options = options_of(b);

	options.witness_ns = 1000;
	shut(b);
	assert_int_equal(b->os->open_dir(b->os, "/store", 0, &b->dir), 0);
	assert_int_equal(
		log_open(b->os, b->dir, &options, &b->mark, 0, &reader, &b->log, NULL, NULL), 0);
	append_synced(b, SMALL);
	append_synced(b, SMALL);
	t = twin(b);
	sim_flip(t.disk, "log.00000001", SEGMENT_HEADER + UNIT + GROUP_HEADER + 8, 1);
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.found, 1);
	drop(&t);
	t = twin(b);
	sim_flip(t.disk, "log.00000001", SEGMENT_HEADER + GROUP_HEADER + 8, 1);
	assert_refused(&t, "log.00000001: damaged at byte 4096");
	sim_advance(b->disk, 1000);
	append_synced(b, SMALL);
	t = twin(b);
	sim_flip(t.disk, "log.00000001", SEGMENT_HEADER + 2 * UNIT + GROUP_HEADER + 8, 1);
	assert_refused(&t, "group 3 of the log");
	append_synced(b, SMALL);
	assert_int_equal(log_keep_witness(b->log), 0);
	t = twin(b);
	sim_flip(t.disk, "log.00000001", SEGMENT_HEADER + 3 * UNIT + GROUP_HEADER + 8, 1);
	assert_refused(&t, "group 4 of the log");
}

/* Whatever is in the file, or if it is missing, as in a store of before there were any. */
static void a_witness_that_tells_nothing_is_made_up_for(void **state)
{
	struct bench *b = *state;

	append_synced(b, SMALL);
	append_synced(b, SMALL);
	for (uint64_t size = 0; size <= UNIT; size += size < WITNESS_SIZE + 1 ? 1 : UNIT / 4) {
		struct bench t = twin(b);
		struct os_file *file;

		if (size) {
			t.os->open_dir(t.os, "/store", 0, &t.dir);
			assert_int_equal(t.os->open(t.dir, FILE_WITNESS, 0, &file), 0);
			t.os->truncate(file, size - 1);
			t.os->close(file);
			t.os->close_dir(t.dir);
			t.dir = NULL;
		} else {
			lose(&t, FILE_WITNESS);
		}
		assert_opens(&t);
		append_synced(&t, SMALL);
		shut(&t);
		sim_flip(t.disk, "log.00000001", SEGMENT_HEADER + GROUP_HEADER + 8, 1);
		assert_refused(&t, "log.00000001: damaged at byte 4096");
	}
	for (uint64_t offset = 0; offset < UNIT; offset++) {
		struct bench t = twin(b);

		assert_int_equal(sim_flip(t.disk, FILE_WITNESS, offset, 0x10), 0);
		assert_opens(&t);
		assert_int_equal(t.found, 2);
		drop(&t);
	}
}

/* It is no reason to refuse a store that was full before there were any. */
static void on_a_full_disk_the_log_does_without(void **state)
{
	struct bench *b = *state;

	append_synced(b, SMALL);
	shut(b);
	lose(b, FILE_WITNESS);
	sim_limit(b->disk, 2 * SEGMENT);
	assert_opens(b);
	append_synced(b, SMALL);
	assert_int_equal(log_keep_witness(b->log), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
	assert_int_equal(b->found, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(a_torn_group_ends_the_log),
		BENCH_TEST(damage_before_a_synced_group_is_refused_by_name_and_offset),
		BENCH_TEST(damage_at_the_end_of_a_segment_is_proved_by_the_next),
		BENCH_TEST(a_missing_segment_is_refused),
		BENCH_TEST(the_newest_file_is_missed_too),
		BENCH_TEST(what_the_mark_vouches_for_must_be_there),
		BENCH_TEST(an_older_copy_of_a_segment_brings_nothing_back),
		BENCH_TEST(a_segment_of_another_store_is_refused),
		BENCH_TEST(a_segment_cut_short_is_refused_and_a_half_made_one_is_removed),
		BENCH_TEST(a_spare_cut_short_is_refused_while_later_files_exist),
		BENCH_TEST(what_relies_on_missing_pages_is_cut_off_unless_it_was_synced),
		BENCH_TEST(segments_behind_a_torn_tail_do_not_come_back),
		BENCH_TEST(what_was_cut_off_does_not_come_back_after_a_checkpoint),
		BENCH_TEST(a_group_behind_the_torn_one_still_tells_what_was_synced),
		BENCH_TEST(the_first_group_after_a_sync_proves_it),
		BENCH_TEST(a_value_that_looks_like_a_group_proves_nothing),
		BENCH_TEST(no_flipped_byte_goes_unnoticed),
		BENCH_TEST(a_flipped_byte_of_the_tail_costs_what_was_only_there),
		BENCH_TEST(no_flipped_byte_before_the_last_sync_does_without_the_witness),
		BENCH_TEST(the_last_group_is_missed_if_it_was_synced),
		BENCH_TEST(the_last_file_is_missed_once_it_was_written_to),
		BENCH_TEST(an_older_copy_of_the_last_segment_is_refused),
		BENCH_TEST(an_older_copy_of_all_segments_is_refused_or_right),
		BENCH_TEST(what_another_copy_went_on_with_is_refused),
		BENCH_TEST(the_witness_of_another_store_is_refused),
		BENCH_TEST(the_witness_survives_a_power_cut_once_it_is_kept),
		BENCH_TEST(the_witness_is_not_told_again_at_once),
		BENCH_TEST(a_witness_that_tells_nothing_is_made_up_for),
		BENCH_TEST(on_a_full_disk_the_log_does_without),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
