/* `cubby umount`: umount(8) returns while the daemon is still writing; this one waits until the
 * store is closed, which is when its lock can be had. */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "path.h"
#include "say.h"
#include "store.h"

static int usage(void)
{
	fprintf(stderr, "usage: cubby umount MOUNTPOINT\n");
	return EXIT_USAGE;
}

/* ---- which mount ----------------------------------------------------------------------------- */

/* Takes the \ooo out of a field of mountinfo, in place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		unsigned value;

		if (*from == '\\' && sscanf(from, "\\%3o", &value) == 1 && from[1] && from[2]) {
			*to++ = (char)value;
			from += 3;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
}

/* A mountinfo line: "36 35 98:0 / /point rw,noatime master:1 - fuse.cubby /store rw,...". */
static bool parse_mount(char *line, char **point, char **type, char **source)
{
	char *save, *field = strtok_r(line, " ", &save);

	for (int i = 0; field && i < 4; i++)
		field = strtok_r(NULL, " ", &save);
	*point = field;
	while (field && strcmp(field, "-") != 0)
		field = strtok_r(NULL, " ", &save);
	*type = strtok_r(NULL, " ", &save);
	*source = *type ? strtok_r(NULL, " ", &save) : NULL;
	if (!*source)
		return false;
	unescape(*point);
	unescape(*source);
	return true;
}

/* The store of the latest mount at `path`. -EINVAL: nothing of ours is mounted there. */
static int find_mount(const char *path, char store[PATH_MAX])
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *point, *type, *source;
	size_t capacity = 0;
	int rc = -EINVAL;

	if (!f)
		return -errno;
	while (getline(&line, &capacity, f) > 0) {
		if (!parse_mount(line, &point, &type, &source) || strcmp(point, path) != 0)
			continue;
		rc = strcmp(type, "fuse.cubby") == 0 ? 0 : -EINVAL;
		snprintf(store, PATH_MAX, "%s", source);
	}
	free(line);
	fclose(f);
	return rc;
}

/* ---- taking it away -------------------------------------------------------------------------- */

/* For those who may not unmount themselves. Says itself what is wrong. */
static int ask_fusermount(const char *point)
{
	const pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (child == 0) {
		execlp("fusermount3", "fusermount3", "-u", "--", point, NULL);
		perror("fusermount3");
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

static int take_away(const char *point)
{
	if (umount2(point, UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno == EPERM)
		return ask_fusermount(point);
	if (errno == EBUSY)
		say("%s: in use: a program has a file open there, or is in it", point);
	else
		say("%s: %s", point, strerror(errno));
	return -errno;
}

/* ---- until the store is closed --------------------------------------------------------------- */

/* 1: closed, or nothing that we could look at; 0: not yet. */
static int is_closed(struct os *os, const char *store)
{
	struct os_dir *dir;
	struct os_file *file;
	int rc = os->open_dir(os, store, 0, &dir);

	if (rc < 0)
		return 1;
	rc = os->open(dir, FILE_LOCK, 0, &file);
	if (rc == 0) {
		rc = os->lock(file);
		os->close(file);
	}
	os->close_dir(dir);
	return rc != -EBUSY;
}

static void wait_for(const char *store)
{
	const struct timespec moment = { .tv_nsec = 5 * 1000 * 1000 };

	while (!is_closed(os_posix(), store))
		nanosleep(&moment, NULL);
}

int cmd_umount(int argc, char **argv)
{
	char point[PATH_MAX], store[PATH_MAX];
	int rc;

	if (getopt(argc, argv, "") != -1 || argc - optind != 1)
		return usage();
	rc = path_resolve(argv[optind], point);
	if (rc < 0) {
		say("%s: %s", argv[optind], strerror(-rc));
		return 1;
	}
	if (find_mount(point, store) < 0) {
		say("%s: no store is mounted there", point);
		return 1;
	}
	if (take_away(point) < 0)
		return 1;
	wait_for(store);
	return 0;
}
