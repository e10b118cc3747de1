/* The floor: a log and nothing else, the fastest way we know of to make bytes durable here. A
 * file of zeros, written again and again; one group in flight; whoever comes first to a
 * gathering group leads it, once the group before is on disk. No checksum, no tree, no reading.
 */
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver.h"

enum { FLOOR_SIZE = 64 << 20, PAGE = 4096, GROUP_MAX = 8 << 20 };

struct group {
	uint8_t *bytes;
	size_t size;
	struct ticket *told;	/* by `internal`, last one first */
};

struct floor {
	int fd;
	off_t position;			/* the leader's */
	pthread_mutex_t lock;		/* guards the next three */
	struct group groups[2];		/* by parity: one gathers, one is in flight */
	unsigned number;		/* of the group that gathers, from 1 */
	bool led;			/* it has a leader */
	atomic_uint handed;		/* whoever leads the group after this one may go */
	atomic_uint done[2];		/* by parity: the last group on disk */
};

static void await(atomic_uint *word, unsigned n)
{
	unsigned seen;

	while ((int)((seen = atomic_load(word)) - n) < 0)
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void announce(atomic_uint *word, unsigned n, int sleepers)
{
	atomic_store(word, n);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, sleepers, NULL, NULL, 0);
}

static void fill_zeros(int fd)
{
	static const char zeros[1 << 20];

	for (off_t at = 0; at < FLOOR_SIZE; at += (off_t)sizeof(zeros))
		if (pwrite(fd, zeros, sizeof(zeros), at) != (ssize_t)sizeof(zeros))
			err(1, "floor");
	if (fsync(fd) != 0)
		err(1, "floor");
}

static void *open_floor(const char *path, const struct settings *settings)
{
	struct floor *f = calloc(1, sizeof(*f));
	char name[PATH_MAX];

	(void)settings;
	snprintf(name, sizeof(name), "%s/log", path);
	if (!f)
		err(1, "floor");
	f->fd = open(name, O_RDWR | O_CREAT, 0600);
	if (f->fd < 0)
		err(1, "%s", name);
	fill_zeros(f->fd);
	pthread_mutex_init(&f->lock, NULL);
	for (int i = 0; i < 2; i++)
		if (!(f->groups[i].bytes = calloc(1, GROUP_MAX)))
			err(1, "floor");
	f->number = 1;
	return f;
}

static void close_floor(void *db)
{
	struct floor *f = db;

	close(f->fd);
	free(f->groups[0].bytes);
	free(f->groups[1].bytes);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static void append(struct group *g, struct slice s)
{
	if (s.size > GROUP_MAX - g->size)
		errx(1, "floor: group too large");
	if (s.size)
		memcpy(g->bytes + g->size, s.data, s.size);
	g->size += s.size;
}

/* Joins the gathering group and returns its number; *leads: as its leader. */
static unsigned join(struct floor *f, const struct op *ops, size_t count, struct ticket *ticket,
		     bool *leads)
{
	struct group *g;
	unsigned number;

	pthread_mutex_lock(&f->lock);
	number = f->number;
	g = &f->groups[number & 1];
	for (size_t i = 0; i < count; i++) {
		append(g, ops[i].key);
		append(g, ops[i].value);
	}
	if (ticket) {
		ticket->internal = g->told;
		g->told = ticket;
	}
	*leads = !f->led;
	f->led = true;
	pthread_mutex_unlock(&f->lock);
	return number;
}

static void write_group(struct floor *f, const struct group *g)
{
	const size_t size = (g->size + PAGE - 1) / PAGE * PAGE;

	if (f->position + (off_t)size > FLOOR_SIZE)
		f->position = 0;
	if (pwrite(f->fd, g->bytes, size, f->position) != (ssize_t)size || fdatasync(f->fd) != 0)
		err(1, "floor");
	f->position += (off_t)size;
}

static void lead(struct floor *f, unsigned number)
{
	struct group *g = &f->groups[number & 1];
	struct ticket *told;

	await(&f->handed, number - 1);
	pthread_mutex_lock(&f->lock);
	f->number++;
	f->led = false;
	pthread_mutex_unlock(&f->lock);
	write_group(f, g);
	told = g->told;
	g->told = NULL;
	g->size = 0;
	announce(&f->handed, number, 1);
	announce(&f->done[number & 1], number, INT_MAX);
	while (told) {
		struct ticket *next = told->internal;

		told->done(told);
		told = next;
	}
}

static void write_ops(void *db, const struct op *ops, size_t count, bool durable)
{
	struct floor *f = db;
	bool leads;
	const unsigned number = join(f, ops, count, NULL, &leads);

	(void)durable;
	if (leads)
		lead(f, number);
	else
		await(&f->done[number & 1], number);
}

static void submit(void *db, const struct op *op, struct ticket *ticket)
{
	bool leads;
	const unsigned number = join(db, op, 1, ticket, &leads);

	if (leads)
		lead(db, number);
}

const struct driver driver_floor = {
	"raw log", open_floor, close_floor, NULL, NULL, write_ops, submit, NULL, NULL,
};
