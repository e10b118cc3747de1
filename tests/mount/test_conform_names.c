/* link, unlink, rename, mkdir, rmdir, symlink, readlink, mknod: what they answer, in which order
 * they look, what they leave, and who may. */
#include "mount/conform.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

enum { USER = 12345, GROUP = 23456, OTHER = 54321 };

static int rename2(const char *from, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static unsigned links(const char *name)
{
	return (unsigned)stat_of(name).st_nlink;
}

static bool listed(const char *name)
{
	return sh("ls -A | grep -qxF -- '%s'", name) == 0;
}

/* ---- unlink and rmdir ----------------------------------------------------------------------- */

static void unlink_wants_a_file_and_rmdir_a_directory(void **state)
{
	(void)state;
	furnish();
	assert_errno(unlink("d"), EISDIR);
	assert_errno(unlink("full"), EISDIR);
	assert_errno(rmdir("f"), ENOTDIR);
	assert_errno(rmdir("l"), ENOTDIR);
	assert_errno(rmdir("ld"), ENOTDIR);
	assert_errno(rmdir("p"), ENOTDIR);
	assert_errno(rmdir("full"), ENOTEMPTY);
	assert_errno(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR), ENOTDIR);
	assert_ok(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
	assert_ok(unlink("ld"));
	assert_ok(unlink("l"));
	assert_ok(unlink("p"));
	assert_ok(unlink("loop"));
	assert_ok(unlink("f"));
	assert_false(listed("f"));
	assert_errno(unlink("f"), ENOENT);
	assert_errno(rmdir("d"), ENOENT);
	assert_errno(rmdir("gone"), ENOENT);
}

static void a_working_directory_can_be_removed(void **state)
{
	(void)state;
	assert_ok(mkdir("d", 0755));
	assert_ok(chdir("d"));
	assert_ok(rmdir("../d"));
	assert_errno(mkdir("x", 0755), ENOENT);
	assert_int_equal(links("."), 0);
	assert_ok(chdir("/"));
}

static void an_unlinked_file_is_used_on_while_open(void **state)
{
	struct stat st;
	char bytes[16];
	int fd;

	(void)state;
	put("f", "hello");
	fd = open("f", O_RDWR);
	assert_ok(unlink("f"));
	assert_ok(fstat(fd, &st));
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(st.st_size, 5);
	assert_all(pwrite(fd, "HE", 2, 0), 2);
	assert_all(pread(fd, bytes, sizeof(bytes), 0), 5);
	assert_memory_equal(bytes, "HEllo", 5);
	assert_ok(ftruncate(fd, 100));
	assert_ok(fstat(fd, &st));
	assert_int_equal(st.st_size, 100);
	assert_ok(fchmod(fd, 0600));
	assert_ok(futimens(fd, (struct timespec[2]){ { 1, 1 }, { 2, 2 } }));
	assert_ok(fstat(fd, &st));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_mtim.tv_sec, 2);
	assert_ok(fsync(fd));
	/* It stays so: not even /proc brings it back. */
	snprintf(bytes, sizeof(bytes), "/proc/self/fd/%d", fd);
	assert_errno(linkat(AT_FDCWD, bytes, AT_FDCWD, "again", AT_SYMLINK_FOLLOW), ENOENT);
	put("f", "other");
	assert_all(pread(fd, bytes, 2, 0), 2);
	assert_memory_equal(bytes, "HE", 2);
	assert_ok(close(fd));
	assert_string_equal(get("f"), "other");
}

static void an_unlinked_file_can_be_opened_by_a_path_handle(void **state)
{
	char path[32];
	int fd;

	(void)state;
	put("f", "hello");
	fd = open("f", O_PATH);
	assert_ok(fd);
	assert_ok(unlink("f"));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (differs(PATHS_KEEP_NOTHING))
		assert_errno(open(path, O_RDONLY), ESTALE);
	else
		assert_ok(close(open(path, O_RDONLY)));
	assert_ok(close(fd));
}

/* ---- link ----------------------------------------------------------------------------------- */

static void link_says_what_is_wrong(void **state)
{
	(void)state;
	furnish();
	assert_errno(link("d", "new"), EPERM);
	assert_errno(link("d", "f"), EEXIST); /* before it looks at what d is */
	assert_errno(link("gone", "f"), ENOENT);
	assert_errno(link("f", "f"), EEXIST);
	assert_errno(link("f", "d"), EEXIST);
	assert_errno(link("f", "dangling"), EEXIST);
	assert_errno(link("gone", "gone/x"), ENOENT);
	assert_int_equal(links("f"), 1);
}

static void link_makes_a_second_name(void **state)
{
	(void)state;
	furnish();
	assert_ok(link("f", "g"));
	assert_int_equal(links("f"), 2);
	assert_int_equal(stat_of("f").st_ino, stat_of("g").st_ino);
	put("g", "both");
	assert_string_equal(get("f"), "both");
	/* Of the link itself, unless asked to follow it. */
	assert_ok(link("l", "m"));
	assert_true(S_ISLNK(stat_of("m").st_mode));
	assert_int_equal(links("l"), 2);
	assert_ok(linkat(AT_FDCWD, "l", AT_FDCWD, "n", AT_SYMLINK_FOLLOW));
	assert_int_equal(links("f"), 3);
	assert_ok(link("p", "q"));
	assert_true(S_ISFIFO(stat_of("q").st_mode));
	assert_ok(unlink("f"));
	assert_int_equal(links("g"), 2);
	assert_string_equal(get("n"), "both");
}

static void a_file_has_65000_names_at_most(void **state)
{
	char name[16];
	int i = 1;

	(void)state;
	put("f", "x");
	for (; i < 65000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		if (link("f", name) < 0)
			break;
	}
	assert_int_equal(i, 65000);
	assert_int_equal(links("f"), 65000);
	assert_errno(link("f", "more"), EMLINK);
	assert_errno(link("f", "1"), EEXIST);
	assert_ok(unlink("1"));
	assert_ok(link("f", "more"));
}

/* ---- rename --------------------------------------------------------------------------------- */

static void rename_says_what_is_wrong(void **state)
{
	(void)state;
	furnish();
	assert_errno(rename("gone", "new"), ENOENT);
	assert_errno(rename("gone", "d"), ENOENT);
	assert_errno(rename("f", "d"), EISDIR);
	assert_errno(rename("d", "f"), ENOTDIR);
	assert_errno(rename("d", "l"), ENOTDIR);
	assert_errno(rename("l", "d"), EISDIR);
	assert_errno(rename("d", "full"), ENOTEMPTY);
	assert_errno(rename("f", "full"), EISDIR); /* full or not */
	assert_errno(rename("d", "d/x"), EINVAL);
	assert_errno(rename("full", "full/x"), EINVAL);
	assert_errno(rename("full", "full/gone/y"), ENOENT);
	assert_errno(rename("full/x", "full"), ENOTEMPTY);
	assert_errno(rename("f", "f/x"), ENOTDIR);
	assert_errno(rename2("f", "new", 1 << 10), EINVAL);
	assert_errno(rename2("f", "new", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
	assert_errno(rename2("f", "d", RENAME_NOREPLACE), EEXIST);
	assert_errno(rename2("f", "f", RENAME_NOREPLACE), EEXIST);
	assert_errno(rename2("gone", "f", RENAME_NOREPLACE), ENOENT);
	assert_errno(rename2("f", "gone", RENAME_EXCHANGE), ENOENT);
	assert_errno(rename2("gone", "f", RENAME_EXCHANGE), ENOENT);
	assert_errno(rename2("full", "full/x", RENAME_EXCHANGE), EINVAL);
	assert_errno(rename2("full/x", "full", RENAME_EXCHANGE), EINVAL);
	assert_string_equal(get("f"), "hello");
	assert_string_equal(get("full/x"), "x");
}

static void rename_of_one_file_to_its_other_name_does_nothing(void **state)
{
	(void)state;
	furnish();
	assert_ok(link("f", "g"));
	assert_ok(rename("f", "g"));
	assert_true(exists("f"));
	assert_true(exists("g"));
	assert_int_equal(links("f"), 2);
	assert_ok(rename("f", "f"));
	assert_ok(rename("d", "d"));
	assert_ok(rename2("f", "g", RENAME_EXCHANGE));
	assert_errno(rename2("f", "g", RENAME_NOREPLACE), EEXIST);
}

static void rename_replaces(void **state)
{
	(void)state;
	furnish();
	put("g", "replaced");
	assert_ok(link("g", "h"));
	assert_ok(rename("f", "g"));
	assert_false(listed("f"));
	assert_string_equal(get("g"), "hello");
	assert_string_equal(get("h"), "replaced");
	assert_int_equal(links("h"), 1);
	assert_ok(rename("full", "d"));
	assert_string_equal(get("d/x"), "x");
	assert_ok(rename("g", "l"));
	assert_true(S_ISREG(stat_of("l").st_mode));
	assert_ok(rename("l", "p"));
	assert_string_equal(get("p"), "hello");
	assert_ok(rename("dangling", "p"));
	assert_true(S_ISLNK(stat_of("p").st_mode));
}

static void directories_count_the_directories_in_them(void **state)
{
	(void)state;
	run("mkdir -p a/one a/two b; touch a/f b/f");
	assert_int_equal(links("a"), 4);
	assert_ok(rename("a/one", "b/one"));
	assert_int_equal(links("a"), 3);
	assert_int_equal(links("b"), 3);
	assert_ok(rename("a/two", "b/one"));
	assert_int_equal(links("a"), 2);
	assert_int_equal(links("b"), 3);
	assert_ok(rename2("b/one", "a/f", RENAME_EXCHANGE));
	assert_int_equal(links("a"), 3);
	assert_int_equal(links("b"), 2);
	assert_int_equal(stat_of("a/f/..").st_ino, stat_of("a").st_ino);
	assert_ok(rmdir("a/f"));
	assert_int_equal(links("a"), 2);
}

static void a_whiteout_is_made_or_refused(void **state)
{
	(void)state;
	only_root();
	furnish();
	if (differs(NO_WHITEOUT)) {
		assert_errno(rename2("f", "new", RENAME_WHITEOUT), EINVAL);
		assert_string_equal(get("f"), "hello");
		return;
	}
	assert_ok(rename2("f", "new", RENAME_WHITEOUT));
	assert_true(S_ISCHR(stat_of("f").st_mode));
	assert_int_equal(stat_of("f").st_rdev, 0);
}

/* ---- symlink, readlink, mkdir, mknod -------------------------------------------------------- */

static void a_link_keeps_what_it_is_told(void **state)
{
	char target[PATH_MAX + 1], read[PATH_MAX + 1];

	(void)state;
	memset(target, 't', sizeof(target));
	target[PATH_MAX] = '\0';
	assert_errno(symlink(target, "l"), ENAMETOOLONG);
	target[PATH_MAX - 1] = '\0';
	assert_ok(symlink(target, "l"));
	assert_int_equal(stat_of("l").st_size, PATH_MAX - 1);
	assert_all(readlink("l", read, sizeof(read)), PATH_MAX - 1);
	assert_memory_equal(read, target, PATH_MAX - 1);
	assert_all(readlink("l", read, 3), 3);
	assert_errno(readlink("l", read, 0), EINVAL);
	assert_errno(symlink("", "m"), ENOENT);
	put("f", "x");
	assert_errno(readlink("f", read, sizeof(read)), EINVAL);
	assert_errno(readlink(".", read, sizeof(read)), EINVAL);
	assert_ok(symlink("\xff\n", "n"));
	assert_all(readlink("n", read, sizeof(read)), 2);
}

static void kinds_of_nodes(void **state)
{
	(void)state;
	assert_ok(mknod("r", S_IFREG | 0640, 0));
	assert_ok(mknod("z", 0640, 0));
	assert_ok(mknod("p", S_IFIFO | 0640, 0));
	assert_ok(mknod("s", S_IFSOCK | 0640, 0));
	assert_true(S_ISREG(stat_of("r").st_mode));
	assert_true(S_ISREG(stat_of("z").st_mode));
	assert_true(S_ISFIFO(stat_of("p").st_mode));
	assert_true(S_ISSOCK(stat_of("s").st_mode));
	assert_errno(mknod("d", S_IFDIR | 0755, 0), EPERM);
	assert_errno(mknod("l", S_IFLNK | 0755, 0), EINVAL);
	assert_errno(mknod("x", S_IFMT | 0755, 0), EINVAL);
	put("r", "written");
	assert_string_equal(get("r"), "written");
	become(USER, GROUP);
	assert_errno(mknod("c", S_IFCHR | 0644, makedev(1, 3)), EPERM);
	assert_errno(mknod("b", S_IFBLK | 0644, makedev(1, 3)), EPERM);
	assert_ok(mknod("q", S_IFIFO | 0640, 0));
}

static void names_may_be_255_bytes_of_any_kind(void **state)
{
	char name[256];

	(void)state;
	for (int byte = 1; byte < 256; byte += 17) {
		if (byte == '/')
			continue;
		memset(name, byte, 255);
		name[255] = '\0';
		assert_ok(mkdir(name, 0755));
		assert_ok(rename(name, "d"));
		assert_ok(symlink(name, name));
		assert_ok(rename("d", "e"));
		assert_ok(rmdir("e"));
		assert_ok(unlink(name));
	}
	put(longest_name(), "x");
	assert_ok(rename(longest_name(), "f"));
	assert_ok(link("f", longest_name()));
	assert_string_equal(get(longest_name()), "x");
}

/* ---- who may -------------------------------------------------------------------------------- */

static void changing_names_wants_the_right_to_write_the_directory(void **state)
{
	(void)state;
	only_root();
	run("mkdir d mine; touch d/f d/g; mkdir d/e; chown %d mine d/f d/e; chmod 755 d", USER);
	become(USER, GROUP);
	assert_errno(open("d/new", O_WRONLY | O_CREAT, 0644), EACCES);
	assert_errno(mkdir("d/new", 0755), EACCES);
	assert_errno(mknod("d/new", S_IFREG | 0644, 0), EACCES);
	assert_errno(symlink("x", "d/new"), EACCES);
	assert_errno(unlink("d/f"), EACCES);
	assert_errno(rmdir("d/e"), EACCES);
	assert_errno(rename("d/f", "mine/f"), EACCES);
	assert_errno(rename("d/f", "d/g"), EACCES);
	assert_errno(link("d/f", "d/new"), EACCES);
	/* What is there, or is not, is told first; the kind of what is to go, last. */
	assert_errno(mkdir("d/f", 0755), EEXIST);
	assert_errno(symlink("x", "d/f"), EEXIST);
	assert_errno(unlink("d/gone"), ENOENT);
	assert_errno(rmdir("d/gone"), ENOENT);
	assert_errno(rename("d/gone", "mine/x"), ENOENT);
	assert_errno(unlink("d/e"), EACCES);
	assert_errno(rmdir("d/f"), EACCES);
	assert_ok(link("d/f", "mine/f"));
	assert_ok(unlink("mine/f"));
}

static void going_through_wants_the_right_to_search(void **state)
{
	struct stat st;

	(void)state;
	only_root();
	run("mkdir d; touch d/f; chmod 666 d");
	become(USER, GROUP);
	assert_errno(stat("d/f", &st), EACCES);
	assert_errno(stat("d/gone", &st), EACCES);
	assert_errno(open("d/f", O_RDONLY), EACCES);
	assert_errno(open("d/new", O_WRONLY | O_CREAT, 0644), EACCES);
	assert_errno(chdir("d"), EACCES);
	assert_errno(unlink("d/f"), EACCES);
	assert_errno(rename("d/f", "f"), EACCES);
	assert_int_equal(sh("ls d"), 0); /* names alone want only reading */
	become_root();
	assert_ok(chmod("d", 0711));
	become(USER, GROUP);
	assert_ok(stat("d/f", &st));
	assert_errno(open("d", O_RDONLY | O_DIRECTORY), EACCES);
	assert_ok(chdir("d"));
}

/* In a directory like /tmp only the owner of a file, or of the directory, takes it away. */
static void a_sticky_directory_protects_its_files(void **state)
{
	(void)state;
	only_root();
	run("mkdir d; chmod 1777 d; touch d/theirs d/mine; mkdir d/their d/my; mkdir -m 777 out;"
	    "chown %d d/mine d/my; chown %d d/theirs d/their; chmod 777 d/*", USER, OTHER);
	become(USER, GROUP);
	assert_errno(unlink("d/theirs"), EPERM);
	assert_errno(rmdir("d/their"), EPERM);
	assert_errno(rename("d/theirs", "d/x"), EPERM);
	assert_errno(rename("d/theirs", "out/x"), EPERM);
	assert_errno(rename("d/mine", "d/theirs"), EPERM);
	assert_errno(rename2("d/mine", "d/theirs", RENAME_EXCHANGE), EPERM);
	assert_ok(rename("d/mine", "d/new"));
	assert_ok(unlink("d/new"));
	assert_ok(rmdir("d/my"));
	become_root();
	assert_ok(chown("d", USER, GROUP));
	become(USER, GROUP);
	assert_ok(unlink("d/theirs"));
	assert_ok(rmdir("d/their"));
}

/* Moving a directory elsewhere changes its "..", which is written in it. */
static void moving_a_directory_wants_the_right_to_write_it(void **state)
{
	(void)state;
	only_root();
	run("mkdir -m 777 a b; mkdir a/d; chmod 555 a/d");
	become(USER, GROUP);
	assert_errno(rename("a/d", "b/d"), EACCES);
	assert_ok(rename("a/d", "a/e"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFORM(unlink_wants_a_file_and_rmdir_a_directory),
		CONFORM(a_working_directory_can_be_removed),
		CONFORM(an_unlinked_file_is_used_on_while_open),
		CONFORM(an_unlinked_file_can_be_opened_by_a_path_handle),
		CONFORM(link_says_what_is_wrong),
		CONFORM(link_makes_a_second_name),
		CONFORM(a_file_has_65000_names_at_most),
		CONFORM(rename_says_what_is_wrong),
		CONFORM(rename_of_one_file_to_its_other_name_does_nothing),
		CONFORM(rename_replaces),
		CONFORM(directories_count_the_directories_in_them),
		CONFORM(a_whiteout_is_made_or_refused),
		CONFORM(a_link_keeps_what_it_is_told),
		CONFORM(kinds_of_nodes),
		CONFORM(names_may_be_255_bytes_of_any_kind),
		CONFORM(changing_names_wants_the_right_to_write_the_directory),
		CONFORM(going_through_wants_the_right_to_search),
		CONFORM(a_sticky_directory_protects_its_files),
		CONFORM(moving_a_directory_wants_the_right_to_write_it),
	};

	return conform_run(tests, sizeof(tests) / sizeof(*tests));
}
