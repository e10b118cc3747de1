/* The tools people move data with: what they put in comes out the same, byte for byte and attribute
 * for attribute, also after a remount. */
#include "mount/mount.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Prints one line for each thing below $1: path, type, mode, owner, size (but of directories),
 * mtime to the nanosecond and link target; then all attributes but those of cubby. */
#define DESCRIBE                                                                                   \
	"describe() { (cd ${1:?} && find . \\( -type d -printf '%%P %%y %%m %%U %%G %%T@\n' \\) "  \
	"-o -printf '%%P %%y %%m %%U %%G %%s %%T@ %%l\n' | sort; find . -print0 | sort -z | "      \
	"xargs -0 getfattr -h -d -m '^user\\.' 2> /dev/null | "                                    \
	"awk '/^# file/ { file = $0; next } /=/ && !/^user\\.cubby\\./ { print file, $0 }'); }; "

/* A tree of at least 5 000 files, made once, for all tests: HEADERS= of the system's headers
 * (1500), a repository with history, and everything that tends to get lost. */
static char tree[512];

static void fill_tree(void)
{
	run("mkdir %s/include && cd /usr/include && find . -type f -size -128k | sort | "
	    "head -n ${HEADERS:-1500} | tar -cf - -T - | tar -C %s/include -xf -",
	    tree, tree);
	run("mkdir %s/many && cd %s/many && "
	    "for d in $(seq 40); do mkdir $d; for f in $(seq 100); do echo $d $f > $d/$f; done; "
	    "done",
	    tree, tree);
	run("mkdir %s/odd && cd %s/odd && "
	    "touch empty 'two words' $'new\nline' Äpfel-梨 .hidden -- -dash && "
	    "ln -s empty link && ln -s nowhere dangling && mkdir -p deep/er/and/deeper && "
	    "head -c 1000000 /dev/urandom > big && truncate -s 3M holes && "
	    "echo '#!/bin/sh' > script && chmod 4755 script && chmod 1777 deep && chmod 000 empty "
	    "&& "
	    "setfattr -n user.colour -v green script && setfattr -n user.bytes -v 0x00ff0a script "
	    "&& "
	    "setfattr -n user.note -v table deep && "
	    "touch -d '1969-12-31 23:00:00.000000001 UTC' .hidden && "
	    "touch -d '2101-02-03 04:05:06.123456789 UTC' big",
	    tree, tree);
	run("git init -q -b main %s/repo && cd %s/repo && git config user.name T && "
	    "git config user.email t@example.org && git config gc.auto 0 && "
	    "for i in $(seq 300); do echo $i > f$((i %% 7)); git add -A && git commit -q -m "
	    "\"$i\"; done",
	    tree, tree);
	assert_true(atoi(run("find %s -type f | wc -l", tree)) >= 5000);
	run(DESCRIBE "describe %s > %s.all", tree, tree);
}

static int tree_begin(void **state)
{
	const char *scratch = getenv("TMPDIR");

	(void)state;
	snprintf(tree, sizeof(tree), "%s/cubby-tree.XXXXXX", scratch ? scratch : "/var/tmp");
	if (!mkdtemp(tree))
		return -1;
	fill_tree();
	return 0;
}

static int tree_end(void **state)
{
	(void)state;
	return sh("rm -rf %s %s.all", tree, tree);
}

/* Is `copy` the same as the tree? */
static void assert_same_tree(const char *copy)
{
	run("diff -r --no-dereference %s %s", tree, copy);
	run(DESCRIBE "describe %s > %s/copy.all; diff %s.all %s/copy.all", copy, base_path(), tree,
	    base_path());
}

static void assert_same_tree_now_and_after_a_remount(const char *copy)
{
	assert_same_tree(copy);
	mount_again();
	assert_same_tree(copy);
	run("git -C %s/repo fsck --full --strict && [ -z \"$(GIT_OPTIONAL_LOCKS=0 git -C %s/repo "
	    "status --porcelain)\" ]",
	    copy, copy);
	assert_string_equal(run("git -C %s/repo rev-list --count HEAD", copy), "300");
}

static void cp_brings_a_tree_in_and_out_unchanged(void **state)
{
	(void)state;
	run("cp -a %s copy", tree);
	assert_same_tree_now_and_after_a_remount("copy");
	run("cp -a copy ../back");
	assert_same_tree("../back");
}

static void tar_brings_a_tree_in_and_out_unchanged(void **state)
{
	(void)state;
	run("mkdir copy && tar --xattrs --xattrs-include='user.*' -C %s -cf - . | "
	    "tar --xattrs --xattrs-include='user.*' -C copy -xpf -",
	    tree);
	assert_same_tree_now_and_after_a_remount("copy");
	run("mkdir ../back && tar --xattrs --xattrs-include='user.*' "
	    "--xattrs-exclude='user.cubby.*' "
	    "-C copy -cf - . | tar --xattrs --xattrs-include='user.*' -C ../back -xpf -");
	assert_same_tree("../back");
}

static void rsync_brings_a_tree_in_unchanged_and_then_has_nothing_to_do(void **state)
{
	(void)state;
	run("rsync -aX %s/ copy/", tree);
	assert_same_tree_now_and_after_a_remount("copy");
	run("rsync -aX copy/ twin/");
	assert_same_tree("twin");
	assert_string_equal(run("rsync -aXi --delete copy/ twin/"), "");
	run("echo changed > copy/many/1/1");
	assert_string_equal(run("rsync -aXi --delete copy/ twin/ | cut -c1-2,12-"), ">f many/1/1");
}

/* Versions and expiries are attributes like others to these tools. */
static void copies_within_the_mount_keep_versions_and_expiries(void **state)
{
	const char *const tools[] = {
		"cp -a d copy",
		"cp -r --preserve=xattr d copy",
		"rsync -aX d/ copy/",
		("mkdir copy && tar --xattrs --xattrs-include='user.*' -C d -cf - . | "
		 "tar --xattrs --xattrs-include='user.*' -C copy -xf -"),
	};

	(void)state;
	only_cubby();
	run("mkdir d; for v in 1 2 3 4 5; do echo $v > d/five; done; echo 1 > d/one; "
	    ": > d/empty; : > d/empty; "
	    "echo 1 > d/due; setfattr -n user.cubby.expires -v 4102444800.5 d/due");
	for (size_t i = 0; i < sizeof(tools) / sizeof(*tools); i++) {
		run("%s", tools[i]);
		assert_int_equal(version("copy/five"), 5);
		assert_int_equal(version("copy/one"), 1);
		assert_int_equal(version("copy/empty"), 2);
		assert_string_equal(run("getfattr --only-values -n user.cubby.expires copy/due"),
				    run("getfattr --only-values -n user.cubby.expires d/due"));
		/* By content: not all of them keep the times. */
		assert_string_equal(run("rsync -aXci --no-times d/ copy/ | grep -v '/$'; true"),
				    "");
		run("rm -r copy");
	}
}

/* Of a backup's keys some have expired since: they must neither spoil the rest, nor live on. */
static void a_key_that_has_expired_since_does_not_spoil_a_restore(void **state)
{
	static const char *const tools[] = {
		"cp -a $from/. copy",
		"rsync -aX $from/ copy/",
		("mkdir copy && tar --xattrs --xattrs-include='user.*' -C $from -cf - . | "
		 "tar --xattrs --xattrs-include='user.*' -C copy -xf -"),
	};

	(void)state;
	only_cubby();
	if (sh("mkdir %s/from && cd %s/from && echo 1 > due && echo 2 > stays && "
	       "setfattr -n user.cubby.expires -v 1700000000 due", base_path(), base_path()) != 0)
		skip();
	for (size_t i = 0; i < sizeof(tools) / sizeof(*tools); i++) {
		run("from=%s/from; %s", base_path(), tools[i]);
		run("while test -e copy/due; do sleep .1; done; test $(cat copy/stays) = 2; "
		    "rm -r copy");
	}
}

static void git_works_on_the_mount(void **state)
{
	(void)state;
	run("git clone -q --no-local %s/repo clone && git -C clone fsck --full --strict", tree);
	run("cd clone && git config user.name T && git config user.email t@example.org && "
	    "git checkout -q -b side && for i in $(seq 30); do echo s$i > s$i; git add -A; "
	    "git commit -q -m s$i; done && git checkout -q main && echo m > m && git add m && "
	    "git commit -q -m m && git merge -q -m merged side && git gc -q && git fsck --full "
	    "--strict");
	assert_string_equal(run("git -C clone rev-list --count HEAD"), "332");
	mount_again();
	run("git -C clone fsck --full --strict && git clone -q clone twin && diff -r -x .git clone "
	    "twin");
	assert_string_equal(run("git -C clone status --porcelain"), "");
}

/* Some thousand transactions, then half as many again that are rolled back or undone by another
 * process. */
static void sqlite_works_with(const char *journal)
{
	run("sqlite3 db 'PRAGMA journal_mode=%s; CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT);'",
	    journal);
	run("(for i in $(seq 2500); do echo \"INSERT INTO t VALUES($i, hex(randomblob(50)));\"; "
	    "[ $((i %% 5)) = 0 ] && echo \"BEGIN; DELETE FROM t; ROLLBACK;\"; done) | sqlite3 "
	    "-bail db");
	run("for i in $(seq 4); do (for j in $(seq 100); do "
	    "echo \"UPDATE t SET v = v || 'x' WHERE k = $j;\"; done | sqlite3 -bail -cmd '.timeout "
	    "60000' db) "
	    "& done; wait");
	assert_string_equal(
		run("sqlite3 db 'PRAGMA integrity_check; SELECT count(*), sum(length(v)) FROM t;'"),
		"ok\n2500|250400");
	mount_again();
	assert_string_equal(
		run("sqlite3 db 'PRAGMA integrity_check; SELECT count(*), sum(length(v)) FROM t;'"),
		"ok\n2500|250400");
}

static void sqlite_works_with_a_rollback_journal(void **state)
{
	(void)state;
	sqlite_works_with("DELETE");
}

static void sqlite_works_with_a_write_ahead_log(void **state)
{
	(void)state;
	sqlite_works_with("WAL");
}

/* A database being written when the daemon dies recovers by its own journal: fsync tells the truth.
 */
static void a_database_outlives_the_daemon(void **state)
{
	long acknowledged, found;

	(void)state;
	only_cubby();
	run("sqlite3 db 'CREATE TABLE t(k INTEGER PRIMARY KEY);'");
	/* A second of work; on a busy machine it may take longer until there is any. */
	run("v() { getfattr --only-values -n user.cubby.version db; }; v=$(v); "
	    "(for i in $(seq 100000); do echo \"INSERT INTO t VALUES($i); SELECT $i;\"; done | "
	    "sqlite3 -bail db > %s/acknowledged 2>&1) & sleep 1; "
	    "until (( $(v) >= v + 10 )); do sleep 0.1; done; kill -9 %d; wait; true",
	    base_path(), (int)daemon_pid());
	mount_ended();
	run("cd /; umount -l %s", point_path());
	assert_int_equal(chdir(base_path()), 0);
	mount_start(NULL);
	acknowledged = atol(run("grep -Ex '[0-9]+' %s/acknowledged | tail -n 1", base_path()));
	assert_string_equal(run("sqlite3 db 'PRAGMA integrity_check'"), "ok");
	found = atol(run("sqlite3 db 'SELECT count(*) FROM t'"));
	print_message("%ld transactions acknowledged, %ld found\n", acknowledged, found);
	assert_true(acknowledged > 0);
	assert_in_range(found, acknowledged, acknowledged + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mount_begin, mount_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(cp_brings_a_tree_in_and_out_unchanged),
		TEST(tar_brings_a_tree_in_and_out_unchanged),
		TEST(rsync_brings_a_tree_in_unchanged_and_then_has_nothing_to_do),
		TEST(copies_within_the_mount_keep_versions_and_expiries),
		TEST(a_key_that_has_expired_since_does_not_spoil_a_restore),
		TEST(git_works_on_the_mount),
		TEST(sqlite_works_with_a_rollback_journal),
		TEST(sqlite_works_with_a_write_ahead_log),
		TEST(a_database_outlives_the_daemon),
	};

	return cmocka_run_group_tests(tests, tree_begin, tree_end);
}
