/* log_bench.h - a log on the lying disk, and what is known of it: the vocabulary of its tests.
 *
 * Batches are numbered from 1, in their contents. The bench knows how many were appended, and how
 * many were reported as synced; whatever is replayed must be a prefix of the ones between.
 */
#ifndef CUBBY_SIM_LOG_BENCH_H
#define CUBBY_SIM_LOG_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log.h"
#include "log_frame.h"
#include "sim/disk.h"

enum {
	SEGMENT = 8 * UNIT,
	SMALL = 60,
	LARGE = 5000,		/* a segment holds five, or three that are synced */
	BATCH_MAX = 3 * SEGMENT,
	LEAP = 1000,
};

struct bench {
	struct sim *disk;
	struct os *os;
	struct os_dir *dir;
	struct log *log;
	struct log_mark mark;	/* as a superblock would have it */
	struct err err;
	uint64_t cap;
	uint64_t at_mark;	/* the last batch that the mark covers */
	uint64_t appended;	/* the last batch that was appended, or found */
	uint64_t acked;		/* the last one that is known to be synced ... */
	uint64_t written;	/* ... or at least written, as far as a test took note of it */
	uint64_t found;		/* the last one that was replayed */
	uint64_t revision;	/* of the last one appended or found */
	uint64_t missing_from;	/* `check` says that these rely on what is not there; 0: none */
	uint64_t checked;	/* how many it was asked about */
	bool maps;		/* the disk's files can be mapped: the log has a tail */
	bool torn;
	int rc;			/* of the last log_open */
};

/* Makes a log on b->disk; only `disk`, `cap` and `maps` need be set. */
int create(struct bench *b);

/* Opens the log. What it replays is compared with what was appended, and counted in b->found. */
int reopen(struct bench *b);

/* Closes log and folder, whatever is open. */
int shut(struct bench *b);

/* The same, and frees the disk. */
void drop(struct bench *b);

void reboot(struct bench *b, enum sim_fate fate, uint64_t seed);

/* A second disk in the same state, with no log open on it. */
struct bench twin(const struct bench *b);

/* Opens the log, which must succeed with all that was acknowledged and nothing that never was
 * appended; appending goes on behind what was found. */
void assert_opens(struct bench *b);
void assert_history(const struct bench *b);

/* One batch; if it needs a segment, that is made. */
int append(struct bench *b, size_t size);
int sync_all(struct bench *b);
int append_synced(struct bench *b, size_t size);
int append_written(struct bench *b, size_t size);

/* A checkpoint, with a superblock that is durable at once. */
int checkpoint(struct bench *b);

/* Appends as the engine does: if the log is full, a checkpoint makes room. */
int insist(struct bench *b, size_t size);

/* What log_open needs, to open it otherwise. */
struct log_options options_of(const struct bench *b);
struct log_reader reader_of(struct bench *b);

/* Setup and teardown of a test that finds a new log, with a cap of four segments, in *state. */
int bench_setup(void **state);
int bench_teardown(void **state);

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

#endif
