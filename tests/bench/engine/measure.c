#include "measure.h"

#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "figures.h"

enum { KEY = 16, VALUE = 200, BATCH = 1000, NOISE = 4 << 20, BIG = 1 << 20, OUTSTANDING = 64 };

/* ---- keys, values, clocks ------------------------------------------------------------------- */

static uint8_t *noise;		/* values are cut out of it, so that nothing compresses */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

void measure_prepare(void)
{
	noise = malloc(NOISE + BIG);
	if (!noise)
		err(1, "noise");
	for (uint64_t i = 0; i < (NOISE + BIG) / 8; i++)
		put64(noise + i * 8, mix(i));
}

static struct slice value_of(uint64_t i, size_t size)
{
	return slice_of(noise + mix(i) % NOISE, size);
}

struct key {
	uint8_t bytes[KEY];
};

/* Keys of the large table come in random order as `i` grows; those to be listed in their own. */
static struct slice make_key(struct key *key, char kind, uint64_t i)
{
	memset(key->bytes, '.', KEY);
	key->bytes[0] = (uint8_t)kind;
	put64be(key->bytes + 1, kind == 'L' ? i : mix(i));
	return slice_of(key->bytes, KEY);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- what the kernel knows of us ------------------------------------------------------------ */

static double proc_number(const char *file, const char *name)
{
	char line[256];
	double number = 0;
	FILE *f = fopen(file, "r");

	if (!f)
		err(1, "%s", file);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0)
			number = atof(line + strlen(name));
	fclose(f);
	return number;
}

/* For how long this thread could have run and had no CPU, in seconds. */
static double waited_for_cpu(void)
{
	FILE *f = fopen("/proc/thread-self/schedstat", "r");
	double ns = 0;

	if (f) {
		if (fscanf(f, "%*s %lf", &ns) != 1)
			ns = 0;
		fclose(f);
	}
	return ns * 1e-9;
}

/* Two counts of bytes written, both too high: the process's own counts a whole folio of the page
 * cache, often of many pages, for each page that changes; the device's has what others write. */
struct written {
	double process, device;
};

static double device_bytes(const char *path)
{
	char name[64];
	struct stat st;
	unsigned long long sectors = 0;
	FILE *f;

	if (stat(path, &st) != 0)
		err(1, "%s", path);
	snprintf(name, sizeof(name), "/sys/dev/block/%u:%u/stat", major(st.st_dev),
		 minor(st.st_dev));
	f = fopen(name, "r");
	if (!f || fscanf(f, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
		sectors = 0;
	if (f)
		fclose(f);
	return (double)sectors * 512;
}

static struct written written(const char *path)
{
	sync();
	return (struct written){
		proc_number("/proc/self/io", "write_bytes: ") -
			proc_number("/proc/self/io", "cancelled_write_bytes: "),
		device_bytes(path),
	};
}

static double written_since(const struct written *before, const char *path)
{
	const struct written after = written(path);
	const double process = after.process - before->process;
	const double device = after.device - before->device;

	return device > 0 && device < process ? device : process;
}

/* Its own memory, in MiB; the kernel's page cache is nobody's. */
static double memory_mib(void)
{
	return proc_number("/proc/self/status", "RssAnon:") / 1024;
}

static double size_on_disk;

static int add_size(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (type == FTW_F)
		size_on_disk += (double)st->st_blocks * 512;
	return 0;
}

static void report(FILE *out, enum figure_id id, double value)
{
	fprintf(out, "%d %.6g\n", id, value);
	fflush(out);
}

/* ---- sessions ------------------------------------------------------------------------------- */

static void *session_begin(const struct driver *driver, void *db)
{
	return driver->session ? driver->session(db) : db;
}

static void session_end(const struct driver *driver, void *session)
{
	if (driver->session_done)
		driver->session_done(session);
}

static void put(const struct driver *driver, void *session, char kind, uint64_t i, size_t size,
		bool durable)
{
	struct key key;
	const struct op op = { make_key(&key, kind, i), value_of(i, size) };

	driver->write(session, &op, 1, durable);
}

/* Puts (or deletes) first .. first + count - 1 in batches. */
static void bulk(const struct driver *driver, void *session, char kind, uint64_t first,
		 uint64_t count, bool deletes)
{
	static struct key keys[BATCH];
	static struct op ops[BATCH];

	for (uint64_t i = 0; i < count;) {
		size_t n = 0;

		for (; n < BATCH && i < count; n++, i++)
			ops[n] = (struct op){
				make_key(&keys[n], kind, first + i),
				deletes ? slice_of(NULL, 0) : value_of(first + i, VALUE),
			};
		driver->write(session, ops, n, false);
	}
}

/* ---- durable puts --------------------------------------------------------------------------- */

struct crowd {
	const struct driver *driver;
	void *db;
	size_t size;
	atomic_ullong next, done;
	atomic_bool stop;
	sem_t room;			/* for callbacks */
	pthread_mutex_t lock;		/* guards `resting` */
	struct guest *resting;
};

/* One of the outstanding callbacks. */
struct guest {
	struct ticket ticket;
	struct crowd *crowd;
	struct guest *next;
};

static void *put_and_wait(void *arg)
{
	struct crowd *c = arg;
	void *session = session_begin(c->driver, c->db);

	while (!atomic_load(&c->stop)) {
		put(c->driver, session, 'K', atomic_fetch_add(&c->next, 1), c->size, true);
		atomic_fetch_add(&c->done, 1);
	}
	session_end(c->driver, session);
	return NULL;
}

static void rest(struct guest *g)
{
	pthread_mutex_lock(&g->crowd->lock);
	g->next = g->crowd->resting;
	g->crowd->resting = g;
	pthread_mutex_unlock(&g->crowd->lock);
	sem_post(&g->crowd->room);
}

static void guest_done(struct ticket *ticket)
{
	struct guest *g = (struct guest *)ticket;

	atomic_fetch_add(&g->crowd->done, 1);
	rest(g);
}

static struct guest *take_rested(struct crowd *c)
{
	struct guest *g;

	sem_wait(&c->room);
	pthread_mutex_lock(&c->lock);
	g = c->resting;
	c->resting = g->next;
	pthread_mutex_unlock(&c->lock);
	return g;
}

static void *put_and_go_on(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop)) {
		struct guest *g = take_rested(c);
		const uint64_t i = atomic_fetch_add(&c->next, 1);
		struct key key;
		const struct op op = { make_key(&key, 'K', i), value_of(i, c->size) };

		c->driver->submit(c->db, &op, &g->ticket);
	}
	return NULL;
}

/* Puts a second while `threads` do `work`. */
static double rate(struct crowd *c, void *(*work)(void *), int threads, double seconds)
{
	const struct timespec nap = { (time_t)seconds, (long)(fmod(seconds, 1) * 1e9) };
	pthread_t ids[64];
	double start, result;

	atomic_store(&c->done, 0);
	atomic_store(&c->stop, false);
	start = now();
	for (int i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, work, c) != 0)
			errx(1, "no thread");
	nanosleep(&nap, NULL);
	result = (double)atomic_load(&c->done) / (now() - start);
	atomic_store(&c->stop, true);
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	return result;
}

/* One thread leads a group, one waits to lead the next, one fills it. */
static double callback_rate(struct crowd *c, double seconds)
{
	struct guest guests[OUTSTANDING] = { 0 };
	double result;

	sem_init(&c->room, 0, 0);
	c->resting = NULL;
	for (int i = 0; i < OUTSTANDING; i++) {
		guests[i].crowd = c;
		guests[i].ticket.done = guest_done;
		rest(&guests[i]);
	}
	result = rate(c, put_and_go_on, 3, seconds);
	for (int i = 0; i < OUTSTANDING; i++)
		sem_wait(&c->room);
	sem_destroy(&c->room);
	return result;
}

static void measure_durable(const struct driver *driver, const char *path,
			    const struct scale *scale, FILE *out)
{
	static const int threads[] = { 1, 4, 16, 64 };
	static const struct { size_t size; enum figure_id first; } sizes[] = {
		{ VALUE, PUT_200_1 }, { 4096, PUT_4K_1 },
	};
	const struct settings settings = { scale->cache, false };
	struct crowd c = { .driver = driver, .db = driver->open(path, &settings) };

	pthread_mutex_init(&c.lock, NULL);
	for (int s = 0; s < 2; s++) {
		c.size = sizes[s].size;
		for (int t = 0; t < 4; t++)
			report(out, sizes[s].first + (enum figure_id)t,
			       rate(&c, put_and_wait, threads[t], scale->seconds));
		if (driver->submit)
			report(out, sizes[s].first + 4, callback_rate(&c, scale->seconds));
	}
	driver->close(c.db);
}

static void measure_big(const struct driver *driver, const char *path, const struct scale *scale,
			FILE *out)
{
	const struct settings settings = { scale->cache, false };
	void *db = driver->open(path, &settings);
	void *session = session_begin(driver, db);
	const struct written before = written(path);
	const double start = now();
	double end;
	uint64_t i = 0;

	for (; (end = now()) - start < 2 * scale->seconds; i++)
		put(driver, session, 'K', i, BIG, true);
	report(out, PUT_1M, (double)i / (end - start));
	session_end(driver, session);
	driver->close(db);
	report(out, PUT_1M_BYTES, written_since(&before, path) / ((double)i * BIG));
}

/* ---- the large table ------------------------------------------------------------------------ */

/* The longest put, and the longest apart from waiting for a CPU that others had. The latter is only
 * looked at now and then, so what it was for a single put is known to within a few dozen. */
struct stalls {
	double longest, longest_own;
	double waited;			/* for a CPU, when it was last looked at */
	uint64_t puts;
};

static void note_stall(struct stalls *s, double took)
{
	enum { NOW_AND_THEN = 64 };
	const double waited = s->waited;

	if (took > s->longest)
		s->longest = took;
	if (took > s->longest_own || s->puts++ % NOW_AND_THEN == 0) {
		s->waited = waited_for_cpu();
		took -= s->waited - waited;
		if (took > s->longest_own)
			s->longest_own = took;
	}
}

static void measure_updates(const struct driver *driver, void *session, const struct scale *scale,
			    uint64_t *count, FILE *out)
{
	const double start = now();
	struct stalls stalls = { .waited = waited_for_cpu() };
	double last = start;
	uint64_t i = 0;

	for (; i < scale->updates && last - start < scale->update_seconds; i++) {
		const double before = last;

		put(driver, session, 'K', mix(i) % scale->keys, VALUE, false);
		last = now();
		note_stall(&stalls, last - before);
	}
	report(out, UPDATE, (double)i / (last - start));
	report(out, UPDATE_STALL, stalls.longest * 1e3);
	report(out, UPDATE_STALL_OWN, stalls.longest_own * 1e3);
	report(out, MEMORY_WRITING, memory_mib());
	*count = i;
}

static double list_first(const struct driver *driver, void *session)
{
	struct key key;
	const double start = now();

	driver->scan(session, make_key(&key, 'L', 0), 1);
	return (now() - start) * 1e6;
}

/* All but the last of the names are deleted; then who is first? */
static void measure_listing(const struct driver *driver, void *session, const struct scale *scale,
			    FILE *out)
{
	double start;

	bulk(driver, session, 'L', 0, scale->listed + 1, false);
	list_first(driver, session);
	report(out, LIST_BEFORE, list_first(driver, session));
	start = now();
	for (uint64_t i = 0; i < scale->listed; i++) {
		struct key key;
		const struct op op = { .key = make_key(&key, 'L', i) };

		driver->write(session, &op, 1, false);
	}
	report(out, DELETE, (double)scale->listed / (now() - start));
	report(out, LIST_AFTER, list_first(driver, session));
}

static void measure_load(const struct driver *driver, const char *path, const struct scale *scale,
			 FILE *out)
{
	const struct settings settings = { scale->cache, false };
	const uint64_t single = scale->keys / 5;	/* the last of them are put one by one */
	void *db = driver->open(path, &settings);
	void *session = session_begin(driver, db);
	double start;

	bulk(driver, session, 'K', 0, scale->keys - single, false);
	start = now();
	for (uint64_t i = scale->keys - single; i < scale->keys; i++)
		put(driver, session, 'K', i, VALUE, false);
	report(out, PUT_FAST, (double)single / (now() - start));
	session_end(driver, session);
	driver->close(db);
}

static void measure_change(const struct driver *driver, const char *path,
			   const struct scale *scale, FILE *out)
{
	const struct settings settings = { scale->cache, false };
	void *db = driver->open(path, &settings);
	void *session = session_begin(driver, db);
	const struct written before = written(path);
	uint64_t updates;

	measure_updates(driver, session, scale, &updates, out);
	session_end(driver, session);
	driver->close(db);
	report(out, UPDATE_BYTES, written_since(&before, path) / ((double)updates * (KEY + VALUE)));
	db = driver->open(path, &settings);
	session = session_begin(driver, db);
	measure_listing(driver, session, scale, out);
	session_end(driver, session);
	driver->close(db);
	nftw(path, add_size, 16, FTW_PHYS);
	report(out, SIZE, size_on_disk / ((double)scale->keys * (KEY + VALUE)));
}

/* Hits are keys below scale->keys, misses above. */
static double get_rate(const struct driver *driver, void *session, const struct scale *scale,
		       uint64_t from)
{
	const uint64_t count = scale->keys / 2;
	struct buffer value = { 0 };
	uint64_t found = 0;
	const double start = now();
	double end;

	for (uint64_t i = 0; i < count; i++) {
		struct key key;

		make_key(&key, 'K', from + mix(~i) % scale->keys);
		found += driver->get(session, slice_of(key.bytes, KEY), &value);
	}
	end = now();
	if (found != (from ? 0 : count))
		errx(1, "%s: found %llu of %llu", driver->name, (unsigned long long)found,
		     (unsigned long long)count);
	buffer_done(&value);
	return (double)count / (end - start);
}

static void measure_read(const struct driver *driver, const char *path, const struct scale *scale,
			 FILE *out)
{
	const struct settings settings = { scale->cache, false };
	const double opening = now();
	void *db = driver->open(path, &settings);
	void *session = session_begin(driver, db);
	struct key key;
	double start;
	uint64_t met;

	report(out, OPEN_CLEAN, (now() - opening) * 1e3);
	driver->scan(session, slice_of("K", 1), scale->keys);	/* warms whatever cache there is */
	get_rate(driver, session, scale, 0);
	report(out, HIT, get_rate(driver, session, scale, 0));
	report(out, MISS, get_rate(driver, session, scale, scale->keys));
	start = now();
	met = driver->scan(session, make_key(&key, 'A', 0), scale->keys);
	report(out, SCAN, (double)met / (now() - start));
	report(out, MEMORY_READING, memory_mib());
	session_end(driver, session);
	driver->close(db);
}

/* ---- dying with a long log ------------------------------------------------------------------ */

static void measure_kill(const struct driver *driver, const char *path, const struct scale *scale,
			 FILE *out)
{
	const struct settings settings = { scale->cache, true };
	void *db = driver->open(path, &settings);
	void *session = session_begin(driver, db);

	(void)out;
	bulk(driver, session, 'K', 0, scale->killed, false);
	put(driver, session, 'K', scale->killed, VALUE, true);
	raise(SIGKILL);
}

static void measure_revive(const struct driver *driver, const char *path,
			   const struct scale *scale, FILE *out)
{
	const struct settings settings = { scale->cache, false };
	const double start = now();
	void *db = driver->open(path, &settings);
	void *session = session_begin(driver, db);
	struct buffer value = { 0 };
	struct key key;

	if (!driver->get(session, make_key(&key, 'K', scale->killed), &value))
		errx(1, "%s: the last record is lost", driver->name);
	report(out, OPEN_KILLED, (now() - start) * 1e3);
	buffer_done(&value);
	session_end(driver, session);
	driver->close(db);
}

/* ---- the list of phases --------------------------------------------------------------------- */

static bool all(const struct driver *driver)
{
	(void)driver;
	return true;
}

static bool stores(const struct driver *driver)
{
	return driver->get != NULL;
}

const struct phase phases[] = {
	{ "durable", all, measure_durable, true, true },
	{ "big", all, measure_big, true, true },
	{ "load", stores, measure_load, true, false },
	{ "change", stores, measure_change, false, false },
	{ "read", stores, measure_read, false, false },
	{ "kill", stores, measure_kill, true, false },
	{ "revive", stores, measure_revive, false, false },
	{ NULL, NULL, NULL, false, false },
};
