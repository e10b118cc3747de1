/* os.h - the machine: one folder of files, clocks, randomness, as a table of functions.
 *
 * The store reaches the world through this table only. `os_posix()` is the real one;
 * tests/sim/disk.h is one that lies: it forgets, tears and reorders what was not synced. The
 * contract below is what both keep, and all that the store may rely on after a power cut:
 *
 * - bytes written are durable once `sync` of that file has returned 0 after the write returned;
 * - before that, any subset of what was written may be durable, in any order and across files;
 *   of a sector of 512 or 4096 bytes, its beginning or its end only;
 * - a file's name is durable once `sync_dir` has returned 0 after it was created or removed;
 *   before that, any subset of such changes may be;
 * - what is durable stays, bit for bit (rot is found by checksums, not promised away here).
 *
 * Functions return 0 (or a count) or a negative errno, and may be called from any thread. Names
 * are plain file names inside the folder, never paths; symbolic links are not followed.
 */
#ifndef CUBBY_OS_H
#define CUBBY_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct os_dir;
struct os_file;

enum {
	OS_CREATE = 1,		/* make it if it is missing (files 0600, folders 0700) */
	OS_EXCLUSIVE = 2,	/* with OS_CREATE: -EEXIST if it is there */
};

struct os {
	/* Opens the folder `path`. Gives *out, for close_dir. */
	int (*open_dir)(struct os *os, const char *path, unsigned flags, struct os_dir **out);
	void (*close_dir)(struct os_dir *dir);
	int (*sync_dir)(struct os_dir *dir);

	/* Calls visit for each name but "." and "..", in no order; stops when it returns non-zero
	 * and returns that. */
	int (*list)(struct os_dir *dir, int (*visit)(void *arg, const char *name), void *arg);

	/* Free and all bytes of the file system the folder is on, as an unprivileged user sees it:
	 * what is kept for root is in neither. */
	int (*space)(struct os_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes);

	/* Opens for reading and writing. Gives *out, for close. */
	int (*open)(struct os_dir *dir, const char *name, unsigned flags, struct os_file **out);
	void (*close)(struct os_file *file);
	int (*remove)(struct os_dir *dir, const char *name);

	/* Reads `size` bytes at `offset`; returns how many there were (fewer only at the end of the
	 * file). */
	ssize_t (*read)(struct os_file *file, void *bytes, size_t size, uint64_t offset);

	/* Writes all of it or fails; after a failure any part may have been written. */
	int (*write)(struct os_file *file, const void *bytes, size_t size, uint64_t offset);

	/* Maps the first `size` bytes of a file that is at least as long, for put, until it is
	 * closed. -ENODEV, for instance: it cannot be mapped. */
	int (*map)(struct os_file *file, size_t size);

	/* As write, within what is mapped, and without a system call; but a sync does not become
	 * cheaper by it. If the process ends meanwhile, what earlier calls have put is there. */
	int (*put)(struct os_file *file, const void *bytes, size_t size, uint64_t offset);

	/* Makes what was written durable. A failure is final: whoever sees one must never trust a
	 * later success on the same file. */
	int (*sync)(struct os_file *file);

	/* Has the disk begin with what was written there; with `wait`, returns when it is done with
	 * that. Promises nothing, but leaves the less for a sync to do. A failure is as final. */
	int (*flush)(struct os_file *file, uint64_t offset, uint64_t size, bool wait);

	/* Is a sync under way, of whatever file? Then a flush may have to wait for that. A hint. */
	bool (*syncing)(struct os *os);

	/* Makes [offset, offset + size) real blocks reading as they did, or as zeros where there
	 * was nothing, so that writing there cannot meet -ENOSPC; grows the file if need be. */
	int (*allocate)(struct os_file *file, uint64_t offset, uint64_t size);

	int (*truncate)(struct os_file *file, uint64_t size);
	int (*size)(struct os_file *file, uint64_t *size);

	/* Takes the exclusive lock of the file, without waiting; closing the file or the end of the
	 * process gives it back. -EBUSY if another process, or another open of this one, has it. */
	int (*lock)(struct os_file *file);

	uint64_t (*now_ns)(struct os *os);		/* since 1970-01-01 UTC; may jump */
	uint64_t (*monotonic_ns)(struct os *os);	/* from some moment; never steps back */
	int (*random)(struct os *os, void *bytes, size_t size);
};

/* The real one. Lends a table that lives for ever. */
struct os *os_posix(void);

#endif
