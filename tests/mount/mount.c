/* One test runs at a time and it has one mount, so this file keeps it in a global. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	WATCHDOG_S = 600,     /* a test may take this long, unless TEST_LIMIT says otherwise */
	PATIENCE_MS = 300000, /* so that what does not come is told before the watchdog barks */
	DYING_MS = 20000,     /* for who is on his way out of the mount: see wait_for_leaving */
};

static struct {
	char program[PATH_MAX];
	char base[PATH_MAX - 32];
	char store[PATH_MAX];
	char point[PATH_MAX];
	char log[PATH_MAX];
	char options[512];
	pid_t pid;
	dev_t device; /* of the mount; 0: not mounted */
	pthread_t watchdog;
	bool watched;
} m;

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_over = PTHREAD_COND_INITIALIZER;

static bool on_plain_folder(void)
{
	return getenv("CUBBY_REFERENCE") != NULL;
}

const char *base_path(void)
{
	return m.base;
}

const char *store_path(void)
{
	return m.store;
}

const char *point_path(void)
{
	return m.point;
}

const char *log_path(void)
{
	return m.log;
}

pid_t daemon_pid(void)
{
	return m.pid;
}

const char *cubby(void)
{
	return m.program;
}

void only_cubby(void)
{
	if (on_plain_folder())
		skip();
}

void only_root(void)
{
	if (geteuid() != 0) {
		print_message("only root can do this\n");
		skip();
	}
}

void only_with_namespaces(void)
{
	only_root();
	if (sh("unshare -m true") != 0) {
		print_message("no mount namespace here: %s", said());
		skip();
	}
}

/* ---- time ------------------------------------------------------------------------------- */

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static int64_t ns_by(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t monotonic_ms(void)
{
	return ns_by(CLOCK_MONOTONIC) / 1000000;
}

int64_t patience_ends(void)
{
	return monotonic_ms() + PATIENCE_MS;
}

bool is_patient(int64_t end)
{
	sleep_ms(2);
	return monotonic_ms() < end;
}

void wait_for_tick(void)
{
	const int64_t now = ns_by(CLOCK_REALTIME), end = patience_ends();

	while (ns_by(CLOCK_REALTIME_COARSE) <= now)
		assert_true(is_patient(end));
}

/* ---- the watchdog ------------------------------------------------------------------------- */

/* Every request in flight fails with ECONNABORTED, so nobody hangs in the kernel any more. Uses
 * only what works while other threads are stuck. */
static void abort_connection(void)
{
	char path[64];
	int fd;

	if (m.device == 0)
		return;
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", minor(m.device));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "1", 1) < 0)
			perror(path);
		close(fd);
	}
}

/* Where everybody hangs, if tests/run has said who can tell. A shell looks at the folder that it
 * starts in, and would hang there, too. */
static void show_places(void)
{
	char command[2 * PATH_MAX];

	if (!getenv("HUNG") || chdir("/") < 0)
		return;
	snprintf(command, sizeof(command), "\"$HUNG\" %d '%s' >&2", (int)getsid(0), m.base);
	if (system(command) != 0)
		fprintf(stderr, "%s failed\n", command);
}

static void *watch(void *arg)
{
	const uint64_t patience_s = number_from_env("TEST_LIMIT", WATCHDOG_S);
	struct timespec end;
	int rc = 0;

	(void)arg;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)patience_s;
	pthread_mutex_lock(&watch_lock);
	while (m.watched && rc != ETIMEDOUT)
		rc = pthread_cond_clockwait(&watch_over, &watch_lock, CLOCK_MONOTONIC, &end);
	pthread_mutex_unlock(&watch_lock);
	if (rc != ETIMEDOUT)
		return NULL;

	fprintf(stderr, "watchdog: no end after %" PRIu64 " s; %s is left for you to look at\n",
		patience_s, m.base);
	show_places();
	abort_connection();
	if (m.pid > 0)
		kill(m.pid, SIGKILL);
	umount2(m.point, MNT_DETACH);
	_exit(3);
}

static int watch_start(void)
{
	m.watched = true;
	return pthread_create(&m.watchdog, NULL, watch, NULL);
}

static void watch_stop(void)
{
	pthread_mutex_lock(&watch_lock);
	m.watched = false;
	pthread_cond_signal(&watch_over);
	pthread_mutex_unlock(&watch_lock);
	pthread_join(m.watchdog, NULL);
}

/* ---- the daemon --------------------------------------------------------------------------- */

static _Noreturn void become_daemon(const char *options)
{
	const int out = open(m.log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	if (chdir("/") == 0) {
		if (*options)
			execl(cubby(), "cubby", "mount", m.store, m.point, "-f", "-o", options,
			      NULL);
		else
			execl(cubby(), "cubby", "mount", m.store, m.point, "-f", NULL);
	}
	perror(cubby());
	_exit(127);
}

bool is_mounted(const char *path)
{
	char above[PATH_MAX];
	struct stat here, there;

	snprintf(above, sizeof(above), "%s/..", path);
	if (stat(path, &here) < 0)
		return errno == ENOTCONN;
	return stat(above, &there) == 0 && here.st_dev != there.st_dev;
}

static void show_log(void)
{
	char line[1024];
	FILE *f = fopen(m.log, "re");

	while (f && fgets(line, sizeof(line), f))
		print_message("daemon: %s", line);
	if (f)
		fclose(f);
}

/* Waits for the daemon to end; its status as of waitpid, or -1 if it does not. */
static int daemon_ended(void)
{
	const int64_t end = patience_ends();
	int status;

	while (waitpid(m.pid, &status, WNOHANG) == 0)
		if (!is_patient(end))
			return -1;
	m.pid = 0;
	return status;
}

static void wait_until_mounted(void)
{
	const int64_t end = patience_ends();
	int status;

	while (!is_mounted(m.point)) {
		if (waitpid(m.pid, &status, WNOHANG) == m.pid) {
			m.pid = 0;
			show_log();
			fail_msg("the daemon ended with status %#x instead of mounting", status);
		}
		if (!is_patient(end))
			fail_msg("not mounted after %d s", PATIENCE_MS / 1000);
	}
}

void mount_start(const char *options)
{
	struct stat st;

	assert_int_equal(m.pid, 0);
	snprintf(m.options, sizeof(m.options), "%s", options ? options : "");
	if (!on_plain_folder()) {
		m.pid = fork();
		assert_ok(m.pid);
		if (m.pid == 0)
			become_daemon(m.options);
		wait_until_mounted();
		assert_ok(stat(m.point, &st));
		m.device = st.st_dev;
	}
	assert_ok(chdir(m.point));
}

/* A shell does not wait for a process whose output it has taken from <( ), and one that has closed
 * its files may still be in its working directory. Nobody can be asked to wait for such; so the
 * mount may be busy for a while after the last command has ended. */
static bool wait_for_leaving(int64_t begin)
{
	return is_patient(begin + DYING_MS);
}

void mount_stop(void)
{
	const int64_t begin = monotonic_ms();
	int status;

	assert_ok(chdir(m.base));
	if (on_plain_folder())
		return;
	while (sh("%s umount %s", cubby(), m.point) != 0)
		if (!strstr(said(), "in use") || !wait_for_leaving(begin))
			fail_msg("%s", said());
	m.device = 0;
	status = daemon_ended();
	if (status != 0)
		show_log();
	assert_int_equal(status, 0);
	assert_false(is_mounted(m.point));
}

void mount_again(void)
{
	char options[sizeof(m.options)];

	memcpy(options, m.options, sizeof(options));
	mount_stop();
	mount_start(options);
}

/* Takes the mount away: as root directly, else by fusermount3. MNT_DETACH: also one in use. */
static int unmount(int flags)
{
	char command[PATH_MAX + 32];

	if (umount2(m.point, flags) == 0)
		return 0;
	if (errno != EPERM)
		return -1;
	snprintf(command, sizeof(command), "fusermount3 -u %s '%s'", flags ? "-z" : "", m.point);
	return system(command) == 0 ? 0 : -1;
}

void mount_kill(void)
{
	assert_ok(chdir(m.base));
	if (on_plain_folder())
		return;
	assert_ok(kill(m.pid, SIGKILL));
	assert_true(daemon_ended() != -1);
	m.device = 0;
	assert_ok(unmount(MNT_DETACH));
}

int mount_ended(void)
{
	const int status = daemon_ended();

	assert_int_not_equal(status, -1);
	m.device = 0;
	return status;
}

/* ---- a test's beginning and end ----------------------------------------------------------- */

/* The daemon built with us: we are BUILD/tests/mount/test_x, it is BUILD/cubby. */
static int find_built(char *to, size_t size)
{
	const ssize_t n = readlink("/proc/self/exe", to, size - 1);
	char *slash;

	if (n < 0)
		return -1;
	to[n] = '\0';
	for (int up = 0; up < 3; up++) {
		slash = strrchr(to, '/');
		if (!slash)
			return -1;
		*slash = '\0';
	}
	memmove(slash, "/cubby", sizeof("/cubby"));
	return 0;
}

/* Finds the daemon before the first chdir makes a relative path mean something else. */
static int find_program(void)
{
	const char *path = getenv("CUBBY");
	char built[PATH_MAX], resolved[PATH_MAX];

	if (m.program[0] || on_plain_folder())
		return 0;
	if (!path && find_built(built, sizeof(built) - sizeof("/cubby")) < 0)
		return -1;
	path = path ? path : built;
	if (!realpath(path, resolved)) {
		perror(path);
		return -1;
	}
	memcpy(m.program, resolved, sizeof(m.program));
	return 0;
}

static int make_folder(void)
{
	const char *scratch = getenv("TMPDIR");

	if (!scratch || scratch[0] != '/')
		scratch = "/var/tmp";
	snprintf(m.base, sizeof(m.base), "%s/cubby-test.XXXXXX", scratch);
	if (!mkdtemp(m.base)) {
		perror(m.base);
		return -1;
	}
	snprintf(m.store, sizeof(m.store), "%s/store", m.base);
	snprintf(m.point, sizeof(m.point), "%s/point", m.base);
	snprintf(m.log, sizeof(m.log), "%s/log", m.base);
	return mkdir(m.point, 0700) < 0 || chdir(m.base) < 0 ? -1 : 0;
}

/* cmocka calls no teardown after a setup that failed. */
static void end_failed_setup(void)
{
	if (m.watched)
		mount_end(NULL);
}

int mount_fresh(void **state)
{
	static bool registered;

	(void)state;
	end_failed_setup();
	if (!registered)
		registered = atexit(end_failed_setup) == 0;
	m.pid = 0;
	m.device = 0;
	if (find_program() < 0 || make_folder() < 0)
		return -1;
	return watch_start();
}

int mount_begin(void **state)
{
	const int rc = mount_fresh(state);

	if (rc == 0)
		mount_start(getenv("MOUNT_OPTIONS"));
	return rc;
}

/* After a test that failed halfway: with files still open, say. */
static void end_by_force(void)
{
	abort_connection();
	if (m.pid > 0)
		kill(m.pid, SIGKILL);
	unmount(MNT_DETACH);
}

/* As after a failed test: nothing here may rely on anything that the test was to do. */
int mount_end(void **state)
{
	const int64_t begin = monotonic_ms();
	char command[PATH_MAX + 64];
	int status = 0;

	(void)state;
	if (chdir("/") < 0)
		return -1;
	while (is_mounted(m.point) && unmount(0) < 0)
		if (!wait_for_leaving(begin)) {
			end_by_force();
			break;
		}
	if (m.pid > 0) {
		status = daemon_ended();
		if (status != 0) {
			end_by_force();
			show_log();
			print_error("the daemon did not end well: status %#x\n", status);
		}
		if (status == -1)
			daemon_ended();
	}
	snprintf(command, sizeof(command), "rm -rf --one-file-system '%s'", m.base);
	if (system(command) != 0)
		print_error("%s stays\n", m.base);
	watch_stop();
	return status == 0 ? 0 : -1;
}
