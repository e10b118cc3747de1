/* Signals are not handled but waited for, by the main thread, while another runs libfuse's loop:
 * so everything happens in its order, and nothing global is needed. */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "cmd.h"
#include "connection.h"
#include "fs.h"
#include "dir.h"
#include "guard.h"
#include "handle.h"
#include "mem.h"
#include "mounted.h"
#include "ops.h"
#include "path.h"
#include "say.h"
#include "statx.h"

enum {
	SIGNAL_ENDED = SIGUSR1,		/* to the main thread: the loop has ended */
	SIGNAL_LOOK = SIGUSR2,		/* to the loop: look whether you are to end */
	LOOK_NS = 10 * 1000 * 1000,
};

/* ---- where ----------------------------------------------------------------------------------- */

struct where {
	char store[PATH_MAX], point[PATH_MAX];	/* absolute, without symbolic links */
};

static int complain(const char *path, int error)
{
	say("%s: %s", path, strerror(error));
	return -error;
}

/* A daemon that was killed leaves a mount that answers nobody: it must go before there can be
 * another. */
static int clear_dead(const char *given)
{
	char point[PATH_MAX], store[PATH_MAX];
	int rc;

	if (path_resolve(given, point) < 0 || mounted_find(point, store) < 0)
		return complain(given, ENOTCONN);
	say("%s: the daemon that served %s is gone; taking its mount away", given, store);
	rc = mounted_take_away(point, true);
	mounted_wait_dying(store);
	return rc;
}

/* One that was killed and cannot end: to ask that mount would be to wait for ever. */
static bool is_dying(const char *given)
{
	char point[PATH_MAX], store[PATH_MAX];

	return path_resolve(given, point) == 0 && mounted_find(point, store) == 0 &&
	       mounted_dying(store);
}

static int find_point(const char *given, char out[PATH_MAX])
{
	char store[PATH_MAX];
	struct statvfs vfs;
	struct stat st;
	int rc = 0;

	if (is_dying(given))
		rc = clear_dead(given);
	/* Not stat(2), which the kernel may answer from its cache. */
	while (rc == 0 && statvfs(given, &vfs) < 0 && errno == ENOTCONN)
		rc = clear_dead(given);
	if (rc < 0)
		return rc;
	if (!realpath(given, out) || stat(out, &st) < 0)
		return complain(given, errno);
	if (!S_ISDIR(st.st_mode))
		return complain(given, ENOTDIR);
	if (mounted_find(out, store) < 0)
		return 0;
	say("%s: the store %s is mounted there already", given, store);
	return -EBUSY;
}

/* The store may not exist yet. */
static int find(const struct mount_plan *plan, struct where *w)
{
	size_t size;
	int rc = path_resolve(plan->store, w->store);

	if (rc == -ENOENT)
		say("%s: the folder in which it should be does not exist", plan->store);
	else if (rc < 0)
		complain(plan->store, -rc);
	if (rc < 0)
		return rc;
	rc = find_point(plan->point, w->point);
	if (rc < 0)
		return rc;
	size = strlen(w->store);
	if (strncmp(w->point, w->store, size) == 0 && (!w->point[size] || w->point[size] == '/')) {
		say("%s: a store cannot be mounted inside itself", plan->point);
		return -EINVAL;
	}
	return 0;
}

/* ---- libfuse's voice ------------------------------------------------------------------------- */

/* It speaks in pieces of lines. */
static void fuse_says(enum fuse_log_level level, const char *format, va_list args)
{
	static _Thread_local char line[512];
	const size_t used = strlen(line);
	char *end;

	if (level == FUSE_LOG_DEBUG) {
		vfprintf(stderr, format, args);
		return;
	}
	vsnprintf(line + used, sizeof(line) - used, format, args);
	end = strchr(line, '\n');
	if (!end && strlen(line) < sizeof(line) - 1)
		return;
	if (end)
		*end = '\0';
	say("%s", line);
	line[0] = '\0';
}

/* ---- the session ----------------------------------------------------------------------------- */

static int add_all(const struct options *o, const char *store, bool debug, char **out)
{
	const char *option = (const char *)o->fuse.data, *end = option + o->fuse.size;
	char fsname[PATH_MAX + 8];
	int rc;

	snprintf(fsname, sizeof(fsname), "fsname=%s", store);
	rc = fuse_opt_add_opt_escaped(out, fsname) | fuse_opt_add_opt(out, "subtype=cubby");
	if (o->allow_other)
		rc |= fuse_opt_add_opt(out, "allow_other");
	if (o->read_only)
		rc |= fuse_opt_add_opt(out, "ro");
	if (o->default_permissions)
		rc |= fuse_opt_add_opt(out, "default_permissions");
	if (debug)
		rc |= fuse_opt_add_opt(out, "debug");
	for (; o->fuse.size && option < end; option += strlen(option) + 1)
		rc |= fuse_opt_add_opt_escaped(out, option);
	return rc ? -ENOMEM : 0;
}

/* Touches nothing yet: only what libfuse thinks of the options shows. */
static int session_new(struct fs *fs, const char *store, bool debug)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char *list = NULL;
	int rc = add_all(&fs->options, store, debug, &list);

	if (rc == 0 && (fuse_opt_add_arg(&args, "cubby") || fuse_opt_add_arg(&args, "-o") ||
			fuse_opt_add_arg(&args, list)))
		rc = -ENOMEM;
	if (rc == 0) {
		fs->session = fuse_session_new(&args, &ops, sizeof(ops), fs);
		rc = fs->session ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	free(list);
	return rc;
}

/* ---- the store ------------------------------------------------------------------------------- */

static int nodes_begin(struct fs *fs)
{
	struct attr root;
	const int rc = store_lookup(fs->store, PLACE_ROOT, &root);

	return rc < 0 ? rc : nodes_init(&fs->nodes, &root);
}

static int store_begin(struct fs *fs, const char *path)
{
	const struct store_options options = {
		.create = !fs->options.read_only,
		.background = true,
		.uid = geteuid(),
		.gid = getegid(),
		.commit_ns = fs->options.commit_ns,
		.log_cap = fs->options.log_cap,
		.cache = fs->options.cache,
	};
	struct err err = { "" };
	int rc = store_open(fs->os, path, &options, &fs->store, &err);

	if (rc == -ENOENT) {
		say("%s: there is no store, and with the option ro none is made", path);
		return rc;
	}
	if (rc < 0) {
		say("%s: %s", path, err.text[0] ? err.text : strerror(-rc));
		return rc;
	}
	rc = nodes_begin(fs);
	if (rc < 0) {
		complain(path, -rc);
		store_close(fs->store);
	}
	return rc;
}

/* Nobody asks any more. What was created or truncated and not released is published only if the
 * mount was taken away from outside, which needs every file closed; after a signal its
 * writer may have been about to write. */
static int store_end(struct fs *fs, const char *path, bool all_closed)
{
	int rc = handle_close_all(fs, all_closed), closed;

	dir_close_all(fs);
	nodes_done(&fs->nodes);
	closed = store_close(fs->store);
	if (rc == 0)
		rc = closed;
	if (rc < 0)
		complain(path, -rc);
	return rc;
}

/* ---- serving --------------------------------------------------------------------------------- */

struct server {
	struct fuse_session *session;
	bool single_threaded;
	pthread_t main, thread;
	atomic_bool ended;
};

static void *serve(void *arg)
{
	struct server *server = arg;
	sigset_t look;

	sigemptyset(&look);
	sigaddset(&look, SIGNAL_LOOK);
	pthread_sigmask(SIG_UNBLOCK, &look, NULL);
	if (server->single_threaded)
		fuse_session_loop(server->session);
	else
		connection_loop(server->session);
	atomic_store(&server->ended, true);
	pthread_kill(server->main, SIGNAL_ENDED);
	return NULL;
}

static void look(int signal)
{
	(void)signal;
}

static void signals_of(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGNAL_ENDED);
}

/* Blocked in every thread that is made from here on. */
static void block_signals(void)
{
	const struct sigaction interrupt = { .sa_handler = look };	/* no SA_RESTART */
	sigset_t set;

	signals_of(&set);
	sigaddset(&set, SIGNAL_LOOK);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGNAL_LOOK, &interrupt, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Whoever started us may ignore it: then no child is waited for, and the guard's number may
	 * be somebody else's (guard_stop). */
	signal(SIGCHLD, SIG_DFL);
}

/* The loop sleeps in the kernel, and between looking and sleeping it would miss a single call. */
static void end_loop(struct server *server)
{
	const struct timespec moment = { .tv_nsec = LOOK_NS };

	fuse_session_exit(server->session);
	while (!atomic_load(&server->ended)) {
		pthread_kill(server->thread, SIGNAL_LOOK);
		nanosleep(&moment, NULL);
	}
	pthread_join(server->thread, NULL);
}

/* Serves until the mount is taken away (true), or a signal asks for the end. The warden ends first,
 * while requests are still served: it may be waiting for one of them to let go of a lock. */
static bool serve_until_end(struct fs *fs, struct server *server)
{
	bool taken_away;
	sigset_t set;
	int signal;

	signals_of(&set);
	do {
		sigwait(&set, &signal);
		taken_away = atomic_load(&server->ended);
	} while (signal == SIGNAL_ENDED && !taken_away);
	warden_stop(fs);
	end_loop(server);
	return taken_away;
}

/* Tells the waiting parent, if there is one, and lets go of the terminal. */
static void become_ready(int ready)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (ready < 0)
		return;
	say_to_syslog();
	if (write(ready, "", 1) < 0)
		say("nobody waited for the mount");
	close(ready);
	if (null < 0)
		return;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	close(null);
}

static int serve_mounted(struct fs *fs, const struct mount_plan *plan, const char *point, int ready,
			 bool *taken_away)
{
	pid_t guard;
	struct server server = {
		.session = fs->session,
		.single_threaded = plan->single_threaded,
		.main = pthread_self(),
	};
	int rc = connection_begin(fs->session, statx_read);

	if (rc == 0)
		rc = warden_start(fs);
	if (rc == 0) {
		rc = -pthread_create(&server.thread, NULL, serve, &server);
		if (rc < 0)
			warden_stop(fs);
	}
	if (rc < 0) {
		say("cannot serve: %s", strerror(-rc));
		return rc;
	}
	guard = guard_start(point);
	become_ready(ready);
	*taken_away = serve_until_end(fs, &server);
	guard_stop(guard);
	return 0;
}

static int mount_and_serve(struct fs *fs, const struct mount_plan *plan, const struct where *w,
			   int ready)
{
	bool taken_away = true;
	int rc = store_begin(fs, w->store), closed;

	if (rc < 0)
		return rc;
	if (fuse_session_mount(fs->session, w->point) == 0) {
		rc = serve_mounted(fs, plan, w->point, ready, &taken_away);
		fuse_session_unmount(fs->session);
	} else {
		say("%s: cannot be mounted on", w->point);
		rc = -EIO;
	}
	closed = store_end(fs, w->store, taken_away);
	return rc < 0 ? rc : closed;
}

/* The daemon: from its first step to its exit status. `ready` is -1 in the foreground. */
static int run(struct mount_plan *plan, const struct where *w, int ready)
{
	struct fs fs = { .os = os_posix(), .options = plan->options };
	int status;

	mem_keep();
	block_signals();
	fuse_set_log_func(fuse_says);
	rwlock_init(&fs.names);
	mutex_init(&fs.dirs_lock);
	warden_init(&fs.warden);
	status = session_new(&fs, w->store, plan->debug) < 0 ? EXIT_USAGE : 0;
	if (status == 0) {
		status = mount_and_serve(&fs, plan, w, ready) < 0 ? 1 : 0;
		fuse_session_destroy(fs.session);
	}
	warden_done(&fs.warden);
	mutex_done(&fs.dirs_lock);
	rwlock_done(&fs.names);
	return status;
}

/* ---- the background -------------------------------------------------------------------------- */

/* The parent's part: waits until the daemon is ready, or passes on how it ended. */
static int wait_for(pid_t daemon, int ready)
{
	ssize_t got;
	char byte;
	int status;

	do {
		got = read(ready, &byte, 1);
	} while (got < 0 && errno == EINTR);
	if (got == 1)
		return 0;
	if (waitpid(daemon, &status, 0) == daemon && WIFEXITED(status))
		return WEXITSTATUS(status);
	say("the daemon ended before the mount was ready");
	return 1;
}

static int run_in_background(struct mount_plan *plan, const struct where *w)
{
	int ready[2];
	pid_t daemon;

	if (pipe2(ready, O_CLOEXEC) < 0 || (daemon = fork()) < 0) {
		say("no background: %s", strerror(errno));
		return 1;
	}
	if (daemon > 0) {
		close(ready[1]);
		return wait_for(daemon, ready[0]);
	}
	close(ready[0]);
	setsid();
	if (chdir("/") < 0)
		say("/: %s", strerror(errno));
	return run(plan, w, ready[1]);
}

int mount_run(struct mount_plan *plan)
{
	struct where w;

	if (find(plan, &w) < 0)
		return 1;
	options_settle(&plan->options, geteuid() == 0);
	return plan->foreground ? run(plan, &w, -1) : run_in_background(plan, &w);
}
