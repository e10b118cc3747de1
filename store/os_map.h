/* os_map.h - the beginning of a file in memory, which may fail without ending the process. Private
 * to os_posix.c.
 *
 * Where the file system cannot keep a mapped page (the disk is gone, say, or somebody has cut the
 * file off), the kernel sends SIGBUS to whoever touches it. Here the bytes are then thrown away,
 * and the one who put them is told.
 *
 * The process gets a handler of SIGBUS when a map is made. For what is no map of ours it does what
 * was done before. At most 16 maps at a time. Functions may be called from any thread, but for one
 * map only one at a time. Return 0 or a negative errno.
 */
#ifndef CUBBY_OS_MAP_H
#define CUBBY_OS_MAP_H

#include <stddef.h>

struct os_map;

/* Gives *out, for os_map_done. -ENFILE: there are too many. */
int os_map_new(int fd, size_t size, struct os_map **out);

/* Accepts NULL. */
void os_map_done(struct os_map *map);

/* The bytes must lie within. After -EIO, what was put before is lost, too, and nothing can be put.
 */
int os_map_put(struct os_map *map, const void *bytes, size_t size, size_t at);

#endif
