/* The next piece of a listing is made before it is asked for; nobody can tell. */
#include "mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	FILES = 4000,
	PIECE = 16 * 1024, /* some hundred entries */
	READY_MS = 50,	   /* enough for the next piece, as a rule; no test fails if it is not */
};

struct entry { /* as getdents64 writes it */
	uint64_t ino;
	int64_t next;
	unsigned short size;
	unsigned char type;
	char name[];
};

static void fill_table(void)
{
	char name[32];

	assert_ok(mkdir("t", 0755));
	for (int i = 0; i < FILES; i++) {
		sprintf(name, "t/%06d", i);
		assert_ok(mknod(name, S_IFREG | 0644, 0));
	}
}

/* Reads up to `size` bytes on; says how much, and whether `name` is in it (*seen). */
static long read_on(int fd, size_t size, const char *name, bool *seen)
{
	char bytes[PIECE];
	const long n = syscall(SYS_getdents64, fd, bytes, size);

	for (long at = 0; at < n; at += ((struct entry *)(bytes + at))->size)
		*seen |= strcmp(((struct entry *)(bytes + at))->name, name) == 0;
	return n;
}

static long piece(int fd, const char *name, bool *seen)
{
	return read_on(fd, PIECE, name, seen);
}

/* The first piece comes with attributes and the second does not, so the third is made ready. */
static int begun(void)
{
	const int fd = open("t", O_RDONLY | O_DIRECTORY);
	bool seen = false;

	assert_ok(fd);
	for (int i = 0; i < 2; i++)
		assert_true(piece(fd, "none", &seen) > 0);
	sleep_ms(READY_MS);
	return fd;
}

static bool rest_has(int fd, const char *name)
{
	bool seen = false;

	while (piece(fd, name, &seen) > 0)
		;
	return seen;
}

/* The first name that the third piece has. */
static void next_name(char *name)
{
	char bytes[PIECE];
	const int fd = begun();

	assert_true(syscall(SYS_getdents64, fd, bytes, sizeof(bytes)) > 0);
	strcpy(name, ((struct entry *)bytes)->name);
	close(fd);
}

static void what_was_removed_meanwhile_is_not_listed(void **state)
{
	char name[256], path[300];
	int fd;
	(void)state;

	fill_table();
	next_name(name);
	sprintf(path, "t/%s", name);
	fd = begun();
	assert_ok(unlink(path));
	assert_false(rest_has(fd, name));
	close(fd);
}

static void what_was_made_meanwhile_is_listed(void **state)
{
	char name[256], path[300];
	int fd;
	(void)state;

	fill_table();
	next_name(name);
	strcat(name, "+");
	sprintf(path, "t/%s", name);
	fd = begun();
	put(path, "x");
	assert_true(rest_has(fd, name));
	close(fd);
}

static void what_has_expired_meanwhile_is_not_listed(void **state)
{
	char name[256], path[300];
	int fd;
	(void)state;

	only_cubby();
	fill_table();
	next_name(name);
	sprintf(path, "t/%s", name);
	assert_ok(setxattr(path, "user.cubby.ttl", "1.5", 3, 0));
	fd = begun();
	sleep_ms(1600);
	assert_false(rest_has(fd, name));
	close(fd);
}

static void another_place_or_another_size_gets_what_it_asks_for(void **state)
{
	char name[256];
	bool seen = false;
	int fd, count = 0;
	DIR *d;
	(void)state;

	fill_table();
	next_name(name);
	fd = begun();
	assert_true(lseek(fd, 0, SEEK_SET) == 0);
	assert_true(rest_has(fd, "000000"));
	close(fd);

	fd = begun();
	while (read_on(fd, 512, name, &seen) > 0)
		;
	assert_true(seen);
	assert_true(lseek(fd, 0, SEEK_SET) == 0);
	d = fdopendir(fd);
	assert_non_null(d);
	while (readdir(d))
		count++;
	assert_int_equal(count, FILES + 2);
	closedir(d);
}

/* Reads a piece, and looks at a file of it, so that the kernel asks for the next one with attributes.
 * Says which file that was. */
static void piece_looked_at(int fd, char *name)
{
	char bytes[PIECE];
	const long n = syscall(SYS_getdents64, fd, bytes, sizeof(bytes));
	long at = 0;
	struct stat st;

	assert_true(n > 0);
	while (((struct entry *)(bytes + at))->name[0] == '.')
		at += ((struct entry *)(bytes + at))->size;
	strcpy(name, ((struct entry *)(bytes + at))->name);
	assert_ok(fstatat(fd, name, &st, 0));
}

/* The third piece is made ready, with attributes. */
static int begun_with_attributes(void)
{
	const int fd = open("t", O_RDONLY | O_DIRECTORY);
	char name[256];

	assert_ok(fd);
	for (int i = 0; i < 2; i++)
		piece_looked_at(fd, name);
	sleep_ms(READY_MS);
	return fd;
}

/* Calls `change` with a file of the third piece when that may have been made ready, and `check` once
 * the kernel has it. The file is open meanwhile: what is staged in it stays so. */
static void list_and_change(void (*change)(const char *path, int fd), void (*check)(const char *path))
{
	char name[256], path[300];
	int dir, fd;

	fill_table();
	dir = begun_with_attributes();
	piece_looked_at(dir, name);
	close(dir);
	sprintf(path, "t/%s", name);
	fd = open(path, O_RDWR);
	assert_ok(fd);
	dir = begun_with_attributes();
	change(path, fd);
	assert_true(rest_has(dir, name));
	check(path);
	close(dir);
	close(fd);
}

static void write_more(const char *path, int fd)
{
	(void)path;
	assert_int_equal(write(fd, "more", 4), 4);
}

static void is_longer(const char *path)
{
	struct stat st;

	assert_ok(stat(path, &st));
	assert_int_equal(st.st_size, 4);
}

static void what_is_staged_meanwhile_is_shown(void **state)
{
	(void)state;
	list_and_change(write_more, is_longer);
}

static void change_mode(const char *path, int fd)
{
	(void)fd;
	assert_ok(chmod(path, 0600));
}

static void is_private(const char *path)
{
	struct stat st;

	assert_ok(stat(path, &st));
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void what_is_changed_meanwhile_is_shown(void **state)
{
	(void)state;
	list_and_change(change_mode, is_private);
}

static int close_early(void *arg)
{
	bool seen = false;
	(void)arg;

	for (int i = 0; i < 300; i++) {
		const int fd = open("t", O_RDONLY | O_DIRECTORY);

		struct stat st;

		if (fd < 0 || piece(fd, "none", &seen) <= 0 ||
		    (i % 2 && stat("t/000001", &st) != 0) || piece(fd, "none", &seen) <= 0)
			return 1;
		close(fd);
	}
	return 0;
}

/* What is being read ahead outlives its listing for a moment. */
static void a_listing_may_be_closed_while_the_next_piece_is_made(void **state)
{
	pid_t children[4];
	(void)state;

	fill_table();
	for (int i = 0; i < 4; i++)
		children[i] = spawn(close_early, NULL);
	for (int i = 0; i < 4; i++)
		assert_true(joined(children[i]));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, mount_begin, mount_end)
	const struct CMUnitTest tests[] = {
		TEST(what_was_removed_meanwhile_is_not_listed),
		TEST(what_was_made_meanwhile_is_listed),
		TEST(what_has_expired_meanwhile_is_not_listed),
		TEST(another_place_or_another_size_gets_what_it_asks_for),
		TEST(what_is_staged_meanwhile_is_shown),
		TEST(what_is_changed_meanwhile_is_shown),
		TEST(a_listing_may_be_closed_while_the_next_piece_is_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
