#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mounted.h"

/* The filesystem of all connections, without mounting it anywhere. */
static int open_control(void)
{
	const int context = fsopen("fusectl", FSOPEN_CLOEXEC);
	int fd = -1;

	if (context < 0)
		return -1;
	if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		fd = fsmount(context, FSMOUNT_CLOEXEC, 0);
	close(context);
	return fd;
}

/* What ends the connection when it is written to. Opened at once: numbers are used again. */
static int open_abort(const char *point)
{
	char path[64];
	unsigned number;
	int control, fd;

	if (mounted_number(point, &number) < 0)
		return -1;
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", number);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	control = open_control();
	if (control < 0)
		return -1;
	snprintf(path, sizeof(path), "%u/abort", number);
	fd = openat(control, path, O_WRONLY | O_CLOEXEC);
	close(control);
	return fd;
}

/* In a child of a process with threads: only system calls. */
static _Noreturn void stand_guard(int fd, pid_t daemon, const sigset_t *death)
{
	int signal = 0;

	if (fd > 0)
		close_range(0, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0U, 0);
	prctl(PR_SET_NAME, "cubby-guard");
	prctl(PR_SET_PDEATHSIG, SIGUSR1);
	while (getppid() == daemon && signal != SIGUSR1)
		sigwait(death, &signal);
	_exit(write(fd, "1", 1) < 0);
}

pid_t guard_start(const char *point)
{
	const int fd = open_abort(point);
	const pid_t daemon = getpid();
	sigset_t death, old;
	pid_t guard;

	if (fd < 0)
		return 0;
	sigfillset(&death);
	pthread_sigmask(SIG_BLOCK, &death, &old);
	guard = fork();
	if (guard == 0)
		stand_guard(fd, daemon, &death);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(fd);
	return guard < 0 ? 0 : guard;
}

void guard_stop(pid_t guard)
{
	if (guard == 0)
		return;
	kill(guard, SIGKILL);
	while (waitpid(guard, NULL, 0) < 0 && errno == EINTR)
		;
}
