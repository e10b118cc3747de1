#include "mounted.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "say.h"
#include "store.h"

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

/* Finds the latest mount at `path`; either may be NULL. */
static int find(const char *path, char *store, unsigned *number)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *point, *type, *source;
	size_t capacity = 0;
	unsigned minor;
	int rc = -EINVAL;

	if (!f)
		return -errno;
	while (getline(&line, &capacity, f) > 0) {
		if (sscanf(line, "%*u %*u %*u:%u", &minor) != 1)
			continue;
		if (!parse_mount(line, &point, &type, &source) || strcmp(point, path) != 0)
			continue;
		rc = strcmp(type, "fuse.cubby") == 0 ? 0 : -EINVAL;
		if (store)
			snprintf(store, PATH_MAX, "%s", source);
		if (number)
			*number = minor;
	}
	free(line);
	fclose(f);
	return rc;
}

int mounted_find(const char *path, char store[PATH_MAX])
{
	return find(path, store, NULL);
}

int mounted_number(const char *path, unsigned *number)
{
	return find(path, NULL, number);
}

/* ---- whose daemon is dying ------------------------------------------------------------------- */

/* The number of the process that has, or had, the store; 0 if it is not known. */
static long daemon_of(const char *store)
{
	char path[PATH_MAX + sizeof("/" FILE_LOCK)];
	long pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/" FILE_LOCK, store);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%ld", &pid) != 1)
		pid = 0;
	fclose(f);
	return pid;
}

/* A process whose first thread is a zombie while another is still in the kernel. */
bool mounted_dying(const char *store)
{
	const long pid = daemon_of(store);
	char path[64], line[256], *state = NULL;
	FILE *f;

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(line, sizeof(line), f))
		state = strrchr(line, ')');
	fclose(f);
	return state && strncmp(state, ") Z", 3) == 0;
}

void mounted_wait_dying(const char *store)
{
	const struct timespec moment = { .tv_nsec = 5 * 1000 * 1000 };

	for (int i = 0; i < 1000 && mounted_dying(store); i++)
		nanosleep(&moment, NULL);
}

/* ---- taking it away -------------------------------------------------------------------------- */

/* For those who may not unmount themselves. Says itself what is wrong. */
static int ask_fusermount(const char *point, bool dead)
{
	const pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (child == 0) {
		execlp("fusermount3", "fusermount3", dead ? "-uz" : "-u", "--", point, NULL);
		perror("fusermount3");
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int mounted_take_away(const char *point, bool dead)
{
	if (umount2(point, UMOUNT_NOFOLLOW | (dead ? MNT_FORCE | MNT_DETACH : 0)) == 0)
		return 0;
	if (errno == EPERM) {
		const int rc = ask_fusermount(point, dead);

		if (rc == -EPERM)
			say("%s: only root and who has mounted it may unmount it, and only if "
			    "nobody uses it", point);
		return rc;
	}
	if (errno == EBUSY)
		say("%s: in use: a program has a file open there, or is in it", point);
	else
		say("%s: %s", point, strerror(errno));
	return -errno;
}
