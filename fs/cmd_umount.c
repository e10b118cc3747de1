/* `cubby umount`: umount(8) returns while the daemon is still writing; this one waits until the
 * store is closed, which is when its lock can be had. */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mounted.h"
#include "path.h"
#include "say.h"
#include "store.h"

static int usage(void)
{
	fprintf(stderr, "usage: cubby umount MOUNTPOINT\n");
	return EXIT_USAGE;
}

/* ---- until the store is closed --------------------------------------------------------------- */

/* 0: nobody has the store; -EBUSY: somebody has; others: it cannot be looked at. */
static int look(struct os *os, const char *store)
{
	struct os_dir *dir;
	struct os_file *file;
	int rc = os->open_dir(os, store, 0, &dir);

	if (rc < 0)
		return rc;
	rc = os->open(dir, FILE_LOCK, 0, &file);
	if (rc == 0) {
		rc = os->lock(file);
		os->close(file);
	}
	os->close_dir(dir);
	return rc;
}

/* The mount of a store that nobody has answers nobody either. */
static bool is_dead(const char *store)
{
	return look(os_posix(), store) == 0 || mounted_dying(store);
}

static void wait_for(const char *store)
{
	const struct timespec moment = { .tv_nsec = 5 * 1000 * 1000 };

	while (look(os_posix(), store) == -EBUSY)
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
	if (mounted_find(point, store) < 0) {
		say("%s: no store is mounted there", point);
		return 1;
	}
	if (mounted_take_away(point, is_dead(store)) < 0)
		return 1;
	wait_for(store);
	return 0;
}
