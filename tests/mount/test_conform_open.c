/* open, creat, close, access, umask: who may open what how, and what is made by it. */
#include "mount/conform.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

enum { USER = 12345, GROUP = 23456, OTHER = 54321 };

static int closed(int fd)
{
	return fd < 0 ? -1 : close(fd);
}

static void opening_says_what_is_wrong(void **state)
{
	(void)state;
	furnish();
	assert_errno(open("gone", O_RDONLY), ENOENT);
	assert_errno(open("d", O_WRONLY), EISDIR);
	assert_errno(open("d", O_RDWR), EISDIR);
	assert_errno(open("d", O_RDONLY | O_CREAT, 0644), EISDIR);
	assert_errno(open("d", O_RDONLY | O_TRUNC), EISDIR);
	assert_errno(open("ld", O_WRONLY), EISDIR);
	assert_errno(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	assert_errno(open("l", O_RDONLY | O_DIRECTORY), ENOTDIR);
	assert_errno(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
	assert_errno(open("ld", O_RDONLY | O_NOFOLLOW), ELOOP);
	assert_errno(open("ld", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
	assert_errno(open("f", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
	assert_errno(open("d", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
	assert_errno(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
	assert_errno(open("f", O_RDONLY | O_CREAT | O_DIRECTORY, 0644), EINVAL);
	assert_errno(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
	assert_errno(open("f/", O_RDONLY), ENOTDIR);
}

static void a_socket_cannot_be_opened(void **state)
{
	(void)state;
	assert_ok(mknod("s", S_IFSOCK | 0644, 0));
	assert_errno(open("s", O_RDONLY), ENXIO);
	assert_ok(closed(open("s", O_PATH)));
	assert_ok(unlink("s"));
}

static void device_nodes_keep_their_numbers(void **state)
{
	(void)state;
	only_root();
	assert_ok(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	assert_ok(mknod("none", S_IFCHR | 0644, makedev(4095, 0)));
	assert_ok(mknod("far", S_IFBLK | 0644, makedev(4095, 0xfffff)));
	assert_int_equal(stat_of("null").st_rdev, makedev(1, 3));
	assert_int_equal(stat_of("far").st_rdev, makedev(4095, 0xfffff));
	assert_true(S_ISBLK(stat_of("far").st_mode));
	if (differs(DEVICES_ARE_SHUT)) {
		assert_errno(open("null", O_RDWR), EACCES);
		return;
	}
	assert_ok(closed(open("null", O_RDWR)));
	assert_errno(open("none", O_RDONLY), ENXIO);
}

static void creation_through_a_dangling_link_makes_its_target(void **state)
{
	(void)state;
	furnish();
	assert_ok(closed(open("dangling", O_WRONLY | O_CREAT, 0644)));
	assert_true(exists("nothing"));
	assert_true(S_ISLNK(stat_of("dangling").st_mode));
}

/* mode given, umask, mode expected */
static void the_umask_is_taken_off(void **state)
{
	static const mode_t cases[][3] = {
		{ 0666, 022, 0644 }, { 0777, 027, 0750 }, { 0666, 0, 0666 },
		{ 0666, 0777, 0 },   { 0600, 077, 0600 }, { 04755, 022, 04755 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		umask((mode_t)cases[i][1]);
		assert_ok(closed(open("f", O_WRONLY | O_CREAT | O_EXCL, cases[i][0])));
		assert_ok(mkdir("d", cases[i][0] & 0777));
		assert_ok(mknod("n", S_IFREG | cases[i][0], 0));
		assert_ok(mkfifo("p", cases[i][0] & 0777));
		assert_int_equal(stat_of("f").st_mode & 07777, cases[i][2]);
		assert_int_equal(stat_of("n").st_mode & 07777, cases[i][2]);
		assert_int_equal(stat_of("d").st_mode & 07777, cases[i][2] & 0777);
		assert_int_equal(stat_of("p").st_mode & 07777, cases[i][2] & 0777);
		umask(0);
		assert_ok(symlink("x", "l"));
		assert_int_equal(stat_of("l").st_mode & 07777, 0777);
		run("rm -f f n p l; rmdir d");
	}
}

/* Whoever creates may write what he creates, whatever mode he gives it. */
static void the_mode_does_not_bind_its_creator(void **state)
{
	int fd;

	(void)state;
	become(USER, GROUP);
	fd = open("f", O_RDWR | O_CREAT, 0);
	assert_ok(fd);
	assert_all(write(fd, "hello", 5), 5);
	assert_ok(close(fd));
	assert_errno(open("f", O_RDONLY), EACCES);
	assert_errno(open("f", O_WRONLY), EACCES);
	assert_errno(open("f", O_RDONLY | O_CREAT, 0644), EACCES);
	assert_int_equal(stat_of("f").st_size, 5);
}

static void a_directory_with_setgid_gives_its_group(void **state)
{
	(void)state;
	only_root();
	assert_ok(mkdir("d", 0777));
	assert_ok(chown("d", 0, OTHER));
	assert_ok(chmod("d", 02777));
	become(USER, GROUP);
	assert_ok(closed(open("d/f", O_WRONLY | O_CREAT, 0644)));
	assert_ok(mkdir("d/d", 0755));
	assert_ok(mknod("d/p", S_IFIFO | 0644, 0));
	assert_ok(symlink("x", "d/l"));
	assert_int_equal(stat_of("d/f").st_gid, OTHER);
	assert_int_equal(stat_of("d/d").st_gid, OTHER);
	assert_int_equal(stat_of("d/p").st_gid, OTHER);
	assert_int_equal(stat_of("d/l").st_gid, OTHER);
	assert_int_equal(stat_of("d/f").st_uid, USER);
	assert_int_equal(stat_of("d/d").st_mode & 07777, 02755);
	assert_int_equal(stat_of("d/f").st_mode & 07777, 0644);
	assert_ok(mkdir("d/d/d", 0700));
	assert_int_equal(stat_of("d/d/d").st_mode & 07777, 02700);
	assert_int_equal(stat_of("d/d/d").st_gid, OTHER);
	/* A group one is not in does not become one's own by an executable. */
	assert_ok(closed(open("d/x", O_WRONLY | O_CREAT, 02775)));
	assert_int_equal(stat_of("d/x").st_mode & 07777, 0755);
	assert_int_equal(stat_of("d/x").st_gid, OTHER);
	/* Elsewhere it is the creator's. */
	assert_ok(closed(open("f", O_WRONLY | O_CREAT, 0644)));
	assert_int_equal(stat_of("f").st_gid, GROUP);
}

static void modes_decide_who_opens(void **state)
{
	static const int access_of[] = { O_RDONLY, O_WRONLY, O_RDWR };
	static const int wants[] = { 4, 2, 6 };
	const struct { uid_t uid; gid_t gid; int shift; } users[] = {
		{ USER, OTHER, 6 }, { OTHER, GROUP, 3 }, { OTHER, OTHER, 0 },
	};

	(void)state;
	only_root();
	for (mode_t bits = 0; bits < 8; bits++)
		for (size_t u = 0; u < COUNT(users); u++) {
			/* Everybody else may do everything: only the right bits may count. */
			const mode_t mode =
				(0777 & ~(7 << users[u].shift)) | bits << users[u].shift;

			put("f", "x");
			assert_ok(chown("f", USER, GROUP));
			assert_ok(chmod("f", mode));
			become(users[u].uid, users[u].gid);
			for (size_t a = 0; a < COUNT(access_of); a++) {
				const bool may = (bits & wants[a]) == (mode_t)wants[a];

				if (may)
					assert_ok(closed(open("f", access_of[a])));
				else
					assert_errno(open("f", access_of[a]), EACCES);
			}
			if (!(bits & 2))
				assert_errno(truncate("f", 0), EACCES);
			assert_int_equal(access("f", R_OK), bits & 4 ? 0 : -1);
			assert_int_equal(access("f", W_OK), bits & 2 ? 0 : -1);
			assert_int_equal(access("f", X_OK), bits & 1 ? 0 : -1);
			become_root();
			assert_ok(unlink("f"));
		}
}

static void root_may_all_but_execute_what_nobody_may(void **state)
{
	(void)state;
	only_root();
	put("f", "#!/bin/sh\n");
	assert_ok(chmod("f", 0));
	assert_ok(access("f", R_OK | W_OK));
	assert_errno(access("f", X_OK), EACCES);
	assert_int_equal(sh("./f"), 126);
	assert_ok(chmod("f", 0100));
	assert_ok(access("f", X_OK));
	assert_int_equal(sh("./f"), 0);
	assert_ok(mkdir("d", 0));
	assert_ok(access("d", R_OK | W_OK | X_OK));
	put("d/x", "x");
}

static void access_asks_for_the_real_user(void **state)
{
	(void)state;
	only_root();
	put("f", "x");
	assert_ok(chmod("f", 0600));
	assert_ok(syscall(SYS_setresuid, USER, 0, 0));
	assert_errno(faccessat(AT_FDCWD, "f", R_OK, 0), EACCES);
	assert_ok(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS));
	assert_ok(syscall(SYS_setresuid, 0, 0, 0));
	assert_errno(access("f", 8), EINVAL);
}

static void only_the_owner_opens_without_atime(void **state)
{
	(void)state;
	only_root();
	put("f", "x");
	assert_ok(closed(open("f", O_RDONLY | O_NOATIME)));
	become(USER, GROUP);
	assert_errno(open("f", O_RDONLY | O_NOATIME), EPERM);
}

static void truncating_on_open_wants_the_right_to_write(void **state)
{
	(void)state;
	only_root();
	put("f", "hello");
	assert_ok(chmod("f", 0444));
	become(USER, GROUP);
	assert_errno(open("f", O_RDONLY | O_TRUNC), EACCES);
	become_root();
	assert_int_equal(stat_of("f").st_size, 5);
	assert_ok(closed(open("f", O_WRONLY | O_TRUNC)));
	assert_int_equal(stat_of("f").st_size, 0);
}

/* POSIX leaves that open; Linux does it. */
static void truncating_on_open_does_not_want_a_handle_that_writes(void **state)
{
	int fd;

	(void)state;
	put("f", "hello");
	fd = open("f", O_RDONLY | O_TRUNC);
	assert_ok(fd);
	assert_int_equal(stat_of("f").st_size, 0);
	assert_ok(close(fd));
	assert_int_equal(stat_of("f").st_size, 0);
	assert_string_equal(get("f"), "");
}

static void a_running_program_is_etxtbsy(void **state)
{
	int pipes[2];
	pid_t child;
	int status;

	(void)state;
	run("cp /bin/sleep run");
	assert_ok(pipe(pipes));
	child = fork();
	assert_ok(child);
	if (child == 0) {
		close(pipes[0]);
		fcntl(pipes[1], F_SETFD, FD_CLOEXEC);
		execl("./run", "run", "60", NULL);
		_exit(127);
	}
	close(pipes[1]);
	/* The pipe closes when the program has begun. */
	assert_int_equal(read(pipes[0], &status, 1), 0);
	close(pipes[0]);
	assert_errno(open("run", O_WRONLY), ETXTBSY);
	assert_errno(open("run", O_RDWR | O_TRUNC), ETXTBSY);
	assert_errno(truncate("run", 0), ETXTBSY);
	assert_ok(closed(open("run", O_RDONLY)));
	assert_ok(kill(child, SIGKILL));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_ok(closed(open("run", O_WRONLY)));
}

static void what_is_open_for_writing_does_not_run(void **state)
{
	int fd;

	(void)state;
	run("cp /bin/true run");
	fd = open("run", O_WRONLY);
	assert_ok(fd);
	assert_int_equal(sh("./run"), 126);
	assert_ok(close(fd));
	assert_int_equal(sh("./run"), 0);
}

static void a_path_handle_does_nothing_but_name(void **state)
{
	struct stat st;
	char bytes[4];
	int fd;

	(void)state;
	furnish();
	fd = open("l", O_PATH | O_NOFOLLOW);
	assert_ok(fd);
	assert_ok(fstat(fd, &st));
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(readlinkat(fd, "", bytes, sizeof(bytes)), 1);
	assert_errno(read(fd, bytes, 1), EBADF);
	assert_errno(fchmod(fd, 0600), EBADF);
	assert_errno(fsync(fd), EBADF);
	assert_errno(ftruncate(fd, 0), EBADF);
	assert_ok(close(fd));
	fd = open("f", O_PATH);
	assert_ok(fchownat(fd, "", geteuid(), getegid(), AT_EMPTY_PATH));
	assert_ok(close(fd));
}

static void a_closed_descriptor_is_ebadf(void **state)
{
	const int fd = 1000;
	struct stat st;
	char byte;

	(void)state;
	assert_errno(close(fd), EBADF);
	assert_errno(read(fd, &byte, 1), EBADF);
	assert_errno(write(fd, &byte, 1), EBADF);
	assert_errno(pread(fd, &byte, 1, 0), EBADF);
	assert_errno(lseek(fd, 0, SEEK_SET), EBADF);
	assert_errno(fstat(fd, &st), EBADF);
	assert_errno(fsync(fd), EBADF);
	assert_errno(ftruncate(fd, 0), EBADF);
	assert_errno(fchmod(fd, 0600), EBADF);
	assert_errno(fchown(fd, 0, 0), EBADF);
	assert_errno(fallocate(fd, 0, 0, 1), EBADF);
	assert_errno(posix_fadvise(fd, 0, 0, 0) == EBADF ? (errno = EBADF, -1) : 0, EBADF);
	assert_errno(dup(fd), EBADF);
}

static void flags_of_a_handle_can_be_asked_and_changed(void **state)
{
	int fd, flags;

	(void)state;
	fd = open("f", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	assert_ok(fd);
	flags = fcntl(fd, F_GETFL);
	assert_int_equal(flags & O_ACCMODE, O_RDWR);
	assert_true(flags & O_APPEND);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_all(write(fd, "abc", 3), 3);
	assert_all(pwrite(fd, "def", 3, 0), 3); /* appends nevertheless, on Linux */
	assert_string_equal(get("f"), "abcdef");
	assert_ok(fcntl(fd, F_SETFL, flags & ~O_APPEND));
	assert_all(pwrite(fd, "X", 1, 0), 1);
	assert_string_equal(get("f"), "Xbcdef");
	assert_ok(fcntl(fd, F_SETFL, flags | O_APPEND));
	assert_all(pwrite(fd, "g", 1, 0), 1);
	assert_string_equal(get("f"), "Xbcdefg");
	assert_ok(close(fd));
}

static void two_descriptors_of_one_handle_share_its_place(void **state)
{
	int a, b, c;

	(void)state;
	put("f", "abcdef");
	a = open("f", O_RDWR);
	b = dup(a);
	c = open("f", O_RDWR);
	assert_int_equal(lseek(a, 3, SEEK_SET), 3);
	assert_int_equal(lseek(b, 0, SEEK_CUR), 3);
	assert_int_equal(lseek(c, 0, SEEK_CUR), 0);
	assert_ok(close(a));
	assert_all(write(b, "X", 1), 1);
	assert_ok(close(b));
	assert_ok(close(c));
	assert_string_equal(get("f"), "abcXef");
}

static void a_nameless_file_is_made_or_refused(void **state)
{
	char self[64];
	int fd;

	(void)state;
	fd = open(".", O_TMPFILE | O_RDWR, 0644);
	if (differs(NO_TMPFILE)) {
		assert_int_equal(fd, -1);
		assert_int_equal(errno, EOPNOTSUPP);
		return;
	}
	assert_ok(fd);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	assert_ok(linkat(AT_FDCWD, self, AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
	assert_true(exists("f"));
	assert_ok(close(fd));
}

static void an_ioctl_that_is_not_for_files_is_enotty(void **state)
{
	struct { unsigned short a, b, c, d; } size;
	int fd;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDWR);
	assert_errno(ioctl(fd, TIOCGWINSZ, &size), ENOTTY);
	assert_errno(ioctl(fd, 0xdead, 0), ENOTTY);
	assert_int_equal(isatty(fd), 0);
	assert_int_equal(errno, ENOTTY);
	assert_ok(close(fd));
	fd = open(".", O_RDONLY);
	assert_errno(ioctl(fd, 0xdead, 0), ENOTTY);
	assert_ok(close(fd));
}

static void a_process_has_so_many_open_and_no_more(void **state)
{
	struct rlimit limit, less;
	int last = -1, fd;

	(void)state;
	put("f", "x");
	assert_ok(getrlimit(RLIMIT_NOFILE, &limit));
	less = limit;
	less.rlim_cur = 100;
	assert_ok(setrlimit(RLIMIT_NOFILE, &less));
	while ((fd = open("f", O_RDONLY)) >= 0)
		last = fd;
	assert_int_equal(errno, EMFILE);
	assert_int_equal(last, 99);
	assert_errno(open("new", O_WRONLY | O_CREAT, 0644), EMFILE);
	assert_false(exists("new"));
	assert_ok(setrlimit(RLIMIT_NOFILE, &limit));
}

static void a_fifo_carries_bytes(void **state)
{
	(void)state;
	assert_ok(mkfifo("p", 0644));
	assert_string_equal(run("echo through > p & cat p; wait"), "through");
	assert_int_equal(stat_of("p").st_size, 0);
}

static void what_goes_through_a_fifo_moves_its_times(void **state)
{
	struct stat before;
	char byte;
	int fd;

	(void)state;
	assert_ok(mkfifo("p", 0644));
	before = stat_of("p");
	wait_for_tick();
	fd = open("p", O_RDWR);
	assert_ok(fd);
	assert_all(write(fd, "x", 1), 1);
	assert_all(read(fd, &byte, 1), 1);
	assert_ok(close(fd));
	assert_int_equal(ns_of(stat_of("p").st_mtim) > ns_of(before.st_mtim),
			 !differs(FIFOS_MOVE_NO_TIMES));
}

static void a_file_cannot_be_waited_for(void **state)
{
	struct epoll_event event = { .events = EPOLLIN };
	const int polls = epoll_create1(EPOLL_CLOEXEC), fd = open("f", O_RDWR | O_CREAT, 0644);

	(void)state;
	assert_ok(polls);
	if (differs(FILES_CAN_BE_POLLED)) {
		assert_ok(epoll_ctl(polls, EPOLL_CTL_ADD, fd, &event));
		assert_int_equal(epoll_wait(polls, &event, 1, -1), 1);
	} else {
		assert_errno(epoll_ctl(polls, EPOLL_CTL_ADD, fd, &event), EPERM);
	}
	assert_ok(close(fd));
	assert_ok(close(polls));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(opening_says_what_is_wrong),
		CONFORM(a_socket_cannot_be_opened),
		CONFORM(device_nodes_keep_their_numbers),
		CONFORM(creation_through_a_dangling_link_makes_its_target),
		CONFORM(the_umask_is_taken_off),
		CONFORM(the_mode_does_not_bind_its_creator),
		CONFORM(a_directory_with_setgid_gives_its_group),
		CONFORM(modes_decide_who_opens),
		CONFORM(root_may_all_but_execute_what_nobody_may),
		CONFORM(access_asks_for_the_real_user),
		CONFORM(only_the_owner_opens_without_atime),
		CONFORM(truncating_on_open_wants_the_right_to_write),
		CONFORM(truncating_on_open_does_not_want_a_handle_that_writes),
		CONFORM(a_running_program_is_etxtbsy),
		CONFORM(what_is_open_for_writing_does_not_run),
		CONFORM(a_path_handle_does_nothing_but_name),
		CONFORM(a_closed_descriptor_is_ebadf),
		CONFORM(flags_of_a_handle_can_be_asked_and_changed),
		CONFORM(two_descriptors_of_one_handle_share_its_place),
		CONFORM(a_nameless_file_is_made_or_refused),
		CONFORM(an_ioctl_that_is_not_for_files_is_enotty),
		CONFORM(a_process_has_so_many_open_and_no_more),
		CONFORM(a_fifo_carries_bytes),
		CONFORM(what_goes_through_a_fifo_moves_its_times),
		CONFORM(a_file_cannot_be_waited_for),
	};

	return conform_run(tests, COUNT(tests));
}
