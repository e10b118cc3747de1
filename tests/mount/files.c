/* The vocabulary of the mount tests: the shell, files, processes and numbers. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	COMMAND_MAX = 16 * 1024,
	SAID_MAX = 1 << 20,
	COMMAND_S = 500, /* a command may take this long: less than a test */
};

static char text[SAID_MAX]; /* what the last command said */

/* ---- the shell ---------------------------------------------------------------------------- */

static void read_all(int fd, char *to, size_t room)
{
	size_t size = 0;
	ssize_t n;
	char rest[4096];

	while ((n = read(fd, to + size, room - 1 - size)) > 0 && size + (size_t)n < room - 1)
		size += (size_t)n;
	size += n > 0 ? (size_t)n : 0;
	to[size] = '\0';
	while (read(fd, rest, sizeof(rest)) > 0)
		; /* a full pipe must not stop the command */
}

static int sh_command(const char *command)
{
	char limit[16];
	int pipes[2];
	int status;
	pid_t pid;

	assert_ok(pipe(pipes));
	snprintf(limit, sizeof(limit), "%d", COMMAND_S);
	pid = fork();
	assert_ok(pid);
	if (pid == 0) {
		dup2(pipes[1], STDOUT_FILENO);
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		execlp("timeout", "timeout", "-k", "5", limit, "bash", "-c", command, NULL);
		_exit(127);
	}
	close(pipes[1]);
	read_all(pipes[0], text, sizeof(text));
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int sh_format(char *command, const char *format, va_list args)
{
	const int n = vsnprintf(command, COMMAND_MAX, format, args);

	assert_in_range(n, 1, COMMAND_MAX - 1);
	return sh_command(command);
}

int sh(const char *format, ...)
{
	char command[COMMAND_MAX];
	va_list args;
	int status;

	va_start(args, format);
	status = sh_format(command, format, args);
	va_end(args);
	return status;
}

const char *said(void)
{
	return text;
}

const char *run(const char *format, ...)
{
	char command[COMMAND_MAX];
	va_list args;
	int status;
	size_t size;

	va_start(args, format);
	status = sh_format(command, format, args);
	va_end(args);
	if (status != 0)
		fail_msg("status %d from: %s\n%.4000s", status, command, text);
	size = strlen(text);
	if (size > 0 && text[size - 1] == '\n')
		text[size - 1] = '\0';
	return text;
}

/* ---- files -------------------------------------------------------------------------------- */

static void write_all(int fd, const void *bytes, size_t size)
{
	const char *p = bytes;

	while (size > 0) {
		const ssize_t n = write(fd, p, size);

		assert_ok(n);
		p += n;
		size -= (size_t)n;
	}
}

void put_bytes(const char *name, const void *bytes, size_t size)
{
	const int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		fail_msg("open %s: %s", name, strerror(errno));
	write_all(fd, bytes, size);
	assert_ok(close(fd));
}

void put(const char *name, const char *words)
{
	put_bytes(name, words, strlen(words));
}

const char *get(const char *name)
{
	static char words[64 * 1024];
	const int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		fail_msg("open %s: %s", name, strerror(errno));
	n = read(fd, words, sizeof(words) - 1);
	assert_ok(n);
	close(fd);
	words[n] = '\0';
	return words;
}

bool holds(const char *name, const void *bytes, size_t size)
{
	const int fd = open(name, O_RDONLY | O_CLOEXEC);
	char *found = test_malloc(size + 1);
	size_t done = 0;
	bool same;

	if (fd < 0)
		fail_msg("open %s: %s", name, strerror(errno));
	while (done <= size) {
		const ssize_t n = read(fd, found + done, size + 1 - done);

		assert_ok(n);
		if (n == 0)
			break;
		done += (size_t)n;
	}
	close(fd);
	same = done == size && memcmp(found, bytes, size) == 0;
	test_free(found);
	return same;
}

bool exists(const char *name)
{
	struct stat st;
	const int rc = lstat(name, &st);

	if (rc < 0)
		assert_int_equal(errno, ENOENT);
	return rc == 0;
}

uint64_t version(const char *name)
{
	char digits[32] = "";
	const ssize_t n = getxattr(name, "user.cubby.version", digits, sizeof(digits) - 1);

	if (n < 0)
		fail_msg("version of %s: %s", name, strerror(errno));
	return strtoull(digits, NULL, 10);
}

/* ---- processes and numbers ---------------------------------------------------------------- */

pid_t spawn(int (*work)(void *arg), void *arg)
{
	const pid_t pid = fork();

	assert_ok(pid);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("CMOCKA_TEST_ABORT", "1",
		       1); /* a failed assert ends the child, not its test */
		_exit(work(arg) == 0 ? 0 : 1);
	}
	return pid;
}

bool joined(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

uint64_t number_from_env(const char *name, uint64_t otherwise)
{
	const char *number = getenv(name);

	return number && *number ? strtoull(number, NULL, 0) : otherwise;
}

/* SplitMix64. */
uint64_t random_next(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void random_fill(void *bytes, size_t size, uint64_t seed)
{
	uint8_t *p = bytes;
	uint64_t state = seed ^ size << 32;

	while (size > 0) {
		const uint64_t word = random_next(&state);
		const size_t n = size < sizeof(word) ? size : sizeof(word);

		memcpy(p, &word, n);
		p += n;
		size -= n;
	}
}
