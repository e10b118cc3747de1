/* mount.h - a real daemon on a real disk, for tests: mount, use, kill, look again.
 *
 * Each test gets a folder of its own (below TMPDIR or /var/tmp: a disk, not tmpfs) with a
 * store, a mount point and the daemon's output in it. While mounted, the working directory is the
 * mount point, so that tests and the shell commands in them use plain names. The daemon is
 * the one built with the test (or $CUBBY) and runs as our child, so that its exit status (and so a
 * sanitizer's finding) counts.
 *
 * Whatever a test does, mount_end unmounts, ends the daemon and removes the folder; a watchdog
 * thread aborts the FUSE connection and ends the program if a test takes too long.
 *
 * With CUBBY_REFERENCE=1 nothing is mounted and the mount point is a plain folder: what a test
 * expects of any good filesystem is then tried on the disk's own. Tests of what only cubby does
 * begin with only_cubby().
 */
#ifndef CUBBY_TEST_MOUNT_H
#define CUBBY_TEST_MOUNT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

/* ---- the mount ------------------------------------------------------------------------ */

/* cmocka's setup and teardown. mount_fresh makes the folder, mount_begin also mounts the store in
 * it, with the options of the environment's MOUNT_OPTIONS. */
int mount_fresh(void **state);
int mount_begin(void **state);
int mount_end(void **state);

/* Mounts the store (made on the way if there is none) with `options` added, NULL for none. */
void mount_start(const char *options);

/* Unmounts with `cubby umount`; the daemon must end by itself and with status 0. */
void mount_stop(void);

/* Stops, and starts with the same options. */
void mount_again(void);

/* Ends the daemon without a chance to say goodbye, and takes the dead mount away. */
void mount_kill(void);

/* Waits for the daemon to end by itself, as after a signal, and returns its status as of waitpid.
 */
int mount_ended(void);

/* Where the test's folder, its store, its mount point and the daemon's output are. */
const char *base_path(void);
const char *store_path(void);
const char *point_path(void);
const char *log_path(void);

/* The daemon's program, and its process, 0 if there is none. */
const char *cubby(void);
pid_t daemon_pid(void);

/* True if something is mounted at `path`; "/" itself is not asked for. */
bool is_mounted(const char *path);

/* Ends this test as skipped if it runs on a plain folder; if we are not root; if we may not make a
 * mount namespace, as in some containers. */
void only_cubby(void);
void only_root(void);
void only_with_namespaces(void);

/* ---- the shell ------------------------------------------------------------------------ */

/* Runs a shell command (bash) in the working directory, under a time limit, and returns its exit
 * status; 124 if it was stopped. What it said, on both channels, is said() until the next. */
int sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *said(void);

/* The same, and it must succeed; returns what it said, without the last newline. */
const char *run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- files in the mount, by name; a failed call fails the test ----------------------------- */

void put(const char *name, const char *text); /* O_TRUNC, write, close */
const char *get(const char *name);            /* its text, lent until the next get */
void put_bytes(const char *name, const void *bytes, size_t size);
bool holds(const char *name, const void *bytes, size_t size);
bool exists(const char *name);
uint64_t version(const char *name);

/* Is `call`, which answers -1 and errno, refused with `error`? */
#define assert_errno(call, error)                                                                  \
	do {                                                                                       \
		errno = 0;                                                                         \
		assert_int_equal((call), -1);                                                      \
		assert_int_equal(errno, (error));                                                  \
	} while (0)

#define assert_ok(call) assert_return_code((call), errno)

/* ---- processes and time ----------------------------------------------------------------- */

/* Runs work(arg) in a child process, in the working directory. Returns its id, for joined(). */
pid_t spawn(int (*work)(void *arg), void *arg);

/* Waits for a child; true if work() answered 0. */
bool joined(pid_t child);

/* Milliseconds since 1970, by the clock that expiry goes by. */
int64_t now_ms(void);
void sleep_ms(int64_t ms);

/* What must come is waited for so long, which no machine needs, and then the test has failed:
 *
 *	const int64_t end = patience_ends();
 *	while (!it_has_come() && is_patient(end))
 *		...
 *
 * is_patient rests a moment. The clock is not the one that can be set. */
int64_t patience_ends(void);
bool is_patient(int64_t end);

/* Waits until a disk's filesystem would write another time than now: its clock stands still between
 * the kernel's ticks, which come late on a busy machine. */
void wait_for_tick(void);

/* The environment's number `name`, or `otherwise`: how a run is repeated or made longer. */
uint64_t number_from_env(const char *name, uint64_t otherwise);

/* Numbers that look random and are the same for the same seed. */
uint64_t random_next(uint64_t *seed);

/* Fills `bytes` so that each (seed, size) gives other bytes. */
void random_fill(void *bytes, size_t size, uint64_t seed);

#endif
