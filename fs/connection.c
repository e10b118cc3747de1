/* libfuse lets us stand between it and the kernel (fuse_session_custom_io). All we do there is look
 * at INIT, the first request, on the thread that has asked for it: so it needs no lock, and no
 * place to remember that but this thread's own. */
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/fuse.h>

#include <fuse_lowlevel.h>

enum {
	MAX_WRITE = 1 << 20,
	IDLE_THREADS = 10,
	MAX_THREADS = 10,
};

/* MEASURED 21 to 23 say what each of these is worth. The kernel's automatic invalidation is off:
 * contents change only through this mount, and the few exceptions are told (warden.h). */
void connection_init(struct fuse_conn_info *conn)
{
	conn->want |= conn->capable &
		      (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPLICIT_INVAL_DATA |
		       FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ |
		       FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_EXPIRE_ONLY);
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
				  FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE | FUSE_CAP_HANDLE_KILLPRIV);
	conn->max_write = MAX_WRITE;
}

/* ---- what libfuse does not know -------------------------------------------------------------- */

/* Of the request that this thread has read last, in connection_begin. */
static _Thread_local bool offered;

static ssize_t read_request(int fd, void *bytes, size_t size, void *userdata)
{
	(void)userdata;
	return read(fd, bytes, size);
}

/* The kernel looks at the flags only in what answers INIT, and `offered` is true only then. */
static ssize_t write_answer(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_init_out *answer = count == 2 ? iov[1].iov_base : NULL;

	(void)userdata;
	if (offered && answer && iov[1].iov_len >= sizeof(*answer))
		answer->flags |= FUSE_HANDLE_KILLPRIV_V2;
	return writev(fd, iov, count);
}

static bool offers_killpriv(const struct fuse_buf *request)
{
	const struct fuse_in_header *header = request->mem;
	const struct fuse_init_in *init = (const void *)(header + 1);

	return request->size >= sizeof(*header) + offsetof(struct fuse_init_in, flags2) &&
	       header->opcode == FUSE_INIT && init->flags & FUSE_HANDLE_KILLPRIV_V2;
}

int connection_begin(struct fuse_session *session,
		     ssize_t (*read)(int fd, void *bytes, size_t size, void *userdata))
{
	const struct fuse_custom_io io = {
		.read = read ? read : read_request, .writev = write_answer,
	};
	struct fuse_buf request = { .mem = NULL };
	int rc = fuse_session_custom_io(session, &io, fuse_session_fd(session));

	if (rc < 0)
		return rc;
	do {
		rc = fuse_session_receive_buf(session, &request);
	} while (rc == -EINTR);
	if (rc > 0) {
		offered = offers_killpriv(&request);
		fuse_session_process_buf(session, &request);
		offered = false;
	}
	free(request.mem);
	return rc < 0 ? rc : 0;
}

/* ---- what it does ---------------------------------------------------------------------------- */

/* MEASURED 21: who only reads needs nothing at close. Who only writes might bypass the page cache
 * and save a GETXATTR, but whoever reads the file meanwhile could then see zeros, or write old
 * bytes back (DESIGN.md, "Requests"). */
void connection_open(struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
}

void connection_give(struct fuse_session *session, uint64_t id, void *bytes, size_t size)
{
	struct fuse_bufvec contents = FUSE_BUFVEC_INIT(size);

	contents.buf[0].mem = bytes;
	fuse_lowlevel_notify_store(session, id, 0, &contents, 0);
}

int connection_loop(struct fuse_session *session)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int rc;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 0);
	fuse_loop_cfg_set_idle_threads(config, IDLE_THREADS);
	fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
	rc = fuse_session_loop_mt(session, config);
	fuse_loop_cfg_destroy(config);
	return rc;
}
