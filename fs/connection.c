#include "connection.h"

#include <errno.h>
#include <fcntl.h>

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

/* MEASURED 21: who only writes needs no page cache, and who only reads nothing at close. */
void connection_open(struct fuse_file_info *fi)
{
	const int access = fi->flags & O_ACCMODE;

	fi->keep_cache = 1;
	fi->direct_io = access == O_WRONLY;
	fi->noflush = access == O_RDONLY;
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
