/* connection.h - how we speak with the kernel: what is asked of it, and with how many threads.
 *
 * tests/bench/nullfs.c, with which the bench compares us, speaks in the same way by calling the
 * same functions, so that the difference between the two is what the store costs, and nothing else.
 */
#ifndef CUBBY_FS_CONNECTION_H
#define CUBBY_FS_CONNECTION_H

#include <stdint.h>
#include <sys/types.h>

struct fuse_conn_info;
struct fuse_file_info;
struct fuse_session;

/* How long, in seconds, the kernel may keep that a name is not there, or what never expires. */
#define CACHE_SECONDS 86400.0

/* What we want of what the kernel can do: for the INIT request. */
void connection_init(struct fuse_conn_info *conn);

/* Answers the kernel's first request, INIT, and with that tells it what libfuse 3.14 does not know
 * of: that we take set-user-id, set-group-id and capabilities off what is written to, truncated or
 * given away (FUSE_HANDLE_KILLPRIV_V2). Else it would ask for the attribute security.capability at
 * each write and each opening with O_TRUNC. A kernel that does not offer it goes on asking. To be
 * called once, after fuse_session_mount and before the loop; 0 or a negative errno. `read` reads
 * requests from now on, for who wants to see them before libfuse; NULL: as they come. */
int connection_begin(struct fuse_session *session,
		     ssize_t (*read)(int fd, void *bytes, size_t size, void *userdata));

/* How the kernel is to treat a file that was just opened. */
void connection_open(struct fuse_file_info *fi);

/* Gives the kernel the whole contents of a file, so that it need not ask for them. It takes the file's
 * pages one by one: not to be called while it may wait for us with one of them in hand, as it does
 * in READ and WRITE. Best effort: what it has not got it asks for. */
void connection_give(struct fuse_session *session, uint64_t id, void *bytes, size_t size);

/* Serves until the session ends; 0 or a negative errno. */
int connection_loop(struct fuse_session *session);

#endif
