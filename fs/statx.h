/* statx.h - what statx(2) shows beyond stat(2): when a file was made.
 *
 * libfuse 3.14 does not know FUSE_STATX, and would tell the kernel so. So its requests are answered
 * here, where the session reads them, before libfuse sees them. The kernel keeps the answer like
 * any attributes; only who asks for the birth time makes it ask.
 */
#ifndef CUBBY_FS_STATX_H
#define CUBBY_FS_STATX_H

#include <sys/types.h>

/* Reads the next request that is not one of those: for fuse_session_custom_io, with `fs` as the
 * session's user data. */
ssize_t statx_read(int fd, void *bytes, size_t size, void *fs);

#endif
