/* One file, several processes, every way to write and read it at the same time: nobody's bytes are
 * lost, and nobody goes on seeing old ones. ROUNDS= for more. */
#include "mount/conform.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum {
	PAGE = 4096,
	PAGES = 8,
	STRIPE = 200, /* bytes of one writer: several writers share a page */
	SIZE = PAGES * PAGE,
};

static uint64_t rounds(void)
{
	return number_from_env("ROUNDS", 300);
}

/* ---- writers of their own stripes ----------------------------------------------------------- */

static const char *const names[] = { "write", "write and read", "append-only handle", "mapping" };

enum kind { WRITE_ONLY, READ_WRITE, SYNCED, MAPPED, KINDS };

static unsigned kinds_of(off_t at)
{
	return (unsigned)(at / STRIPE) % KINDS;
}

static off_t random_stripe(uint64_t *random, enum kind kind)
{
	off_t at;

	do {
		at = (off_t)(random_next(random) % (SIZE / STRIPE)) * STRIPE;
	} while (kinds_of(at) != (unsigned)kind);
	return at;
}

/* Writes ROUNDS times somewhere, and finds all of it at the end, and all the time. */
static int work(enum kind kind)
{
	static const int flags[KINDS] = { O_WRONLY, O_RDWR, O_WRONLY | O_DSYNC, O_RDWR };
	uint8_t mine[SIZE] = { 0 }, bytes[STRIPE];
	uint64_t random = kind + 1;
	const int fd = open("f", flags[kind]), reader = open("f", O_RDONLY);
	uint8_t *map = kind == MAPPED ?
			       mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : NULL;

	if (fd < 0 || reader < 0 || map == MAP_FAILED)
		return 1;
	for (uint64_t i = 0; i < rounds(); i++) {
		const off_t at = random_stripe(&random, kind), look = random_stripe(&random, kind);

		memset(mine + at, (int)i, STRIPE);
		if (kind == MAPPED)
			memset(map + at, (int)i, STRIPE);
		else if (pwrite(fd, mine + at, STRIPE, at) != STRIPE)
			return 2;
		if (pread(reader, bytes, STRIPE, look) != STRIPE)
			return 3;
		if (memcmp(bytes, mine + look, STRIPE) != 0) {
			fprintf(stderr, "%s: round %ju lost at %jd\n", names[kind], (uintmax_t)i,
				(intmax_t)look);
			return 4;
		}
	}
	for (off_t at = 0; at + STRIPE <= SIZE; at += STRIPE)
		if (kinds_of(at) == (unsigned)kind &&
		    (pread(reader, bytes, STRIPE, at) != STRIPE ||
		     memcmp(bytes, mine + at, STRIPE) != 0))
			return 5;
	if (map)
		munmap(map, SIZE);
	return close(fd) < 0 || close(reader) < 0 ? 6 : 0;
}

static int work_as(void *arg)
{
	return work((enum kind)(uintptr_t)arg);
}

static void let_work(const enum kind *kinds, int count)
{
	pid_t crowd[KINDS];
	bool well = true;

	put("f", "");
	assert_ok(truncate("f", SIZE));
	for (int i = 0; i < count; i++)
		crowd[i] = spawn(work_as, (void *)(uintptr_t)kinds[i]);
	for (int i = 0; i < count; i++)
		well &= joined(crowd[i]);
	assert_true(well);
}

static void writers_of_one_page_lose_nothing(void **state)
{
	(void)state;
	let_work((enum kind[]){ WRITE_ONLY, READ_WRITE, SYNCED }, 3);
}

static void a_mapping_and_a_reading_writer_lose_nothing(void **state)
{
	(void)state;
	let_work((enum kind[]){ READ_WRITE, MAPPED }, 2);
}

static void a_mapping_and_mere_writers_lose_nothing(void **state)
{
	(void)state;
	let_work((enum kind[]){ WRITE_ONLY, MAPPED }, 2);
}

static void all_of_them_lose_nothing(void **state)
{
	(void)state;
	let_work((enum kind[]){ WRITE_ONLY, READ_WRITE, SYNCED, MAPPED }, 4);
}

/* ---- readers do not stay behind ------------------------------------------------------------- */

static int follow(void *arg)
{
	const int fd = open("f", O_RDONLY);
	volatile uint64_t *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	uint64_t value = 0, before = 0;

	while (value < rounds()) {
		value = *map;
		if (value < before)
			return 1;
		before = value;
		if (pread(fd, &value, sizeof(value), 0) != sizeof(value) || value < before)
			return 2;
		before = value;
		sched_yield();
	}
	(void)arg;
	return 0;
}

static void readers_follow_a_writer(void **state)
{
	static const int flags[] = { O_WRONLY, O_RDWR };

	(void)state;
	for (size_t f = 0; f < 2; f++) {
		pid_t crowd[3];
		uint64_t zero = 0;
		int fd;

		put_bytes("f", &zero, sizeof(zero));
		for (int i = 0; i < 3; i++)
			crowd[i] = spawn(follow, NULL);
		fd = open("f", flags[f]);
		for (uint64_t i = 1; i <= rounds(); i++) {
			assert_all(pwrite(fd, &i, sizeof(i), 0), sizeof(i));
			sched_yield();
		}
		for (int i = 0; i < 3; i++)
			assert_true(joined(crowd[i])); /* who stays behind never ends */
		assert_ok(close(fd));
	}
}

/* A file that grows, and one that is emptied now and then, as logs are. */
static int tail(void *arg)
{
	const int fd = open("f", O_RDONLY);
	char line[16];
	uint64_t next = 0;
	off_t at = 0;

	while (next < rounds()) {
		const ssize_t n = pread(fd, line, 6, at);

		if (n < 0)
			return 1;
		if (n < 6)
			continue; /* not there yet, or not all of it */
		line[5] = '\0';
		if ((uint64_t)atoi(line) != next++)
			return 2;
		at += 6;
	}
	(void)arg;
	return 0;
}

static void a_reader_follows_a_growing_file(void **state)
{
	char line[16];
	pid_t child;
	int fd;

	(void)state;
	fd = open("f", O_WRONLY | O_CREAT | O_APPEND, 0644);
	child = spawn(tail, NULL);
	for (uint64_t i = 0; i < rounds(); i++) {
		snprintf(line, sizeof(line), "%5u\n", (unsigned)i);
		assert_all(write(fd, line, 6), 6);
	}
	assert_true(joined(child));
	assert_ok(close(fd));
}

/* Each value that is written to a closed file and renamed over is read whole by whoever opens. */
static int open_and_check(void *arg)
{
	char bytes[5000];

	(void)arg;
	for (uint64_t i = 0; i < rounds(); i++) {
		const int fd = open("f", O_RDONLY);
		const ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));

		if (n <= 0 || close(fd) < 0)
			return 1;
		for (ssize_t j = 1; j < n; j++)
			if (bytes[j] != bytes[0])
				return 2;
	}
	return 0;
}

static void a_replaced_file_is_read_whole(void **state)
{
	char bytes[5000];
	pid_t crowd[3];

	(void)state;
	put("f", "a");
	for (int i = 0; i < 3; i++)
		crowd[i] = spawn(open_and_check, NULL);
	for (uint64_t i = 0; i < rounds(); i++) {
		memset(bytes, 'a' + (int)(i % 26), sizeof(bytes));
		put_bytes("new", bytes, (size_t)(1 + i * 16 % sizeof(bytes)));
		assert_ok(rename("new", "f"));
	}
	for (int i = 0; i < 3; i++)
		assert_true(joined(crowd[i]));
}

/* ---- who opens finds what was there when he did ---------------------------------------------- */

/* How far the writer has come: each number is in the file, and the file closed, before it is here. */
static _Atomic uint64_t *closed;

static _Atomic uint64_t *shared_number(void)
{
	void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

/* Whoever opens a file first may be given its contents with that, while others open it to write. */
static int open_and_compare(void *arg)
{
	uint64_t value = 0;

	(void)arg;
	while (value < 10 * rounds()) {
		const uint64_t least = *closed;
		const int fd = open("f", O_RDONLY);

		if (fd < 0 || pread(fd, &value, sizeof(value), 0) != sizeof(value))
			return 1;
		if (value < least) {
			fprintf(stderr, "%ju after %ju\n", (uintmax_t)value, (uintmax_t)least);
			return 2;
		}
		if (close(fd) < 0)
			return 3;
	}
	return 0;
}

static void who_opens_finds_at_least_what_was_closed_before(void **state)
{
	pid_t reader;
	uint64_t i = 0;

	(void)state;
	closed = shared_number();
	put_bytes("f", &i, sizeof(i));
	reader = spawn(open_and_compare, NULL);	/* more of them would seldom be the first */
	while (i < 10 * rounds()) {
		const int fd = open("f", O_WRONLY);

		assert_ok(fd);
		i++;
		assert_all(pwrite(fd, &i, sizeof(i), 0), sizeof(i));
		if (i % 16 == 0)	/* sometimes too large to be given */
			assert_ok(ftruncate(fd, (off_t)(sizeof(i) + i * 997 % 40000)));
		assert_ok(close(fd));
		*closed = i;
	}
	assert_true(joined(reader));
	munmap(closed, PAGE);
}

/* ---- nothing comes back --------------------------------------------------------------------- */

static _Atomic uint64_t *over;	/* not 0: the test is */

/* Pages that were changed through a mapping are written by whoever calls sync, at any moment: also
 * while the file is being emptied. */
static int sync_all_the_time(void *arg)
{
	const int fd = open(".", O_RDONLY);

	(void)arg;
	while (!*over)
		if (syncfs(fd) < 0)
			return 1;
	return close(fd);
}

static void what_was_emptied_stays_empty(void **state)
{
	const int flags[] = { O_RDWR | O_TRUNC, O_WRONLY | O_TRUNC, O_RDONLY | O_TRUNC };
	static const uint8_t zeros[SIZE];
	uint8_t bytes[SIZE], found[SIZE], *map;
	struct stat st;
	pid_t other;

	(void)state;
	over = shared_number();
	other = spawn(sync_all_the_time, NULL);
	memset(bytes, 'b', SIZE);
	for (uint64_t i = 0; i < 10 * rounds(); i++) {
		const int fd = open("f", O_RDWR | O_CREAT, 0644);
		int again;

		assert_all(pwrite(fd, bytes, SIZE, 0), SIZE);
		map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		assert_true(map != MAP_FAILED);
		for (int page = 0; page < PAGES; page++)
			map[page * PAGE] = 'm';
		again = open("f", flags[i % 3]);
		assert_ok(again);
		assert_ok(fstat(again, &st));
		assert_int_equal(st.st_size, 0);
		assert_ok(ftruncate(fd, SIZE));
		assert_all(pread(fd, found, SIZE, 0), SIZE);
		assert_memory_equal(found, zeros, SIZE);
		assert_ok(munmap(map, SIZE));
		assert_ok(close(again));
		assert_ok(close(fd));
	}
	*over = 1;
	assert_true(joined(other));
	munmap(over, PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(writers_of_one_page_lose_nothing),
		CONFORM(a_mapping_and_a_reading_writer_lose_nothing),
		CONFORM(a_mapping_and_mere_writers_lose_nothing),
		CONFORM(all_of_them_lose_nothing),
		CONFORM(readers_follow_a_writer),
		CONFORM(a_reader_follows_a_growing_file),
		CONFORM(a_replaced_file_is_read_whole),
		CONFORM(who_opens_finds_at_least_what_was_closed_before),
		CONFORM(what_was_emptied_stays_empty),
	};

	return conform_run(tests, sizeof(tests) / sizeof(*tests));
}
