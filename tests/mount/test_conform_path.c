/* Every call that takes a path: what a path can be wrong in, and which times it moves. */
#include "mount/conform.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static int rename2(const char *from, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static int closed(int fd)
{
	return fd < 0 ? -1 : close(fd);
}

/* ---- the calls ------------------------------------------------------------------------------ */

static int do_open(const char *path)
{
	return closed(open(path, O_RDONLY | O_NONBLOCK));
}

static int do_open_write(const char *path)
{
	return closed(open(path, O_RDWR | O_NONBLOCK));
}

static int do_create(const char *path)
{
	return closed(open(path, O_WRONLY | O_CREAT | O_NONBLOCK, 0644));
}

static int do_create_only(const char *path)
{
	return closed(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
}

static int do_open_path(const char *path)
{
	return closed(open(path, O_PATH));
}

static int do_opendir(const char *path)
{
	return closed(open(path, O_RDONLY | O_DIRECTORY));
}

static int do_mkdir(const char *path)
{
	return mkdir(path, 0755);
}

static int do_mknod(const char *path)
{
	return mknod(path, S_IFREG | 0644, 0);
}

static int do_mkfifo(const char *path)
{
	return mkfifo(path, 0644);
}

static int do_symlink(const char *path)
{
	return symlink("target", path);
}

static int do_link_from(const char *path)
{
	return link(path, "new");
}

static int do_link_to(const char *path)
{
	return link("f", path);
}

static int do_rename_from(const char *path)
{
	return rename(path, "new");
}

static int do_rename_to(const char *path)
{
	return rename("f", path);
}

static int do_exchange(const char *path)
{
	return rename2(path, "f", RENAME_EXCHANGE);
}

static int do_noreplace(const char *path)
{
	return rename2("f", path, RENAME_NOREPLACE);
}

static int do_stat(const char *path)
{
	struct stat st;

	return stat(path, &st);
}

static int do_lstat(const char *path)
{
	struct stat st;

	return lstat(path, &st);
}

static int do_statx(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, 0, STATX_ALL, &st);
}

static int do_statfs(const char *path)
{
	struct statfs st;

	return statfs(path, &st);
}

static int do_access(const char *path)
{
	return access(path, F_OK);
}

static int do_readlink(const char *path)
{
	char target[16];

	return readlink(path, target, sizeof(target)) < 0 ? -1 : 0;
}

static int do_chmod(const char *path)
{
	return chmod(path, 0755);
}

static int do_chown(const char *path)
{
	return chown(path, geteuid(), getegid());
}

static int do_lchown(const char *path)
{
	return lchown(path, geteuid(), getegid());
}

static int do_utimens(const char *path)
{
	return utimensat(AT_FDCWD, path, NULL, 0);
}

static int do_lutimens(const char *path)
{
	return utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
}

static int do_truncate(const char *path)
{
	return truncate(path, 3);
}

static int do_getxattr(const char *path)
{
	char value[8];

	if (getxattr(path, "user.none", value, sizeof(value)) < 0 && errno != ENODATA)
		return -1;
	return 0;
}

static int do_setxattr(const char *path)
{
	return setxattr(path, "user.some", "x", 1, 0);
}

static int do_listxattr(const char *path)
{
	return listxattr(path, NULL, 0) < 0 ? -1 : 0;
}

static int do_removexattr(const char *path)
{
	return removexattr(path, "user.none") < 0 && errno != ENODATA ? -1 : 0;
}

static int do_chdir(const char *path)
{
	const int here = open(".", O_PATH);
	int rc = chdir(path), error = errno;

	assert_ok(fchdir(here));
	close(here);
	errno = error;
	return rc;
}

static int do_bind(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	int rc, error;

	if (strlen(path) >= sizeof(name.sun_path)) {
		close(fd);
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(name.sun_path, path);
	rc = bind(fd, (struct sockaddr *)&name, sizeof(name));
	error = errno;
	close(fd);
	errno = error;
	return rc;
}

enum {
	FOLLOWS = 1, /* a link at the end of the path */
	MAKES = 2,   /* a new name; the others want one that is there */
	WRITES = 4,  /* what the path names */
	NO_FAULT = 8, /* reads the path itself, in user space */
	REPLACES = 16,
};

static const struct call {
	const char *name;
	int (*go)(const char *path);
	int traits;
} calls[] = {
	{ "open", do_open, FOLLOWS },
	{ "open for writing", do_open_write, FOLLOWS | WRITES },
	{ "open O_CREAT", do_create, FOLLOWS | MAKES | REPLACES },
	{ "open O_EXCL", do_create_only, MAKES },
	{ "open O_PATH", do_open_path, FOLLOWS },
	{ "open O_DIRECTORY", do_opendir, FOLLOWS },
	{ "mkdir", do_mkdir, MAKES },
	{ "mknod", do_mknod, MAKES },
	{ "mkfifo", do_mkfifo, MAKES },
	{ "symlink", do_symlink, MAKES },
	{ "link from", do_link_from, 0 },
	{ "link to", do_link_to, MAKES },
	{ "rename from", do_rename_from, 0 },
	{ "rename to", do_rename_to, MAKES | REPLACES },
	{ "exchange", do_exchange, 0 },
	{ "rename NOREPLACE", do_noreplace, MAKES },
	{ "unlink", unlink, 0 },
	{ "rmdir", rmdir, 0 },
	{ "stat", do_stat, FOLLOWS },
	{ "lstat", do_lstat, 0 },
	{ "statx", do_statx, FOLLOWS },
	{ "statfs", do_statfs, FOLLOWS },
	{ "access", do_access, FOLLOWS },
	{ "readlink", do_readlink, 0 },
	{ "chmod", do_chmod, FOLLOWS },
	{ "chown", do_chown, FOLLOWS },
	{ "lchown", do_lchown, 0 },
	{ "utimensat", do_utimens, FOLLOWS },
	{ "utimensat of a link", do_lutimens, 0 },
	{ "truncate", do_truncate, FOLLOWS | WRITES },
	{ "getxattr", do_getxattr, FOLLOWS },
	{ "setxattr", do_setxattr, FOLLOWS },
	{ "listxattr", do_listxattr, FOLLOWS },
	{ "removexattr", do_removexattr, FOLLOWS },
	{ "chdir", do_chdir, FOLLOWS },
	{ "bind", do_bind, MAKES | NO_FAULT },
};

static void expect(const struct call *call, const char *path, int error)
{
	const int rc = call->go(path);
	const int got = rc < 0 ? errno : 0;

	if (got != error)
		fail_msg("%s of \"%.40s\": %s instead of %s", call->name, path,
			 got ? strerrorname_np(got) : "no error",
			 error ? strerrorname_np(error) : "no error");
}

static void expect_of_all(const char *path, int error)
{
	for (size_t i = 0; i < COUNT(calls); i++)
		expect(&calls[i], path, error);
}

/* ---- paths ---------------------------------------------------------------------------------- */

static void a_file_on_the_way_is_enotdir(void **state)
{
	(void)state;
	furnish();
	expect_of_all("f/x", ENOTDIR);
	expect_of_all("f/x/y", ENOTDIR);
	expect_of_all("l/x", ENOTDIR);
	expect_of_all("p/x", ENOTDIR);
}

static void nothing_on_the_way_is_enoent(void **state)
{
	(void)state;
	furnish();
	expect_of_all("gone/x", ENOENT);
	expect_of_all("dangling/x", ENOENT);
	expect_of_all("d/gone/x", ENOENT);
}

static void a_name_that_is_missing_is_enoent(void **state)
{
	(void)state;
	furnish();
	for (size_t i = 0; i < COUNT(calls); i++)
		if (!(calls[i].traits & MAKES)) {
			expect(&calls[i], "gone", ENOENT);
			expect(&calls[i], "d/gone", ENOENT);
			if (calls[i].traits & FOLLOWS)
				expect(&calls[i], "dangling", ENOENT);
		}
}

static void a_name_that_is_there_is_eexist(void **state)
{
	static const char *const there[] = { "f", "d", "full", "l", "ld", "dangling", "loop", "p" };

	(void)state;
	furnish();
	for (size_t i = 0; i < COUNT(calls); i++)
		for (size_t j = 0; j < COUNT(there); j++)
			if ((calls[i].traits & (MAKES | REPLACES)) == MAKES)
				expect(&calls[i], there[j],
				       calls[i].go == do_bind ? EADDRINUSE : EEXIST);
}

static void links_that_go_round_are_eloop(void **state)
{
	(void)state;
	furnish();
	expect_of_all("loop/x", ELOOP);
	for (size_t i = 0; i < COUNT(calls); i++)
		if (calls[i].traits & FOLLOWS)
			expect(&calls[i], "loop", ELOOP);
}

/* 40 links are followed, one more is not. */
static void a_chain_of_links_is_40_long_at_most(void **state)
{
	char name[16], before[16] = "f";

	(void)state;
	put("f", "x");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_ok(symlink(before, name));
		memcpy(before, name, sizeof(name));
	}
	assert_string_equal(get("40"), "x");
	assert_errno(open("41", O_RDONLY), ELOOP);
}

static void a_name_of_256_bytes_is_enametoolong(void **state)
{
	char path[600];

	(void)state;
	furnish();
	for (size_t i = 0; i < COUNT(calls); i++)
		if (!(calls[i].traits & NO_FAULT))
			expect(&calls[i], too_long_name(), ENAMETOOLONG);
	snprintf(path, sizeof(path), "d/%s/x", too_long_name());
	expect_of_all(path, ENAMETOOLONG);
	/* What is missing before it is missed first. */
	snprintf(path, sizeof(path), "gone/%s", too_long_name());
	for (size_t i = 0; i < COUNT(calls); i++)
		if (!(calls[i].traits & NO_FAULT))
			expect(&calls[i], path, ENOENT);
}

static void a_path_of_4096_bytes_is_enametoolong(void **state)
{
	char *path = malloc(PATH_MAX + 1);

	(void)state;
	furnish();
	assert_non_null(path);
	for (int i = 0; i < PATH_MAX - 2; i += 2)
		memcpy(path + i, "./", 2);
	strcpy(path + PATH_MAX - 2, "f");
	assert_int_equal(strlen(path), PATH_MAX - 1);
	expect(&calls[0], path, 0);
	strcpy(path + PATH_MAX - 2, "/f");
	expect_of_all(path, ENAMETOOLONG);
	free(path);
}

static void the_empty_path_is_enoent(void **state)
{
	(void)state;
	furnish();
	for (size_t i = 0; i < COUNT(calls); i++)
		if (!(calls[i].traits & NO_FAULT))
			expect(&calls[i], "", ENOENT);
}

/* The address sanitizer reads the paths before the kernel does. */
static void a_path_out_of_memory_is_efault(void **state)
{
	(void)state;
	if (sanitized())
		skip();
	furnish();
	for (size_t i = 0; i < COUNT(calls); i++) {
		errno = 0;
		if (calls[i].traits & NO_FAULT)
			continue;
		if (calls[i].go((const char *)16) != -1 || errno != EFAULT)
			fail_msg("%s: %s", calls[i].name, strerror(errno));
	}
}

/* What a slash at the end demands. */
static void a_slash_at_the_end_wants_a_directory(void **state)
{
	(void)state;
	furnish();
	assert_errno(open("f/", O_RDONLY), ENOTDIR);
	assert_errno(open("l/", O_RDONLY), ENOTDIR);
	assert_errno(open("gone/", O_RDONLY), ENOENT);
	assert_errno(open("gone/", O_WRONLY | O_CREAT, 0644), EISDIR);
	assert_errno(open("d/", O_WRONLY | O_CREAT, 0644), EISDIR);
	assert_errno(do_stat("f/"), ENOTDIR);
	assert_ok(do_stat("ld/"));
	assert_errno(unlink("f/"), ENOTDIR);
	assert_errno(unlink("d/"), EISDIR);
	assert_errno(rename("f", "new/"), ENOTDIR);
	assert_errno(rename("f/", "new"), ENOTDIR);
	assert_errno(link("f", "new/"), ENOENT);
	assert_errno(symlink("x", "new/"), ENOENT);
	assert_errno(mknod("new/", S_IFREG | 0644, 0), ENOENT);
	assert_errno(truncate("f/", 0), ENOTDIR);
	assert_errno(rmdir("ld/"), ENOTDIR);
	assert_ok(rename("d/", "e/"));
	assert_ok(mkdir("new/", 0755));
	assert_ok(rmdir("new/"));
}

static void dot_and_dot_dot_cannot_be_made_or_removed(void **state)
{
	(void)state;
	furnish();
	assert_errno(mkdir(".", 0755), EEXIST);
	assert_errno(mkdir("d/..", 0755), EEXIST);
	assert_errno(rmdir("."), EINVAL);
	assert_errno(rmdir("d/."), EINVAL);
	assert_errno(rmdir("d/.."), ENOTEMPTY);
	assert_errno(unlink("."), EISDIR);
	assert_errno(unlink("d/.."), EISDIR);
	assert_errno(rename("d/.", "e"), EBUSY);
	assert_errno(rename("d/..", "e"), EBUSY);
	assert_errno(rename("f", "d/."), EBUSY);
	assert_errno(rename("d", ".."), EBUSY);
	assert_errno(link("f", "d/."), EEXIST);
	assert_errno(symlink("f", "d/.."), EEXIST);
}

static void a_removed_directory_holds_nothing(void **state)
{
	char where[PATH_MAX];
	DIR *dir;
	int fd;

	(void)state;
	assert_ok(mkdir("d", 0755));
	put("f", "x");
	fd = open("d", O_RDONLY | O_DIRECTORY);
	assert_ok(fd);
	assert_ok(rmdir("d"));
	assert_errno(openat(fd, "x", O_WRONLY | O_CREAT, 0644), ENOENT);
	assert_errno(mkdirat(fd, "x", 0755), ENOENT);
	assert_errno(mknodat(fd, "x", S_IFREG | 0644, 0), ENOENT);
	assert_errno(symlinkat("x", fd, "x"), ENOENT);
	assert_errno(linkat(AT_FDCWD, "f", fd, "x", 0), ENOENT);
	assert_errno(renameat(AT_FDCWD, "f", fd, "x"), ENOENT);
	assert_errno(unlinkat(fd, "x", 0), ENOENT);
	assert_int_equal(syscall(SYS_getdents64, fd, where, sizeof(where)) <= 0, 1);
	assert_ok(fchdir(fd));
	assert_null(getcwd(where, sizeof(where)));
	assert_int_equal(errno, ENOENT);
	dir = opendir(".");
	assert_non_null(dir);
	assert_null(readdir(dir));
	assert_ok(closedir(dir));
}

static void a_descriptor_that_is_no_directory_is_enotdir(void **state)
{
	const int closed_fd = 1000;
	struct stat st;
	int fd;

	(void)state;
	put("f", "x");
	fd = open("f", O_RDONLY);
	assert_ok(fd);
	assert_errno(openat(fd, "x", O_RDONLY), ENOTDIR);
	assert_errno(mkdirat(fd, "x", 0755), ENOTDIR);
	assert_errno(unlinkat(fd, "x", 0), ENOTDIR);
	assert_errno(fstatat(fd, "x", &st, 0), ENOTDIR);
	assert_errno(renameat(fd, "x", AT_FDCWD, "y"), ENOTDIR);
	assert_errno(fchdir(fd), ENOTDIR);
	assert_ok(fstatat(fd, "", &st, AT_EMPTY_PATH));
	assert_errno(openat(closed_fd, "x", O_RDONLY), EBADF);
	assert_errno(mkdirat(closed_fd, "x", 0755), EBADF);
	assert_errno(unlinkat(closed_fd, "x", 0), EBADF);
	assert_errno(fstatat(closed_fd, "x", &st, 0), EBADF);
	assert_errno(fchdir(closed_fd), EBADF);
	assert_errno(fstatat(AT_FDCWD, "f", &st, 1 << 20), EINVAL);
	assert_errno(unlinkat(AT_FDCWD, "f", 1), EINVAL);
	assert_errno(linkat(AT_FDCWD, "f", AT_FDCWD, "g", 1), EINVAL);
	assert_errno(utimensat(AT_FDCWD, "f", NULL, 1), EINVAL);
}

static void another_file_system_is_exdev(void **state)
{
	char other[PATH_MAX];

	(void)state;
	furnish();
	if (strlen(store_path()) == 0)
		skip();
	snprintf(other, sizeof(other), "/dev/shm/cubby-conform-%d", getpid());
	assert_errno(rename("f", other), EXDEV);
	assert_errno(link("f", other), EXDEV);
	assert_errno(rename("d", other), EXDEV);
	assert_errno(rename2("f", "/dev/null", RENAME_EXCHANGE), EXDEV);
}

/* Deep, and by paths far longer than one call takes. */
static void directories_nest_a_thousand_deep(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_ok(mkdir("deep", 0755));
		assert_ok(chdir("deep"));
	}
	put("f", "at the bottom");
	for (int i = 0; i < 1000; i++)
		assert_ok(chdir(".."));
	assert_string_equal(run("find . -name f -execdir cat {} +"), "at the bottom");
	run("rm -rf deep");
	assert_false(exists("deep"));
}

/* ---- read-only ------------------------------------------------------------------------------ */

static int do_access_write(const char *path)
{
	return access(path, W_OK);
}

/* Calls, and what they answer of "f" and of "new" where nothing may be changed. */
static const struct refusal {
	int (*go)(const char *path);
	int of_file, of_new;
} refusals[] = {
	{ do_open, 0, ENOENT },
	{ do_open_write, EROFS, ENOENT },
	{ do_create, EROFS, EROFS },
	{ do_create_only, EEXIST, EROFS },
	{ do_mkdir, EEXIST, EROFS },
	{ do_mknod, EEXIST, EROFS },
	{ do_symlink, EEXIST, EROFS },
	{ do_link_to, EEXIST, EROFS },
	{ do_rename_from, EROFS, EROFS },
	{ do_rename_to, EROFS, EROFS },
	{ unlink, EROFS, EROFS },
	{ rmdir, EROFS, EROFS },
	{ do_stat, 0, ENOENT },
	{ do_access, 0, ENOENT },
	{ do_access_write, EROFS, ENOENT },
	{ do_chmod, EROFS, ENOENT },
	{ do_chown, EROFS, ENOENT },
	{ do_utimens, EROFS, ENOENT },
	{ do_truncate, EROFS, ENOENT },
	{ do_getxattr, 0, ENOENT },
	{ do_setxattr, EROFS, ENOENT },
	{ do_removexattr, EROFS, ENOENT },
};

static void nothing_changes_on_a_read_only_mount(void **state)
{
	(void)state;
	only_root();
	furnish();
	read_only(true);
	for (size_t i = 0; i < COUNT(refusals); i++) {
		const struct refusal *r = &refusals[i];
		char name[32];

		snprintf(name, sizeof(name), "refusal %zu", i);
		expect(&(struct call){ name, r->go, 0 }, "f", r->of_file);
		expect(&(struct call){ name, r->go, 0 }, "new", r->of_new);
	}
	assert_string_equal(get("f"), "hello");
	assert_string_equal(get("full/x"), "x");
	assert_errno(rmdir("d"), EROFS);
	assert_errno(rename("f", "/tmp/elsewhere"), EXDEV);
	read_only(false);
	put("f", "again");
}

/* ---- which times move ----------------------------------------------------------------------- */

enum {
	A = 1, /* of the file itself */
	M = 2,
	C = 4,
	PM = 8, /* of the directory that it is in */
	PC = 16,
	QM = 32, /* of the directory "q" */
	QC = 64,
	P = PM | PC,
	Q = QM | QC,
};

static const char *const bits[] = { "atime", "mtime", "ctime", "parent's mtime", "parent's ctime",
				    "q's mtime", "q's ctime" };

static int file; /* "p/f", open for reading and writing */

static int t_read(void)
{
	char bytes[3];

	return read(file, bytes, 3) == 3 ? 0 : -1;
}

static int t_write(void)
{
	return write(file, "x", 1) == 1 ? 0 : -1;
}

static int t_write_nothing(void)
{
	return write(file, "x", 0) == 0 ? 0 : -1;
}

static int t_ftruncate(void)
{
	return ftruncate(file, 2);
}

static int t_ftruncate_same(void)
{
	return ftruncate(file, 5);
}

static int t_truncate(void)
{
	return truncate("p/f", 3);
}

static int t_truncate_same(void)
{
	return truncate("p/f", 5);
}

static int t_open_trunc(void)
{
	return closed(open("p/f", O_WRONLY | O_TRUNC));
}

static int t_open(void)
{
	return closed(open("p/f", O_RDWR));
}

static int t_open_creat(void)
{
	return closed(open("p/f", O_RDWR | O_CREAT, 0600));
}

static int t_create(void)
{
	return closed(open("p/new", O_RDWR | O_CREAT, 0600));
}

static int t_chmod(void)
{
	return chmod("p/f", 0600);
}

static int t_chmod_same(void)
{
	return chmod("p/f", 0644);
}

static int t_chown(void)
{
	return chown("p/f", geteuid(), getegid());
}

static int t_chown_nobody(void)
{
	return chown("p/f", (uid_t)-1, (gid_t)-1);
}

static int t_utimens(void)
{
	return utimensat(AT_FDCWD, "p/f", NULL, 0);
}

static int t_utimens_omit(void)
{
	const struct timespec t[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

	return utimensat(AT_FDCWD, "p/f", t, 0);
}

static int t_utimens_atime(void)
{
	const struct timespec t[2] = { { 5, 5 }, { 0, UTIME_OMIT } };

	return utimensat(AT_FDCWD, "p/f", t, 0);
}

static int t_utimens_mtime(void)
{
	const struct timespec t[2] = { { 0, UTIME_OMIT }, { 5, 5 } };

	return utimensat(AT_FDCWD, "p/f", t, 0);
}

static int t_link(void)
{
	return link("p/f", "q/l");
}

static int t_link_beside(void)
{
	return link("p/f", "p/l");
}

static int t_unlink_one(void)
{
	return unlink("p/g");
}

static int t_rename(void)
{
	return rename("p/f", "q/f");
}

static int t_rename_beside(void)
{
	return rename("p/f", "p/n");
}

static int t_rename_over(void)
{
	return rename("p/f", "q/old");
}

static int t_rename_same(void)
{
	return rename("p/f", "p/f");
}

static int t_exchange(void)
{
	return rename2("p/f", "q/old", RENAME_EXCHANGE);
}

static int t_mkdir(void)
{
	return mkdir("p/dir", 0755);
}

static int t_rmdir(void)
{
	return rmdir("p/empty");
}

static int t_symlink(void)
{
	return symlink("x", "p/s");
}

static int t_mkfifo(void)
{
	return mkfifo("p/fifo", 0644);
}

static int t_setxattr(void)
{
	return setxattr("p/f", "user.a", "x", 1, 0);
}

static int t_removexattr(void)
{
	return removexattr("p/f", "user.b");
}

static int t_getxattr(void)
{
	char value[8];

	return getxattr("p/f", "user.b", value, sizeof(value)) < 0 ? -1 : 0;
}

static int t_stat(void)
{
	return do_stat("p/f");
}

static int t_fsync(void)
{
	return fsync(file);
}

/* Calls that fail move nothing. */
static int t_failures(void)
{
	assert_errno(mkdir("p/f", 0755), EEXIST);
	assert_errno(open("p/f", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
	assert_errno(symlink("x", "p/f"), EEXIST);
	assert_errno(link("q/old", "p/f"), EEXIST);
	assert_errno(rmdir("p/f"), ENOTDIR);
	assert_errno(unlink("p/empty"), EISDIR);
	assert_errno(rmdir("."), EINVAL);
	assert_errno(rename("p/f", "p/empty"), EISDIR);
	assert_errno(rename2("p/f", "q/old", RENAME_NOREPLACE), EEXIST);
	assert_errno(rename("q", "q/below"), EINVAL);
	assert_errno(setxattr("p/f", "user.b", "x", 1, XATTR_CREATE), EEXIST);
	assert_errno(removexattr("p/f", "user.none"), ENODATA);
	assert_errno(truncate("p/f", -1), EINVAL);
	return 0;
}

static const struct effect {
	const char *name;
	int (*go)(void);
	int moves;
	const char *as; /* what "p/f" is called afterwards */
} effects[] = {
	{ "read", t_read, A, "p/f" },
	{ "write", t_write, M | C, "p/f" },
	{ "write of nothing", t_write_nothing, 0, "p/f" },
	{ "ftruncate", t_ftruncate, M | C, "p/f" },
	{ "ftruncate to the same size", t_ftruncate_same, M | C, "p/f" },
	{ "truncate", t_truncate, M | C, "p/f" },
	{ "truncate to the same size", t_truncate_same, M | C, "p/f" },
	{ "open O_TRUNC", t_open_trunc, M | C, "p/f" },
	{ "open", t_open, 0, "p/f" },
	{ "open O_CREAT of what is there", t_open_creat, 0, "p/f" },
	{ "open O_CREAT", t_create, P, "p/f" },
	{ "chmod", t_chmod, C, "p/f" },
	{ "chmod to the same mode", t_chmod_same, C, "p/f" },
	{ "chown", t_chown, C, "p/f" },
	{ "chown to nobody", t_chown_nobody, C, "p/f" },
	{ "utimensat", t_utimens, A | M | C, "p/f" },
	{ "utimensat with both omitted", t_utimens_omit, 0, "p/f" },
	{ "utimensat of atime", t_utimens_atime, A | C, "p/f" },
	{ "utimensat of mtime", t_utimens_mtime, M | C, "p/f" },
	{ "link", t_link, C | Q, "p/f" },
	{ "link beside", t_link_beside, C | P, "p/f" },
	{ "unlink of one name", t_unlink_one, C | P, "p/f" },
	{ "rename", t_rename, C | P | Q, "q/f" },
	{ "rename beside", t_rename_beside, C | P, "p/n" },
	{ "rename over a file", t_rename_over, C | P | Q, "q/old" },
	{ "rename to itself", t_rename_same, 0, "p/f" },
	{ "exchange", t_exchange, C | P | Q, "q/old" },
	{ "mkdir", t_mkdir, P, "p/f" },
	{ "rmdir", t_rmdir, P, "p/f" },
	{ "symlink", t_symlink, P, "p/f" },
	{ "mkfifo", t_mkfifo, P, "p/f" },
	{ "setxattr", t_setxattr, C, "p/f" },
	{ "removexattr", t_removexattr, C, "p/f" },
	{ "getxattr", t_getxattr, 0, "p/f" },
	{ "stat", t_stat, 0, "p/f" },
	{ "fsync", t_fsync, 0, "p/f" },
	{ "what fails", t_failures, 0, "p/f" },
};

static int moved(const struct stat *a, const struct stat *b)
{
	return (ns_of(a->st_atim) != ns_of(b->st_atim) ? A : 0) |
	       (ns_of(a->st_mtim) != ns_of(b->st_mtim) ? M : 0) |
	       (ns_of(a->st_ctim) != ns_of(b->st_ctim) ? C : 0);
}

static int moved_around(const struct stat before[3], const char *as)
{
	const struct stat now[3] = { stat_of(as), stat_of("p"), stat_of("q") };
	int all = moved(&before[0], &now[0]);

	all |= (moved(&before[1], &now[1]) & (M | C)) << 2;
	all |= (moved(&before[2], &now[2]) & (M | C)) << 4;
	return all;
}

static void try_effect(const struct effect *e)
{
	struct stat before[3];
	int got;

	run("rm -rf p q; mkdir p q p/empty; echo old > q/old; printf hello > p/f; ln p/f p/g");
	assert_ok(setxattr("p/f", "user.b", "b", 1, 0));
	assert_ok(chmod("p/f", 0644));
	file = open("p/f", O_RDWR);
	assert_ok(file);
	before[0] = stat_of("p/f");
	before[1] = stat_of("p");
	before[2] = stat_of("q");
	wait_for_tick();
	assert_ok(e->go());
	got = moved_around(before, e->as);
	assert_ok(close(file));
	if (got == e->moves)
		got = moved_around(before, e->as);	/* closing changes no time */
	for (size_t i = 0; i < COUNT(bits); i++)
		if ((got ^ e->moves) & 1 << i)
			fail_msg("%s: %s %s", e->name, bits[i],
				 got & 1 << i ? "moved" : "did not move");
}

static void each_call_moves_the_times_that_it_must(void **state)
{
	struct effect e;

	(void)state;
	for (size_t i = 0; i < COUNT(effects); i++) {
		e = effects[i];
		if (e.go == t_read && differs(READING_LEAVES_ATIME))
			e.moves = 0;
		try_effect(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(a_file_on_the_way_is_enotdir),
		CONFORM(nothing_on_the_way_is_enoent),
		CONFORM(a_name_that_is_missing_is_enoent),
		CONFORM(a_name_that_is_there_is_eexist),
		CONFORM(links_that_go_round_are_eloop),
		CONFORM(a_chain_of_links_is_40_long_at_most),
		CONFORM(a_name_of_256_bytes_is_enametoolong),
		CONFORM(a_path_of_4096_bytes_is_enametoolong),
		CONFORM(the_empty_path_is_enoent),
		CONFORM(a_path_out_of_memory_is_efault),
		CONFORM(a_slash_at_the_end_wants_a_directory),
		CONFORM(dot_and_dot_dot_cannot_be_made_or_removed),
		CONFORM(a_removed_directory_holds_nothing),
		CONFORM(a_descriptor_that_is_no_directory_is_enotdir),
		CONFORM(another_file_system_is_exdev),
		CONFORM(directories_nest_a_thousand_deep),
		CONFORM(nothing_changes_on_a_read_only_mount),
		CONFORM(each_call_moves_the_times_that_it_must),
	};

	return conform_run(tests, COUNT(tests));
}
