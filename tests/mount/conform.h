/* conform.h - what every local file system does, tried on the disk's own and on cubby.
 *
 * conform_run runs each test twice: as NAME_on_disk in a plain folder, so that a wrong expectation
 * shows, and as NAME_on_cubby on a mount. Without an ext4 below (TMPDIR, or /var/tmp), and under
 * the address sanitizer, the first is left out. Each test starts in an empty directory of its own
 * that everybody may write, with the umask 022, and as root if we are. Afterwards what it left
 * open is closed, and it is root again.
 *
 * Where cubby means to differ, differs() says so; conform.c lists why.
 */
#ifndef CUBBY_TEST_CONFORM_H
#define CUBBY_TEST_CONFORM_H

#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFORM(test) cmocka_unit_test(test)

int conform_run(const struct CMUnitTest *tests, size_t count);

/* What cubby does otherwise on purpose. */
enum difference {
	READING_LEAVES_ATIME,
	DEVICES_ARE_SHUT,
	NO_TMPFILE,
	NO_WHITEOUT,
	VERSION_IS_LISTED,
	PATHS_KEEP_NOTHING,
	DIRECT_TAKES_ALL,
	FILES_CAN_BE_POLLED,
	FIFOS_MOVE_NO_TIMES,
	NO_NOWAIT,
	DIFFERENCES,
};

/* True on cubby, false on the disk. */
bool differs(enum difference which);

/* Is this program built with the address sanitizer? */
bool sanitized(void);

/* This thread becomes another user in one group (real and effective), and root again. Ends the
 * test as skipped if we are not root. */
void become(uid_t uid, gid_t gid);
void become_root(void);

/* Nothing below the working directory may be changed any more, or may again: mounts anew, read-only
 * if `on`; of the plain folder a second view. Only root can. */
void read_only(bool on);

/* Makes, in the working directory: the file f ("hello"), the empty directory d, the directory full
 * with the file x, the links l to f, ld to d, loop to itself, dangling to nothing, the fifo p. */
void furnish(void);

/* A name of 255 and one of 256 bytes. */
const char *longest_name(void);
const char *too_long_name(void);

struct stat stat_of(const char *name); /* lstat */
int64_t ns_of(struct timespec t);

#define assert_all(call, size) assert_int_equal((call), (ssize_t)(size))

#endif
