/* kill -9 of the daemon under load, again and again: what was acknowledged is there, whole, with
 * its version; what was not is the state before or the state after.
 *
 * Each writer has keys of its own and notes, in memory that it shares with the test, what it was
 * told is done (`keys`) and what it is doing (`pending`). The content of a value follows from its
 * writer, key and number, so the checker can tell the right one from any other, byte for byte.
 * KILLS=, SEED= */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	WRITERS = 4,
	KEYS = 12,
	VALUE_MAX = 300 * 1024,
	KILLS_DEFAULT = 60,
};

/* What a key holds: its `number`th value, or nothing at all if that is 0. */
struct content {
	uint64_t number;
	uint64_t version;
};

enum action { NOTHING, REWRITE, PATCH, REPLACE, REMOVE, ACTIONS };

struct writer {
	unsigned id;
	uint64_t seed;
	uint64_t last;             /* number handed out */
	struct content keys[KEYS]; /* as acknowledged */
	struct {
		enum action action; /* NOTHING: all is acknowledged */
		unsigned key;
		struct content after;
	} pending;
	uint64_t done; /* actions acknowledged */
};

static struct writer *writers; /* shared with the children */

/* ---- values ------------------------------------------------------------------------------- */

static size_t value_size(uint64_t number)
{
	static const size_t most[] = { 100, 1000, 5000, 70000, VALUE_MAX };
	uint64_t seed = number;

	return 10 + random_next(&seed) % (most[number % 5] - 9);
}

static size_t value_fill(uint8_t *bytes, unsigned writer, unsigned key, uint64_t number)
{
	const size_t size = value_size(number);

	random_fill(bytes, size, number << 16 ^ writer << 8 ^ key);
	return size;
}

static void key_name(char *name, unsigned writer, unsigned key)
{
	sprintf(name, "w%u/k%u", writer, key);
}

/* ---- writers, each a process: they fail when the daemon is gone ------------------------------ */

/* Writes in pieces of any size, from the front. */
static int write_pieces(int fd, const uint8_t *bytes, size_t size, uint64_t *seed)
{
	for (size_t done = 0; done < size;) {
		const size_t most = size - done;
		const size_t piece = 1 + random_next(seed) % (most < 200000 ? most : 200000);
		const ssize_t n = write(fd, bytes + done, piece);

		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

/* Publishes the value at `name`: created or truncated, or patched in place and cut to size. */
static int publish(struct writer *w, const char *name, unsigned key, uint64_t number, int flags)
{
	static uint8_t bytes[VALUE_MAX];
	const size_t size = value_fill(bytes, w->id, key, number);
	const int fd = open(name, O_WRONLY | O_CREAT | flags, 0644);

	if (fd < 0)
		return -1;
	if (write_pieces(fd, bytes, size, &w->seed) < 0 ||
	    (!(flags & O_TRUNC) && ftruncate(fd, (off_t)size) < 0) ||
	    (random_next(&w->seed) % 4 == 0 && fsync(fd) < 0)) {
		close(fd);
		return -1;
	}
	return close(fd);
}

static int act(struct writer *w, const char *name)
{
	const unsigned key = w->pending.key;
	const uint64_t number = w->pending.after.number;
	char temporary[32];

	switch (w->pending.action) {
	case REWRITE:
		return publish(w, name, key, number, O_TRUNC);
	case PATCH:
		return publish(w, name, key, number, 0);
	case REPLACE:
		sprintf(temporary, "w%u/t", w->id);
		if (publish(w, temporary, key, number, O_TRUNC | O_EXCL) < 0)
			return -1;
		return rename(temporary, name);
	case REMOVE:
		return unlink(name);
	default:
		abort();
	}
}

/* Chooses what to do next and says so before doing it. */
static void plan(struct writer *w)
{
	const unsigned key = (unsigned)(random_next(&w->seed) % KEYS);
	const struct content *now = &w->keys[key];
	enum action action = REWRITE + random_next(&w->seed) % (ACTIONS - REWRITE);

	if (action == REMOVE && now->number == 0)
		action = REWRITE;
	w->pending.key = key;
	w->pending.after = (struct content){ 0, 0 };
	if (action != REMOVE)
		w->pending.after = (struct content){ ++w->last, now->version + 1 };
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	w->pending.action = action;
}

static void acknowledge(struct writer *w)
{
	w->keys[w->pending.key] = w->pending.after;
	w->pending.action = NOTHING;
	w->done++;
}

/* Works until the daemon is gone; any other failure is told and fails the test. */
static int writer_main(void *arg)
{
	struct writer *w = arg;
	char name[32];

	for (;;) {
		plan(w);
		key_name(name, w->id, w->pending.key);
		if (act(w, name) < 0)
			break;
		acknowledge(w);
	}
	if (errno == ENOTCONN || errno == ECONNABORTED)
		return 0;
	fprintf(stderr, "writer %u, %s, action %d: %s\n", w->id, name, w->pending.action,
		strerror(errno));
	return 1;
}

/* ---- the checker -------------------------------------------------------------------------- */

/* Does the key hold exactly this: its bytes and its version, or nothing? */
static bool is(const char *name, unsigned writer, unsigned key, const struct content *content)
{
	static uint8_t bytes[VALUE_MAX];
	size_t size;

	if (content->number == 0)
		return !exists(name);
	if (!exists(name) || version(name) != content->version)
		return false;
	size = value_fill(bytes, writer, key, content->number);
	return holds(name, bytes, size);
}

static _Noreturn void complain(const struct writer *w, const char *name, unsigned key)
{
	struct stat st = { 0 };
	const bool there = stat(name, &st) == 0;

	print_error("%s: %s, size %jd, version %" PRIu64 "\n", name, there ? "there" : "not there",
		    (intmax_t)st.st_size, there ? version(name) : 0);
	print_error("acknowledged: value %" PRIu64 " (%zu bytes), version %" PRIu64 "\n",
		    w->keys[key].number, value_size(w->keys[key].number), w->keys[key].version);
	if (w->pending.action != NOTHING && w->pending.key == key)
		print_error("in flight, action %d: value %" PRIu64 " (%zu bytes), version %" PRIu64
			    "\n",
			    w->pending.action, w->pending.after.number,
			    value_size(w->pending.after.number), w->pending.after.version);
	fail_msg("%s is neither before nor after", name);
	abort();
}

/* A temporary file may be left: whole, or not at all. */
static void check_temporary(struct writer *w)
{
	static uint8_t bytes[VALUE_MAX];
	char name[32];
	size_t size;

	sprintf(name, "w%u/t", w->id);
	if (!exists(name))
		return;
	assert_int_equal(w->pending.action, REPLACE);
	size = value_fill(bytes, w->id, w->pending.key, w->pending.after.number);
	assert_true(holds(name, bytes, size));
	assert_int_equal(version(name), 1);
	assert_ok(unlink(name));
}

static void check_writer(struct writer *w)
{
	unsigned live = 0;
	char name[32];

	check_temporary(w);
	for (unsigned key = 0; key < KEYS; key++) {
		key_name(name, w->id, key);
		if (!is(name, w->id, key, &w->keys[key])) {
			if (w->pending.action == NOTHING || w->pending.key != key ||
			    !is(name, w->id, key, &w->pending.after))
				complain(w, name, key);
			w->keys[key] = w->pending.after;
		}
		live += w->keys[key].number != 0;
	}
	w->pending.action = NOTHING;
	assert_int_equal(atoi(run("ls w%u | wc -l", w->id)), live);
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void writers_begin(uint64_t seed)
{
	writers = mmap(NULL, WRITERS * sizeof(*writers), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(writers, MAP_FAILED);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].id = i;
		writers[i].seed = seed * WRITERS + i;
		assert_ok(mkdir((char[]){ 'w', (char)('0' + i), 0 }, 0755));
	}
}

static uint64_t acknowledged(void)
{
	uint64_t done = 0;

	for (unsigned w = 0; w < WRITERS; w++)
		done += __atomic_load_n(&writers[w].done, __ATOMIC_RELAXED);
	return done;
}

static void kill_again_and_again(const char *options)
{
	const uint64_t kills = (number_from_env("KILLS", KILLS_DEFAULT) + 1) / 2;
	uint64_t seed = number_from_env("SEED", (uint64_t)now_ms());
	pid_t pids[WRITERS];

	only_cubby();
	print_message("SEED=%" PRIu64 " KILLS=%" PRIu64 " -o %s\n", seed, 2 * kills, options);
	mount_start(options);
	writers_begin(seed);
	for (uint64_t i = 0; i < kills; i++) {
		const uint64_t before = acknowledged();
		const int64_t end = patience_ends();

		for (unsigned w = 0; w < WRITERS; w++)
			pids[w] = spawn(writer_main, &writers[w]);
		sleep_ms((int64_t)(10 + random_next(&seed) % 150));
		while (acknowledged() == before && is_patient(end))
			; /* nothing yet, on a busy machine: that would prove nothing */
		mount_kill();
		for (unsigned w = 0; w < WRITERS; w++)
			assert_true(joined(pids[w]));
		mount_start(options);
		for (unsigned w = 0; w < WRITERS; w++)
			check_writer(&writers[w]);
	}
	print_message("%" PRIu64 " kills, %" PRIu64 " changes acknowledged\n", kills,
		      acknowledged());
	assert_true(acknowledged() >= kills);
	mount_again();
	for (unsigned w = 0; w < WRITERS; w++)
		check_writer(&writers[w]);
	munmap(writers, WRITERS * sizeof(*writers));
}

static void nothing_acknowledged_is_lost_or_torn_with_sync_close(void **state)
{
	(void)state;
	kill_again_and_again("sync=close");
}

static void nothing_published_is_lost_or_torn_with_sync_standard(void **state)
{
	(void)state;
	kill_again_and_again("sync=standard,commit=3600,log=48M"); /* many checkpoints */
}

/* ---- one thing at a time ------------------------------------------------------------------- */

static void a_value_being_written_when_the_daemon_dies_is_the_old_one(void **state)
{
	static const int ways[] = { O_TRUNC, 0, O_APPEND };
	static const size_t sizes[] = { 3, 100000, 20000000 };

	(void)state;
	only_cubby();
	mount_start("stage=0");	/* however long it takes to write */
	for (size_t i = 0; i < 9; i++) {
		const size_t size = sizes[i / 3];
		uint8_t *bytes = test_malloc(size);
		int fd;

		put("k", "the old value");
		fd = open("k", O_WRONLY | ways[i % 3]);
		assert_ok(fd);
		random_fill(bytes, size, i);
		assert_int_equal(write(fd, bytes, size), size);
		test_free(bytes);
		mount_kill();
		close(fd);
		mount_start("stage=0");
		assert_string_equal(get("k"), "the old value");
		assert_int_equal(version("k"), i + 1);
	}
}

static void a_key_never_published_does_not_exist(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	mount_start(NULL);
	fd = open("k", O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_ok(fd);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_true(exists("k"));
	mount_kill();
	close(fd);
	mount_start(NULL);
	assert_string_equal(run("ls -A"), "");
	run("mkdir d; rmdir d");
}

/* Else a rename over a key, of a file still open, would lose both the old value and the new. */
static void a_rename_publishes_what_was_written_so_far(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	mount_start(NULL);
	put("k", "old");
	fd = open("t", O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_ok(fd);
	assert_int_equal(write(fd, "so far", 6), 6);
	assert_ok(rename("t", "k"));
	assert_int_equal(write(fd, " and further", 12), 12);
	mount_kill();
	close(fd);
	mount_start(NULL);
	assert_string_equal(run("ls -A; cat k"), "k\nso far");
	assert_int_equal(version("k"), 2);
}

static void a_table_and_what_is_in_it_outlive_the_daemon(void **state)
{
	(void)state;
	only_cubby();
	mount_start("sync=standard,commit=3600");
	run("mkdir -p a/b; ln -s x a/s; echo v > a/b/k; chmod 640 a/b/k; setfattr -n user.u -v w "
	    "a/b/k;"
	    "touch -d @1000 a/b/k; mv a/b a/c; mkdir gone; rmdir gone");
	mount_kill();
	mount_start(NULL);
	assert_string_equal(run("find . | sort | tr '\\n' ' '"), ". ./a ./a/c ./a/c/k ./a/s ");
	assert_string_equal(get("a/c/k"), "v\n");
	assert_string_equal(run("stat -c '%%a %%Y' a/c/k; getfattr --only-values -n user.u a/c/k"),
			    "640 1000\nw");
}

/* Puts "new" until the witness was written over. It may be told of a commit when everybody else has
 * been, so that the first time may be about one from before. */
static void put_until_the_witness_is_told(void)
{
	run("cp '%s/witness' '%s/seen'", store_path(), base_path());
	for (unsigned i = 0;; i++) {
		put("key", "new");
		if (sh("cmp -s '%s/witness' '%s/seen'", store_path(), base_path()) != 0)
			return;
		assert_true(i < 1000);
		usleep(1000);
	}
}

/* As careless hands do; whoever finds it is told of the file. */
static void an_older_copy_of_the_log_is_refused_by_name(void **state)
{
	(void)state;
	only_cubby();
	mount_start("sync=close");
	put("key", "old");
	run("mkdir '%s/copy' && cp '%s'/log.* '%s/copy'", base_path(), store_path(), base_path());
	put_until_the_witness_is_told();
	put_until_the_witness_is_told();
	mount_kill();
	run("mkdir '%s/newest' && cp '%s'/log.* '%s/newest'", base_path(), store_path(),
	    base_path());
	run("cp '%s'/copy/* '%s'", base_path(), store_path());
	assert_int_not_equal(sh("'%s' mount '%s' '%s'", cubby(), store_path(), point_path()), 0);
	assert_non_null(strstr(said(), "log.0000000"));
	assert_false(is_mounted(point_path()));
	run("cp '%s'/newest/* '%s'", base_path(), store_path());
	mount_start("sync=close");
	assert_string_equal(get("key"), "new");
}

/* Makes files that are gone at once, in one table with everybody else, until the daemon is. */
static int make_what_expires(void *arg)
{
	char name[32];
	int fd;

	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), "%s%u", (const char *)arg, i);
		fd = open(name, O_WRONLY | O_CREAT, 0644);
		if (fd < 0 || close(fd) < 0 || setxattr(name, "user.cubby.ttl", "0.03", 4, 0) < 0)
			return errno == ENOTCONN || errno == ECONNABORTED ? 0 : 1;
	}
}

/* A dying daemon's thread that tells the kernel of an expiry may wait for a lock on the table,
 * whose owner waits for the daemon. Here its guard, which would help, was killed before. */
static void a_daemon_killed_while_keys_expire_leaves_a_mount_that_can_be_taken_away(void **state)
{
	static char names[][2] = { "a", "b", "c", "d" };
	pid_t children[4];

	(void)state;
	only_cubby();
	for (unsigned i = 0; i < 8; i++) {
		mount_start("sync=standard");
		for (unsigned c = 0; c < 4; c++)
			children[c] = spawn(make_what_expires, names[c]);
		sleep_ms(200);
		assert_ok(chdir(base_path()));
		sh("kill -9 $(pgrep -P %d)", daemon_pid());
		assert_ok(kill(daemon_pid(), SIGKILL));
		run("until grep -q '^State:.Z' /proc/%d/status; do sleep .01; done", daemon_pid());
		if (i % 2)
			run("%s umount %s", cubby(), point_path());
		else
			run("%s mount %s %s && %s umount %s", cubby(), store_path(), point_path(),
			    cubby(), point_path());
		mount_ended();
		for (unsigned c = 0; c < 4; c++)
			assert_true(joined(children[c]));
	}
}

/* Nobody takes the mount away: whoever was waiting is answered all the same. */
static void a_daemon_killed_while_keys_expire_lets_go_of_everybody(void **state)
{
	static char names[][2] = { "a", "b", "c", "d" };
	const uint64_t kills = number_from_env("KILLS", 5);
	pid_t children[4];

	(void)state;
	only_cubby();
	for (uint64_t i = 0; i < kills; i++) {
		mount_start("sync=standard");
		for (unsigned c = 0; c < 4; c++)
			children[c] = spawn(make_what_expires, names[c]);
		sleep_ms(100 + (int64_t)(i * 7 % 50));
		assert_ok(chdir(base_path()));
		assert_ok(kill(daemon_pid(), SIGKILL));
		mount_ended();
		for (unsigned c = 0; c < 4; c++)
			assert_true(joined(children[c]));
		run("%s umount %s", cubby(), point_path());
	}
}

static void a_dead_mount_can_be_taken_away_though_files_are_open_in_it(void **state)
{
	int fd;

	(void)state;
	only_cubby();
	mount_start(NULL);
	put("k", "v");
	fd = open("k", O_RDONLY);
	assert_ok(fd);
	assert_ok(chdir(base_path()));
	assert_ok(kill(daemon_pid(), SIGKILL));
	mount_ended();
	run("%s umount %s", cubby(), point_path());
	assert_false(is_mounted(point_path()));
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_fresh, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_acknowledged_is_lost_or_torn_with_sync_close),
		TEST(nothing_published_is_lost_or_torn_with_sync_standard),
		TEST(a_value_being_written_when_the_daemon_dies_is_the_old_one),
		TEST(a_key_never_published_does_not_exist),
		TEST(a_rename_publishes_what_was_written_so_far),
		TEST(a_table_and_what_is_in_it_outlive_the_daemon),
		TEST(an_older_copy_of_the_log_is_refused_by_name),
		TEST(a_dead_mount_can_be_taken_away_though_files_are_open_in_it),
		TEST(a_daemon_killed_while_keys_expire_leaves_a_mount_that_can_be_taken_away),
		TEST(a_daemon_killed_while_keys_expire_lets_go_of_everybody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
