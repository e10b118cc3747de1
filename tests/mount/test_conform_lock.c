/* flock, fcntl's locks of processes and of open files, leases: who waits for whom, and until when.
 * The other side is a process that answers whether it could have the lock. */
#include "mount/conform.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static struct flock region(int type, off_t start, off_t size)
{
	return (struct flock){ .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start,
			       .l_len = size };
}

static int lock(int fd, int command, int type, off_t start, off_t size)
{
	struct flock l = region(type, start, size);

	return fcntl(fd, command, &l);
}

/* ---- what another process is told ----------------------------------------------------------- */

struct wish {
	int command; /* 0: flock with `type` */
	int type;
	off_t start, size;
};

static int try_wish(void *arg)
{
	const struct wish *w = arg;
	const int fd = open("f", O_RDWR);
	int rc;

	if (fd < 0)
		return 99;
	rc = w->command ? lock(fd, w->command, w->type, w->start, w->size)
			: flock(fd, w->type | LOCK_NB);
	return rc == 0 ? 0 : errno;
}

/* 0 or the errno that another process gets. */
static int other_gets(struct wish w)
{
	const pid_t child = fork();
	int status;

	assert_ok(child);
	if (child == 0)
		_exit(try_wish(&w));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int other_flock(int type)
{
	return other_gets((struct wish){ .type = type });
}

static int other_lock(int type, off_t start, off_t size)
{
	return other_gets((struct wish){ F_SETLK, type, start, size });
}

/* ---- flock ---------------------------------------------------------------------------------- */

static void flock_is_shared_or_exclusive(void **state)
{
	int fd, twin;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDONLY);
	assert_ok(flock(fd, LOCK_SH));
	assert_int_equal(other_flock(LOCK_SH), 0);
	assert_int_equal(other_flock(LOCK_EX), EWOULDBLOCK);
	assert_ok(flock(fd, LOCK_EX));
	assert_int_equal(other_flock(LOCK_SH), EWOULDBLOCK);
	twin = dup(fd); /* of the open file: stays until the last is closed */
	assert_ok(close(fd));
	assert_int_equal(other_flock(LOCK_SH), EWOULDBLOCK);
	assert_ok(flock(twin, LOCK_UN));
	assert_int_equal(other_flock(LOCK_EX), 0);
	assert_ok(flock(twin, LOCK_EX));
	assert_ok(close(twin));
	assert_int_equal(other_flock(LOCK_EX), 0);
	fd = open("f", O_RDONLY);
	assert_errno(flock(fd, 0), EINVAL);
	assert_errno(flock(fd, LOCK_EX | LOCK_SH), EINVAL);
	assert_ok(close(fd));
	assert_errno(flock(fd, LOCK_EX), EBADF);
	fd = open(".", O_RDONLY); /* a directory can be locked too */
	assert_ok(flock(fd, LOCK_EX));
	assert_ok(close(fd));
}

static int holder(void *arg)
{
	const int fd = open("f", O_RDWR);
	const int *pipes = arg;

	if (flock(fd, LOCK_EX) < 0 || lock(fd, F_SETLK, F_WRLCK, 0, 0) < 0)
		return 1;
	if (write(pipes[1], "x", 1) != 1)
		return 2;
	pause();
	return 0;
}

static void a_killed_process_lets_go(void **state)
{
	int pipes[2], fd;
	pid_t child;
	char byte;

	(void)state;
	put("f", "x");
	assert_ok(pipe(pipes));
	child = spawn(holder, pipes);
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	fd = open("f", O_RDWR);
	assert_errno(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	assert_errno(lock(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	assert_ok(kill(child, SIGKILL));
	assert_ok(flock(fd, LOCK_EX)); /* waits until it is free */
	assert_ok(lock(fd, F_SETLKW, F_WRLCK, 0, 0));
	waitpid(child, NULL, 0);
	assert_ok(close(fd));
}

/* ---- regions -------------------------------------------------------------------------------- */

static void regions_are_locked_apart(void **state)
{
	struct flock l;
	int fd;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDWR);
	assert_ok(lock(fd, F_SETLK, F_WRLCK, 10, 10));
	assert_ok(lock(fd, F_SETLK, F_RDLCK, 30, 0)); /* to the end, wherever that comes to be */
	assert_int_equal(other_lock(F_WRLCK, 0, 10), 0);
	assert_int_equal(other_lock(F_RDLCK, 19, 1), EAGAIN);
	assert_int_equal(other_lock(F_WRLCK, 20, 10), 0);
	assert_int_equal(other_lock(F_RDLCK, 1000, 10), 0);
	assert_int_equal(other_lock(F_WRLCK, 1000000, 1), EAGAIN);
	/* A hole in the middle splits it. */
	assert_ok(lock(fd, F_SETLK, F_UNLCK, 13, 2));
	assert_int_equal(other_lock(F_WRLCK, 13, 2), 0);
	assert_int_equal(other_lock(F_WRLCK, 12, 1), EAGAIN);
	assert_int_equal(other_lock(F_WRLCK, 15, 1), EAGAIN);
	/* One's own locks are no obstacle, and who asks is told of the others. */
	l = region(F_WRLCK, 0, 0);
	assert_ok(fcntl(fd, F_GETLK, &l));
	assert_int_equal(l.l_type, F_UNLCK);
	assert_ok(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	assert_ok(close(fd));
	assert_int_equal(other_lock(F_WRLCK, 0, 0), 0);
}

static int ask_who(void *arg)
{
	struct flock l = region(F_WRLCK, 0, 0);
	const int fd = open("f", O_RDWR);

	if (fcntl(fd, F_GETLK, &l) < 0)
		return 1;
	return l.l_type == F_WRLCK && l.l_start == 10 && l.l_len == 10 && l.l_pid == *(pid_t *)arg ?
		       0 :
		       2;
}

static void who_holds_a_lock_is_told(void **state)
{
	pid_t self = getpid();
	int fd;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDWR);
	assert_ok(lock(fd, F_SETLK, F_WRLCK, 10, 10));
	assert_true(joined(spawn(ask_who, &self)));
	assert_ok(close(fd));
}

static void a_lock_wants_a_handle_of_its_kind(void **state)
{
	int reader, writer, fd;

	(void)state;
	put("f", "x");
	reader = open("f", O_RDONLY);
	writer = open("f", O_WRONLY);
	assert_errno(lock(reader, F_SETLK, F_WRLCK, 0, 0), EBADF);
	assert_errno(lock(writer, F_SETLK, F_RDLCK, 0, 0), EBADF);
	assert_errno(lock(reader, F_SETLK, 77, 0, 0), EINVAL);
	assert_errno(lock(reader, F_SETLK, F_RDLCK, -1, 1), EINVAL);
	assert_ok(lock(reader, F_SETLK, F_RDLCK, 5, -3)); /* the three bytes before */
	assert_int_equal(other_lock(F_WRLCK, 2, 1), EAGAIN);
	assert_int_equal(other_lock(F_WRLCK, 5, 1), 0);
	/* Closing any handle of the file lets go of all: POSIX wants it so. */
	fd = open("f", O_RDONLY);
	assert_ok(close(fd));
	assert_int_equal(other_lock(F_WRLCK, 2, 1), 0);
	assert_ok(close(reader));
	assert_ok(close(writer));
}

static void locks_of_an_open_file_belong_to_it(void **state)
{
	int a, b;

	(void)state;
	put("f", "x");
	a = open("f", O_RDWR);
	b = open("f", O_RDWR);
	assert_ok(lock(a, F_OFD_SETLK, F_WRLCK, 0, 10));
	assert_errno(lock(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN); /* of one process, yet apart */
	assert_ok(lock(b, F_OFD_SETLK, F_WRLCK, 10, 1));
	assert_int_equal(other_lock(F_WRLCK, 0, 1), EAGAIN);
	assert_ok(close(open("f", O_RDONLY))); /* another close does not matter */
	assert_int_equal(other_gets((struct wish){ F_OFD_SETLK, F_RDLCK, 0, 1 }), EAGAIN);
	assert_ok(close(a));
	assert_ok(lock(b, F_OFD_SETLK, F_WRLCK, 5, 1));
	assert_ok(close(b));
}

static int wait_in_a_circle(void *arg)
{
	const int fd = open("f", O_RDWR);
	const int *pipes = arg;

	if (lock(fd, F_SETLK, F_WRLCK, 1, 1) < 0 || write(pipes[1], "x", 1) != 1)
		return 1;
	return lock(fd, F_SETLKW, F_WRLCK, 0, 1) == 0 ? 0 : 2;
}

static void a_circle_of_waiters_is_edeadlk(void **state)
{
	int pipes[2], fd;
	pid_t child;
	char byte;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDWR);
	assert_ok(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	assert_ok(pipe(pipes));
	child = spawn(wait_in_a_circle, pipes);
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	sleep_ms(100); /* until it waits; were it later, we would wait for it instead */
	assert_errno(lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
	assert_ok(close(fd));
	assert_true(joined(child));
}

static void locks_outlive_rename_and_unlink(void **state)
{
	int fd;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDWR);
	assert_ok(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	assert_ok(rename("f", "g"));
	assert_ok(rename("g", "f"));
	assert_int_equal(other_lock(F_WRLCK, 0, 0), EAGAIN);
	assert_ok(unlink("f"));
	put("f", "another");
	assert_int_equal(other_lock(F_WRLCK, 0, 0), 0);
	assert_ok(close(fd));
}

static void a_lease_is_given_while_nobody_writes(void **state)
{
	int fd, writer;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDONLY);
	writer = open("f", O_WRONLY);
	assert_errno(fcntl(fd, F_SETLEASE, F_RDLCK), EAGAIN);
	assert_ok(close(writer));
	assert_ok(fcntl(fd, F_SETLEASE, F_RDLCK));
	assert_int_equal(fcntl(fd, F_GETLEASE), F_RDLCK);
	assert_ok(fcntl(fd, F_SETLEASE, F_UNLCK));
	assert_ok(close(fd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(flock_is_shared_or_exclusive),
		CONFORM(a_killed_process_lets_go),
		CONFORM(regions_are_locked_apart),
		CONFORM(who_holds_a_lock_is_told),
		CONFORM(a_lock_wants_a_handle_of_its_kind),
		CONFORM(locks_of_an_open_file_belong_to_it),
		CONFORM(a_circle_of_waiters_is_edeadlk),
		CONFORM(locks_outlive_rename_and_unlink),
		CONFORM(a_lease_is_given_while_nobody_writes),
	};

	return conform_run(tests, sizeof(tests) / sizeof(*tests));
}
